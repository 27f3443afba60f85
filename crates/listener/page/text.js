/**
 * Chooses the language and puts sentences where they belong. The sentences of a language are in text-XX.js: the listener
 * makes languages.js from what such files there are.
 *
 * An element with `data-text="key"` shows that sentence, one with `data-label="key"` is named by it for screen readers, one with
 * `data-hint` shows it while it is empty, one with `data-title` when it is pointed at;
 * everything else asks `say`. Only textContent and attributes are ever set.
 */

import codes from './languages.js';
import { recall, remember } from './settings.js';

const LANGUAGES = Object.fromEntries(await Promise.all(codes.map(async (code) => (
  [code, (await import(`./text-${code}.js`)).default]))));

let language = choose();

/**
 * @param {string} key
 * @param {Record<string, string | number>} [values] for the `{x}` in the sentence
 * @returns {string}
 */
export function say(key, values = {}) {
  const sentence = LANGUAGES[language][key] ?? key;
  return sentence.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''));
}

/** Sets every marked element, and the document's language. */
export function translatePage() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll('[data-text]')) element.textContent = say(element.dataset.text);
  for (const element of document.querySelectorAll('[data-label]')) element.setAttribute('aria-label', say(element.dataset.label));
  for (const element of document.querySelectorAll('[data-hint]')) element.placeholder = say(element.dataset.hint);
  for (const element of document.querySelectorAll('[data-title]')) element.title = say(element.dataset.title);
}

/** @returns {{code: string, name: string}} the language that the toggle offers: the next one */
export function otherLanguage() {
  const code = codes[(codes.indexOf(language) + 1) % codes.length];
  return { code, name: LANGUAGES[code].language };
}

/** Takes the other language and keeps it. */
export function switchLanguage() {
  language = otherLanguage().code;
  remember('language', language);
  translatePage();
}

function choose() {
  const kept = recall('language');
  const wished = [kept, ...(navigator.languages ?? [])].map((tag) => String(tag).slice(0, 2).toLowerCase());
  return wished.find((tag) => Object.hasOwn(LANGUAGES, tag)) ?? 'en';
}
