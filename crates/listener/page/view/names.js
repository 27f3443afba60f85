/** Derives initials, a colour and the form for searching from a display or login name. Pure. */

/** Number of colours for participants. */
const TONES = 6;
/** A word that doesn't fit into one line below a seat in the usual size. Lines break after hyphens. */
const LONG_WORD = /[^\s-]{10}/u;

/**
 * @param {string} display
 * @returns {string} first letters of the first and the last word; if there are no letters, the first character, for example an emoji
 */
export function initials(display) {
  const words = display.match(/[\p{L}\p{N}][\p{L}\p{M}\p{N}]*/gu) ?? [];
  const ends = words.length > 1 ? [words[0], words.at(-1)] : words;
  const letters = ends.map((word) => [...word][0]).join('').toLocaleUpperCase();
  return letters || firstCharacter(display.trim());
}

/** @param {string} display; @returns {boolean} whether the name needs a smaller font below a seat */
export function hasLongWord(display) {
  return LONG_WORD.test(display);
}

/** @param {string} text; @returns {string} without case and accents, so that a search for `zoe` finds Zoé */
export function plain(text) {
  return text.normalize('NFKD').replace(/\p{M}/gu, '').toLocaleLowerCase().trim();
}

/** @param {string} name login name; @returns {number} number of a colour, the same on all pages */
export function tone(name) {
  return [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 997, 7) % TONES;
}

/** Returns the first character as a user sees it: an emoji may consist of several code points. */
function firstCharacter(text) {
  // Firefox before 125 has no Intl.Segmenter.
  if (!Intl.Segmenter) return [...text][0] ?? '';
  const [first] = new Intl.Segmenter().segment(text);
  return first?.segment ?? '';
}
