/**
 * The panel of messages: a list of the latest messages and an input line. Messages are kept in this page's memory only. Names and texts are
 * user input and are shown as text only.
 */

import { recall, remember } from '../base/storage.js';
import { REACTIONS, isReaction } from '../room/reactions.js';
import { sendMessage, sendReaction } from '../room/requests.js';
import { ReceivedTexts, TextQueue, newId } from '../room/texts.js';
import { locale, say } from '../text/text.js';
import { withLinks } from './links.js';

/** Maximum number of messages in the list. */
const MAX_MESSAGES = 100;
/** Maximum number of messages while the user reads earlier ones. */
const MAX_WHILE_READING = 500;
/** Maximum length of a message. */
const MAX_CHARS = 500;
/** From this number of characters on, the panel shows how many are left. */
const COUNTED_FROM = 400;
/** Maximum age of a message that counts as just sent. */
const NEW_MS = 60000;
/** Distance to the end of the list, in pixels, from which on the user reads earlier messages. */
const READING_PX = 40;

/**
 * @typedef {{panel: HTMLElement, list: HTMLElement, form: HTMLFormElement, line: HTMLInputElement, toggle: HTMLButtonElement,
 *   badge: HTMLElement, trouble: HTMLElement, close: HTMLButtonElement, empty: HTMLElement, below: HTMLButtonElement,
 *   room: HTMLElement, reactions: HTMLElement}} Parts
 */

/** The panel of messages. */
export class Messages {
  #parts;
  #names;
  #me = { name: '', room: '' };
  #unread = 0;
  #onUnread;
  #onNew;
  #onReaction;
  /** Time in ms since 1970. Messages that were sent before this time count as read. */
  #readMs = Number(recall('readMs') ?? 0);
  #queue = new TextQueue((text, id) => sendMessage(text, id, this.#me.room), (id, state) => this.#showState(id, state));
  #received = new ReceivedTexts();
  /** The items of this page's own texts that wait or have failed, by ID. */
  #own = new Map();

