/** Plurals, and the regional variant of a language. Pure. */

/**
 * Returns the form of a text for a count.
 * @param {string | Record<string, string>} text a text, or one text for each form that Intl.PluralRules distinguishes: `one`, `other`
 * @param {string} language
 * @param {number} count
 * @returns {string}
 */
export function form(text, language, count) {
  return typeof text === 'string' ? text : text[new Intl.PluralRules(language).select(count)] ?? text.other;
}

/**
 * Chooses the locale of times.
 * @param {string} language of the page
 * @param {readonly string[]} wished the browser's languages
 * @returns {string} the first wished variant of the language, for example `en-GB`, whose times have 24 hours; else the language
 */
export function regional(language, wished) {
  return wished.find((tag) => tag.split('-')[0].toLowerCase() === language) ?? language;
}
