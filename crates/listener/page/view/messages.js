/**
 * The panel of messages: a list of the latest messages and an input line. Messages are kept in this page's memory only. Names and texts are
 * user input and go to textContent only.
 */

import { sendMessage } from '../room/requests.js';
import { say } from '../text/text.js';

/** Maximum number of messages in the list. */
const MAX_MESSAGES = 100;
/** Maximum length of a message. */
const MAX_CHARS = 500;

/**
 * @typedef {{panel: HTMLElement, list: HTMLElement, form: HTMLFormElement, line: HTMLInputElement, toggle: HTMLButtonElement,
 *   badge: HTMLElement, trouble: HTMLElement, close: HTMLButtonElement, empty: HTMLElement}} Parts
 */

/** The panel of messages. */
export class Messages {
  #parts;
  #names;
  #unread = 0;
  #cleared = 0;

  /**
   * @param {Parts} parts
   * @param {{displayName: (name: string) => string, mutedForMe: Set<string>}} names
   */
  constructor(parts, names) {
    this.#parts = parts;
    this.#names = names;
    parts.line.maxLength = MAX_CHARS;
    parts.toggle.addEventListener('click', () => this.open(parts.panel.hidden));
    parts.close.addEventListener('click', () => this.open(false));
    parts.panel.addEventListener('keydown', ({ key }) => { if (key === 'Escape') this.open(false); });
    parts.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#send();
    });
  }

  /** @param {boolean} open whether the panel is shown */
  open(open) {
    const { panel, toggle, line } = this.#parts;
    const hadFocus = panel.contains(document.activeElement);
    panel.hidden = !open;
    document.body.classList.toggle('writing', open);
    toggle.setAttribute('aria-expanded', String(open));
    if (open) {
      this.#count(0);
      this.#scroll();
      line.focus();
    } else if (hadFocus) {
      toggle.focus();
    }
  }

  /** @param {{from: string, text: string}} message */
  add({ from, text }) {
    if (this.#names.mutedForMe.has(from)) return;
    const { list, panel, empty } = this.#parts;
    const item = make('li', 'message');
    const head = make('p', 'message-head');
    const time = make('time', '', new Date().toLocaleTimeString(document.documentElement.lang, { hour: '2-digit', minute: '2-digit' }));
    head.append(make('bdi', 'message-from', this.#names.displayName(from)), time);
    item.append(head, make('p', 'message-text', text));
    list.append(item);
    while (list.children.length > MAX_MESSAGES) list.firstElementChild.remove();
    empty.hidden = true;
    if (panel.hidden) this.#count(this.#unread + 1);
    else this.#scroll();
  }

  /** Updates texts after the language changed. */
  translate() {
    this.#count(this.#unread);
  }

  /** Removes all messages and closes the panel. */
  clear() {
    this.#cleared += 1;
    const { list, line, trouble, empty } = this.#parts;
    list.replaceChildren();
    line.value = '';
    trouble.textContent = '';
    empty.hidden = false;
    this.open(false);
    this.#count(0);
  }

  async #send() {
    const { line, trouble } = this.#parts;
    // Pasted text may contain line breaks.
    const text = [...line.value.replace(/[\p{Cc}\u2028\u2029]+/gu, ' ').trim()].slice(0, MAX_CHARS).join('');
    if (!text) return;
    line.value = '';
    const cleared = this.#cleared;
    const sent = await sendMessage(text);
    if (cleared !== this.#cleared) return;
    trouble.textContent = sent ? '' : say('notSent');
    if (!sent && !line.value) line.value = text;
  }

  #count(unread) {
    this.#unread = unread;
    const { badge, toggle } = this.#parts;
    badge.textContent = unread === 0 ? '' : String(Math.min(unread, 99));
    toggle.setAttribute('aria-label', unread === 0 ? say('messages') : say('messagesNew', { count: unread }));
  }

  #scroll() {
    const { list } = this.#parts;
    list.scrollTop = list.scrollHeight;
  }
}

function make(tag, className, text = '') {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}
