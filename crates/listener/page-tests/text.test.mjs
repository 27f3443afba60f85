import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';

const folder = new URL('../page/', import.meta.url);
const names = readdirSync(folder);
const read = (name) => readFileSync(new URL(name, folder), 'utf8');
const codes = names.map((name) => name.match(/^text-(.+)\.js$/)?.[1]).filter(Boolean);
const languages = new Map(await Promise.all(codes.map(async (code) => [code, (await import(`../page/text-${code}.js`)).default])));
const english = languages.get('en');

/** Every key that the page names by itself: in marks of the markup and in quotes within `say(…)` and the like. */
function keysInUse() {
  const used = new Set();
  for (const [, key] of read('index.html').matchAll(/data-(?:text|label|hint)="(\w+)"/g)) used.add(key);
  const scripts = names.filter((name) => name.endsWith('.js') && !name.startsWith('text-'));
  for (const [, key] of scripts.map(read).join('\n').matchAll(/['`](\w+)['`]/g)) if (Object.hasOwn(english, key)) used.add(key);
  return used;
}

test('every language has every sentence, with the same places to fill, and no other', () => {
  assert.ok(languages.size >= 2);
  for (const [code, sentences] of languages) {
    assert.deepEqual(Object.keys(sentences).sort(), Object.keys(english).sort(), code);
    for (const [key, sentence] of Object.entries(sentences)) {
      const places = (text) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort();
      assert.ok(typeof sentence === 'string' && sentence.trim() !== '', `${code}: ${key} is empty`);
      assert.deepEqual(places(sentence), places(english[key]), `${code}: ${key}`);
    }
  }
});

test('every sentence that the markup and the modules ask for is there', () => {
  for (const [, key] of read('index.html').matchAll(/data-(?:text|label|hint)="(\w+)"/g)) assert.ok(Object.hasOwn(english, key), key);
  const scripts = names.filter((name) => name.endsWith('.js') && !name.startsWith('text-')).map(read).join('\n');
  for (const [, key] of scripts.matchAll(/\bsay\('(\w+)'/g)) assert.ok(Object.hasOwn(english, key), key);
});

test('no sentence is there that nobody says', () => {
  const used = keysInUse();
  // Made of a state's name: microphone and uplink, and the hint beside a title.
  const made = (key) => /^(mic|uplink|mode|advice)[A-Z]/.test(key) || (key.endsWith('Hint') && used.has(key.slice(0, -4)));
  const idle = Object.keys(english).filter((key) => !used.has(key) && !made(key));
  assert.deepEqual(idle, []);
});
