import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { form, regional } from '../page/text/locale.js';

const folder = new URL('../page/', import.meta.url);
const names = readdirSync(folder, { recursive: true });
const read = (name) => readFileSync(new URL(name, folder), 'utf8');
const codes = names.map((name) => name.match(/text-([^/\\]+)\.js$/)?.[1]).filter(Boolean);
const languages = new Map(await Promise.all(codes.map(async (code) => [code, (await import(`../page/text/text-${code}.js`)).default])));
const english = languages.get('en');
const scripts = names.filter((name) => name.endsWith('.js') && !/text-[^/\\]+\.js$/.test(name)).map(read).join('\n');
/** The plural forms of a text, or the only one. */
const formsOf = (text) => (typeof text === 'string' ? [text] : Object.values(text));
const keysOfMarkup = [...read('index.html').matchAll(/data-(?:text|label|hint|title)="(\w+)"/g)].map(([, key]) => key);

/** Keys that the markup or a script names. */
function keysInUse() {
  const quoted = [...scripts.matchAll(/['`](\w+)['`]/g)].map(([, key]) => key).filter((key) => Object.hasOwn(english, key));
  return new Set([...keysOfMarkup, ...quoted]);
}

test('every language has the same texts with the same placeholders', () => {
  assert.ok(languages.size >= 2);
  for (const [code, sentences] of languages) {
    assert.deepEqual(Object.keys(sentences).sort(), Object.keys(english).sort(), code);
    for (const [key, sentence] of Object.entries(sentences)) {
      const places = (text) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();
      if (typeof sentence !== 'string') assert.deepEqual(Object.keys(sentence), ['one', 'other'], `${code}: ${key}`);
      for (const one of formsOf(sentence)) {
        assert.ok(typeof one === 'string' && one.trim() !== '', `${code}: ${key} is empty`);
        assert.deepEqual(places(one), places(formsOf(english[key])[0]), `${code}: ${key}`);
      }
    }
  }
});

test('French texts have no-break spaces beside punctuation', () => {
  const wrong = Object.values(languages.get('fr')).flatMap(formsOf).filter((text) => / [:;?!»]|« /.test(text));
  assert.deepEqual(wrong, []);
});

test('the count chooses the plural of each language', () => {
  const said = (code, key, count) => form(languages.get(code)[key], code, count).replace('{count}', String(count));
  assert.deepEqual([0, 1, 2].map((count) => said('en', 'hereCount', count)), ['0 people here', '1 person here', '2 people here']);
  assert.deepEqual([0, 1, 2].map((count) => said('fr', 'hereCount', count)), ['0 personne présente', '1 personne présente', '2 personnes présentes']);
  assert.equal(form('Join', 'en', undefined), 'Join');
});

test('times are in the language of the page, in the variant that the browser prefers', () => {
  assert.equal(regional('en', ['fr-CA', 'en-GB', 'en-US']), 'en-GB');
  assert.equal(regional('fr', ['en-GB']), 'fr');
});

test('every text that markup and scripts ask for exists', () => {
  for (const key of keysOfMarkup) assert.ok(Object.hasOwn(english, key), key);
  for (const [, key] of scripts.matchAll(/\bsay\('(\w+)'/g)) assert.ok(Object.hasOwn(english, key), key);
});

test('every text is used', () => {
  const used = keysInUse();
  // The page's scripts compose some keys of texts: from a prefix and the name of a state, or from the key of a title and 'Hint'.
  const made = (key) => /^(mic|uplink|mode|advice)[A-Z]/.test(key) || (key.endsWith('Hint') && used.has(key.slice(0, -4)));
  const idle = Object.keys(english).filter((key) => !used.has(key) && !made(key));
  assert.deepEqual(idle, []);
});
