/**
 * Finds the web addresses in a text. The texts come from other participants, who may want to deceive the reader. So an address becomes a link only if the browser and the reader
 * understand it in the same way, and a link shows its whole address.
 */

/**
 * An address ends at a space, a control character, a quotation mark or bracket that addresses don't contain, and at characters that
 * are invisible or change the direction of writing, with which the shown address could differ from the real one.
 */
const ADDRESS = /\bhttps?:\/\/[^\s\p{C}\p{Zl}\p{Zp}<>"`{}|\\^\p{Default_Ignorable_Code_Point}]+/giu;
/**
 * Matches an address whose host has only characters of host names. Other characters can look like a slash or be invisible, so that a reader takes a
 * part of the host for the whole host.
 */
const PLAIN_HOST = /^https?:\/\/(\[[0-9a-f:.]+\]|[\p{L}\p{M}\p{N}._-]+)(:\d+)?(?=[/?#]|$)/iu;
/** Characters at the end that belong to the sentence. */
const SENTENCE_END = /[.,;:!?'’»›…*_~]+$/u;

/**
 * @param {string} text
 * @returns {(string | HTMLAnchorElement)[]} the text, with its addresses as links
 */
export function withLinks(text) {
  const parts = [];
  let end = 0;
  for (const { index, 0: found } of text.matchAll(ADDRESS)) {
    const address = trimmed(found);
    if (!isPlain(address)) continue;
    parts.push(text.slice(end, index), link(address));
    end = index + address.length;
  }
  return [...parts, text.slice(end)].filter((part) => part !== '');
}

/** Removes the punctuation of the sentence around an address, and a closing bracket that was opened before the address. */
function trimmed(found) {
  let address = found;
  for (;;) {
    const shorter = address.replace(SENTENCE_END, '');
    const last = shorter.at(-1);
    const open = { ')': '(', ']': '[' }[last];
    const isOpenedBefore = open && shorter.split(last).length > shorter.split(open).length;
    const next = isOpenedBefore ? shorter.slice(0, -1) : shorter;
    if (next === address) return address;
    address = next;
  }
}

/** Returns whether an address is valid, and has no user name, which a reader could take for the host. */
function isPlain(address) {
  if (!PLAIN_HOST.test(address) || !URL.canParse(address)) return false;
  const { protocol, username, password, hostname } = new URL(address);
  return ['http:', 'https:'].includes(protocol) && hostname !== '' && username === '' && password === '';
}

function link(address) {
  const element = document.createElement('a');
  element.href = address;
  element.target = '_blank';
  // The opened page gets neither a reference to this page nor this page's address.
  element.rel = 'noopener noreferrer';
  element.textContent = address;
  // A character before the link that changes the direction of writing must not change the link.
  element.dir = 'ltr';
  return element;
}
