import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasLongWord, initials, plain, tone } from '../page/view/names.js';

test('initials are the first letters of the first and the last word, or the first emoji', () => {
  const shown = {
    'Alice': 'A', 'Jean-Christophe de la Tour': 'JT', 'bob (he/him)': 'BH', 'Zoé': 'Z', 'محمد علي': 'مع', '7 of 9': '79',
    '🎉🎊': '🎉', '👩‍👩‍👧 ❤️': '👩‍👩‍👧', '🇫🇷🇩🇪': '🇫🇷', '★ ★': '★', '🎉 Ann': 'A',
  };
  assert.deepEqual(Object.fromEntries(Object.keys(shown).map((name) => [name, initials(name)])), shown);
});

test('a name with a word of ten letters without a hyphen needs a smaller font', () => {
  const names = ['Maximilienne', 'Jean-Christ', 'Donaudampfschiff', 'Anne Sophie Marie', 'Bartholomé'];
  assert.deepEqual(names.filter(hasLongWord), ['Maximilienne', 'Donaudampfschiff', 'Bartholomé']);
});

test('search ignores case and accents, and a colour depends only on the login name', () => {
  assert.equal(plain(' ZOÉ '), 'zoe');
  assert.equal(tone('alice'), tone('alice'));
  assert.ok(Array.from({ length: 100 }, (_, i) => tone(`p${i}`)).every((colour) => colour >= 0 && colour < 6));
});