  /**
   * @param {Parts} parts
   * @param {{displayName: (name: string) => string, isMutedForMe: (name: string) => boolean}} names
   * @param {{onUnread: (count: number) => void, onNew: (from: string, text: string) => void,
   *   onReaction: (name: string, text: string) => void}} handlers onNew: another participant's message
   *   has just been sent, and the user doesn't see it
   */
  constructor(parts, names, { onUnread, onNew, onReaction }) {
    this.#parts = parts;
    this.#names = names;
    this.#onUnread = onUnread;
    this.#onNew = onNew;
    this.#onReaction = onReaction;
    parts.line.addEventListener('input', () => this.#showRoom());
    parts.list.addEventListener('scroll', () => this.#readIfSeen());
    document.addEventListener('visibilitychange', () => this.#readIfSeen());
    parts.below.addEventListener('click', () => { this.#scroll(); parts.list.focus(); });
    parts.toggle.addEventListener('click', () => this.open(parts.panel.hidden));
    parts.close.addEventListener('click', () => this.open(false));
    parts.panel.addEventListener('keydown', ({ key }) => { if (key === 'Escape') this.open(false); });
    parts.reactions.append(...REACTIONS.map((text) => this.#reactionButton(text)));
    parts.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#label();
  }

  /** @param {boolean} open whether the panel is shown */
  open(open) {
    const { panel, toggle, line } = this.#parts;
    const hadFocus = panel.contains(document.activeElement);
    panel.hidden = !open;
    document.body.classList.toggle('writing', open);
    toggle.setAttribute('aria-expanded', String(open));
    this.#label();
    if (open) {
      this.#scroll();
      line.focus();
    } else if (hadFocus) {
      toggle.focus();
    }
  }

  /** @param {{name: string, room: string}} me the participant of this page, and the room in which texts are written from now on */
  setMe(me) {
    // Texts that were written for another room are not sent to this one.
    if (this.#me.room && me.room !== this.#me.room) this.#failAll();
    this.#me = me;
  }

  /** Sends waiting texts at once, because the connection is back. */
  wake() {
    this.#queue.wake();
  }

  /** @param {import('../stream/records.js').Text[]} texts that have arrived */
  add(texts) {
    for (const { from, text, id, ageMs } of texts) {
      if (isReaction({ text, id }) && !this.#names.isMutedForMe(from)) this.#onReaction(from, text);
      if (isReaction({ text, id })) continue;
      if (from === this.#me.name && this.#own.has(id)) this.#arrived(id);
      const isShown = this.#received.isNew(from, id) && !this.#names.isMutedForMe(from);
      if (!isShown) continue;
      const name = this.#names.displayName(from);
      this.#show(makeItem(name, text, Date.now() - ageMs), from === this.#me.name);
      if (ageMs < NEW_MS && from !== this.#me.name && !this.#isSeen) this.#onNew(name, text);
    }
  }

  /** Updates texts after the language changed. */
  translate() {
    this.#count(this.#unread);
    this.#showRoom();
    for (const item of this.#parts.list.children) setTime(item, Number(item.dataset.atMs));
    for (const [id, { state }] of this.#own) this.#showState(id, state);
  }

  /** Removes all messages, also those that wait, and closes the panel. */
  clear() {
    const { list, line, empty } = this.#parts;
    this.#queue.clear();
    this.#received.clear();
    this.#own.clear();
    this.#me = { name: '', room: '' };
    list.replaceChildren();
    line.value = '';
    this.#showRoom();
    this.#setTrouble('');
    empty.hidden = false;
    this.open(false);
    this.#count(0);
  }

  #send() {
    const { line } = this.#parts;
    const text = textOf(line);
    if (!text) return;
    const trouble = left(text) < 0 ? 'tooLong' : this.#troubleOfQueue();
    this.#setTrouble(trouble);
    if (trouble) return;
    line.value = '';
    this.#showRoom();
    const id = newId();
    const item = makeItem(this.#names.displayName(this.#me.name), text, Infinity);
    this.#own.set(id, { item, text, state: 'sending' });
    this.#show(item, true);
    this.#queue.add(text, id);
    this.#scroll();
  }

  /** Handles a text of this page that has arrived in the stream: the listener accepted it, even if the answer was lost. */
  #arrived(id) {
    this.#queue.remove(id);
    this.#showState(id, 'sent');
  }

  #showState(id, state) {
    const own = this.#own.get(id);
    if (!own) return;
    const isNew = own.state !== state;
    own.state = state;
    const { item, text } = own;
    const status = item.querySelector('.message-status') ?? item.appendChild(make('p', 'message-status'));
    item.dataset.state = state;
    if (state === 'sent') {
      setTime(item, Date.now());
      status.remove();
      this.#own.delete(id);
      this.#received.isNew(this.#me.name, id);
      return;
    }
    // The panel's live region tells a screen reader of the failure.
    if (isNew) this.#setTrouble(state === 'failed' ? 'notSent' : '');
    status.ariaHidden = String(state === 'sending');
    status.replaceChildren(say(state === 'failed' ? 'notSent' : 'sending'));
    if (state === 'failed') status.append(' ', this.#retryButton(id, text));
  }

  #troubleOfQueue() {
    return this.#queue.isFull ? 'notYetSent' : '';
  }

  /** Shows a text below the messages. `translatePage` translates it when the language changes. */
  #setTrouble(key) {
    const { trouble } = this.#parts;
    trouble.textContent = key && say(key);
    if (key) trouble.dataset.text = key;
    else delete trouble.dataset.text;
  }

  #retryButton(id, text) {
    const button = make('button', 'plain', say('sendAgain'));
    button.type = 'button';
    button.addEventListener('click', () => {
      const trouble = this.#troubleOfQueue();
      this.#setTrouble(trouble);
      if (trouble) return;
      this.#queue.add(text, id);
      this.#parts.line.focus();
    });
    return button;
  }

  #reactionButton(text) {
    const button = make('button', 'reaction-button', text);
    button.type = 'button';
    button.addEventListener('click', () => sendReaction(text, this.#me.room));
    return button;
  }

  #failAll() {
    this.#queue.clear();
    for (const id of this.#own.keys()) this.#showState(id, 'failed');
  }

  /** Adds an item before the items with a later time. A text by this page's participant is never unread, even if another page has sent it. */
  #show(item, isOwn) {
    const { list, empty } = this.#parts;
    const stays = this.#isReading;
    let next = null;
    for (let last = list.lastElementChild; last && Number(last.dataset.atMs) > Number(item.dataset.atMs); last = last.previousElementSibling) next = last;
    list.insertBefore(item, next);
    // While the user reads earlier messages, keep more of them: after a removal the list would move.
    const most = stays ? MAX_WHILE_READING : MAX_MESSAGES;
    while (list.children.length > most) list.firstElementChild.remove();
    empty.hidden = true;
    if (!stays) list.scrollTop = list.scrollHeight;
    if (this.#isSeen) this.#noteRead();
    else if (!isOwn && Number(item.dataset.atMs) > this.#readMs) this.#count(this.#unread + 1);
  }

  /** Stores that the messages up to now are read. So they count as read also after a reload of the page, when the listener sends them again. */
  #noteRead() {
    this.#readMs = Date.now();
    remember('readMs', String(this.#readMs));
    if (this.#unread > 0) this.#count(0);
  }

  /** Whether the user has scrolled up to earlier messages. */
  get #isReading() {
    const { list, panel } = this.#parts;
    return !panel.hidden && list.scrollHeight - list.scrollTop - list.clientHeight > READING_PX;
  }

  /** Whether the user sees the end of the list. */
  get #isSeen() {
    return !this.#parts.panel.hidden && !document.hidden && !this.#isReading;
  }

  #readIfSeen() {
    if (this.#unread > 0 && this.#isSeen) this.#noteRead();
  }

  #count(unread) {
    this.#unread = unread;
    const { badge, panel, below } = this.#parts;
    badge.textContent = unread === 0 ? '' : String(Math.min(unread, 99));
    this.#label();
    below.hidden = unread === 0 || panel.hidden;
    below.textContent = say('messagesBelow');
    this.#onUnread(unread);
  }

  /** Sets name and tooltip of the button that opens and closes the panel. The name stays the same, because `aria-expanded` tells the state. */
  #label() {
    const { toggle, panel } = this.#parts;
    const name = this.#unread === 0 ? say('messages') : say('messagesNew', { count: this.#unread });
    toggle.setAttribute('aria-label', name);
    toggle.title = panel.hidden ? name : say('hideMessages');
  }

  /** Shows the end of the list. */
  #scroll() {
    const { list } = this.#parts;
    list.scrollTop = list.scrollHeight;
    this.#readIfSeen();
  }

  /** Shows how many characters are left, if they are few. */
  #showRoom() {
    const { line, room } = this.#parts;
    const count = left(textOf(line));
    room.hidden = count > MAX_CHARS - COUNTED_FROM;
    room.dataset.over = String(count < 0);
    room.textContent = count < 0 ? say('charactersOver', { count: -count }) : say('charactersLeft', { count });
  }
}

/** Returns the text of the input line. Pasted text may contain line breaks. */
function textOf(line) {
  return line.value.replace(/[\p{Cc}\u2028\u2029]+/gu, ' ').trim();
}

/** Returns how many characters may still be added to a text, counted as the listener counts them. */
function left(text) {
  return MAX_CHARS - [...text].length;
}

/** @param {number} atMs time at which the text was sent; Infinity for a text that isn't sent yet */
function makeItem(name, text, atMs) {
  const item = make('li', 'message');
  const head = make('p', 'message-head');
  head.append(make('bdi', 'message-from', name), make('time', ''));
  item.append(head, make('p', 'message-text', ...withLinks(text)));
  setTime(item, atMs);
  return item;
}

function setTime(item, atMs) {
  item.dataset.atMs = String(atMs);
  if (Number.isFinite(atMs)) item.querySelector('time').textContent = new Date(atMs).toLocaleTimeString(locale(), { timeStyle: 'short' });
}

/** @param {...(string | HTMLElement)} content never markup: strings become text */
function make(tag, className, ...content) {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...content);
  return element;
}
