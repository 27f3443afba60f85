/**
 * Lets a screen reader read each new message, also while the panel of messages is closed: copies it as plain text to a live region with the
 * role `log`.
 */

import { say } from '../text/text.js';

/** Maximum number of messages that are read one by one if they arrive together. If there are more, only their number is read. */
const READ_TOGETHER = 3;
/** Maximum number of paragraphs in the live region. A screen reader has read the earlier ones. */
const MAX_KEPT = 10;

/**
 * @param {HTMLElement} list of messages
 * @param {HTMLElement} log the live region
 */
export function readMessages(list, log) {
  new MutationObserver((records) => {
    const added = records.flatMap(({ addedNodes }) => [...addedNodes]).filter((node) => node.classList?.contains('message'));
    const texts = added.length > READ_TOGETHER ? [say('messagesNew', { count: added.length })] : added.map(spoken);
    log.append(...texts.map(paragraph));
    while (log.children.length > MAX_KEPT || (list.children.length === 0 && log.children.length > 0)) log.firstElementChild.remove();
  }).observe(list, { childList: true });
}

function spoken(message) {
  const part = (name) => message.querySelector(name)?.textContent ?? '';
  return `${part('.message-from')}: ${part('.message-text')}`;
}

function paragraph(text) {
  const element = document.createElement('p');
  element.textContent = text;
  return element;
}
