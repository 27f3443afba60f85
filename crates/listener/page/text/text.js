/**
 * Folder text/: the page's texts in each language. May import base/.
 *
 * This file chooses the language and sets texts in the markup. text-XX.js holds the texts of a language; the listener generates
 * languages.js from the names of these files. In the markup, `data-text="key"` sets an element's text, `data-label` its name for screen
 * readers, `data-hint` its placeholder, `data-title` its tooltip; scripts call `say`. Texts are never parsed as HTML.
 */

import codes from './languages.js';
import { recall, remember } from '../base/storage.js';
import { form, regional } from './locale.js';

const LANGUAGES = Object.fromEntries(await Promise.all(codes.map(async (code) => (
  [code, (await import(`./text-${code}.js`)).default]))));

let language = choose();

/**
 * @param {string} key
 * @param {Record<string, string | number>} [values] for `{x}` in the text; `count` also chooses the plural
 * @returns {string}
 */
export function say(key, values = {}) {
  const text = form(LANGUAGES[language][key] ?? key, language, values.count);
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''));
}

/** @returns {string} the locale of times and of the order of names: the page's language, in the browser's variant */
export function locale() {
  return regional(language, navigator.languages ?? []);
}

/** Sets the texts of the markup, and the document's language. */
export function translatePage() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll('[data-text]')) element.textContent = say(element.dataset.text);
  for (const element of document.querySelectorAll('[data-label]')) element.setAttribute('aria-label', say(element.dataset.label));
  for (const element of document.querySelectorAll('[data-hint]')) element.placeholder = say(element.dataset.hint);
  for (const element of document.querySelectorAll('[data-title]')) element.title = say(element.dataset.title);
}

/** @returns {{code: string, name: string}} the language to which the button switches */
export function otherLanguage() {
  const code = codes[(codes.indexOf(language) + 1) % codes.length];
  return { code, name: LANGUAGES[code].language };
}

/** Switches to the other language and stores it. */
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
