/**
 * Folder view/: what the user sees and operates. May import base/, audio/, microphone/, room/ and text/.
 *
 * This file shows the states of app.js in the page's elements.
 */

import { otherLanguage, say } from '../text/text.js';
import { Announcer, micKey } from './announcer.js';
import { keepFocus } from './focus.js';
import { readMessages } from './message-log.js';
import { TitleStatus } from './title-status.js';

const byId = (id) => document.getElementById(id);

/** Elements that app.js listens to. */
export const elements = Object.fromEntries(
  ['join', 'mute', 'volume', 'leave', 'language', 'details', 'hand-button', 'hold', 'settings-open', 'test-open', 'volume-2'].map((id) => [id, byId(id)]),
);

/** Elements of participant-list.js. */
export const participantPlaces = {
  list: byId('people'), stage: byId('stage'), away: byId('away'), alone: byId('alone'), search: byId('search'), count: byId('count'),
  noHit: byId('no-hit'),
};

/** Elements of messages.js. */
export const messageParts = {
  panel: byId('messages'), list: byId('message-list'), form: byId('write'), line: byId('message-line'),
  toggle: byId('messages-toggle'), badge: byId('badge'), trouble: byId('message-trouble'), close: byId('messages-close'),
  empty: byId('messages-empty'), below: byId('messages-below'), room: byId('message-room'), reactions: byId('reactions'),
};

const titleStatus = new TitleStatus();
let titleTimer = 0;
let talking = false;
let unread = 0;
const announcer = new Announcer();
let announcerTimer = 0;

keepFocus(mainControl);
readMessages(messageParts.list, byId('message-log'));

/**
 * Shows the screen before and after the room.
 * @param {{title: string, hint?: string, recorded?: string, warning?: string, room?: string, join?: string, troubled?: boolean}} door texts
 */
export function showDoor({ title, hint = '', recorded = '', warning = '', room = '', join = '', troubled = false }) {
  if (document.body.dataset.screen === 'inside') document.querySelector('dialog[open]')?.close();
  document.body.dataset.screen = 'door';
  swap(true);
  byId('door').classList.toggle('troubled', troubled);
  set('door-title', title);
  set('door-hint', hint);
  set('door-room', room);
  set('door-recorded', recorded);
  set('door-warning', warning);
  byId('door-warning').hidden = !warning;
  set('join', join);
  elements.join.hidden = !join;
  elements['test-open'].hidden = !join;
  document.title = room ? `Palabre · ${room}` : 'Palabre';
}

/**
 * Shows the screen of the room.
 * @param {boolean} pushToTalk whether the microphone mode is push to talk; the space bar then must not press the button that has the focus
 */
export function showInside(pushToTalk) {
  document.body.dataset.screen = 'inside';
  swap(false);
  (pushToTalk ? byId('inside') : elements.mute).focus({ preventScroll: true });
}

/**
 * @param {{room: string, recorded?: boolean, connection: 'connecting' | 'live' | 'noSound' | 'unstable' | 'lost' | '', weak?: boolean,
 *   cutOff?: string, microphone: string}} state cutOff: the machines to which the connection is lost
 */
export function showState({ room, recorded = false, connection, weak = false, cutOff = '', microphone }) {
  set('room', room);
  set('recorded', recorded ? say('recorded') : '');
  set('connection', connection && (weak && connection === 'live' ? `${say(connection)} · ${say('weak')}` : say(connection)));
  announce({ connection, recorded, cutOff, microphone });
  byId('connection').dataset.state = connection;
  if (document.body.dataset.connection !== connection) document.body.dataset.connection = connection;
  showMicrophone(microphone, cutOff);
  showTitle(room, microphone);
}

/** Shows the microphone's state in the page's title and icon, which are visible while another tab is in front. */
function showTitle(room, microphone) {
  clearTimeout(titleTimer);
  const inside = document.body.dataset.screen === 'inside';
  const { prefix, icon, againMs } = titleStatus.show(inside ? microphone : 'off', talking, performance.now());
  setIcon(icon);
  const title = `${unread > 0 ? `(${unread}) ` : ''}${prefix}Palabre · ${room}`;
  if (inside && document.title !== title) document.title = title;
  if (againMs > 0) titleTimer = setTimeout(() => showTitle(room, microphone), againMs);
}

/** Writes announcements into the live region, which a screen reader reads whenever it changes. */
function announce(state) {
  clearTimeout(announcerTimer);
  const { keys, againMs } = announcer.look(state, performance.now());
  if (keys) announceText(keys.map((key) => say(key, { machines: state.cutOff })).join(' · '));
  if (againMs > 0) announcerTimer = setTimeout(() => announce(state), againMs);
}

function setIcon(name) {
  const link = document.querySelector('link[rel="icon"]');
  const href = `./page/icons/${name}`;
  if (link.getAttribute('href') !== href) link.setAttribute('href', href);
}

/** Shows in title and icon whether this participant talks. @param {boolean} now whether the room hears this participant */
export function showTalking(now) {
  talking = now;
}

/** Shows the number of unread messages in the title, from the next showState on. @param {number} count */
export function showUnread(count) {
  unread = count;
}

/**
 * Shows the push-to-talk button.
 * @param {boolean} shown
 * @param {boolean} held
 */
export function showHold(shown, held) {
  elements.hold.hidden = !shown;
  elements.hold.classList.toggle('held', held);
  set('hold-words', say(held ? 'holding' : 'hold'));
}

/** @param {boolean} raised the user's own hand */
export function showHand(raised) {
  elements['hand-button'].setAttribute('aria-pressed', String(raised));
  setTitle(elements['hand-button'], say(raised ? 'lowerHand' : 'hand'));
}

/** Shows a crossed loudspeaker if the volume is 0. @param {string} value of the slider */
export function showVolume(value) {
  document.querySelector('.volume use').setAttribute('href', value === '0' ? '#speaker-off' : '#speaker');
}

/** @param {number} share of the user's own meter, 0 to 1 */
export function showLevel(share) {
  byId('mic-level').style.setProperty('--level', share.toFixed(2));
}

/** Announces the microphone's state to a screen reader at once. @param {string} state to which the user has just changed it */
export function announceMicrophone(state) {
  announcer.announced(state);
  announceText(say(micKey(state)));
}

/** Labels the language button with the language it switches to, in that language. */
export function showLanguage() {
  const { code, name } = otherLanguage();
  elements.language.textContent = code.toUpperCase();
  elements.language.setAttribute('aria-label', `${code.toUpperCase()} · ${name}`);
  elements.language.title = name;
  elements.language.lang = code;
}

/**
 * Shows cards above the participants, each with at most one button.
 * @param {{key: string, values?: object, urgent?: boolean, action?: string, onAction?: () => void}[]} notices title `key`, text `keyHint`, button `action`
 */
export function showNotices(notices) {
  const box = byId('notices');
  const signature = `${document.documentElement.lang} ${notices.map(({ key, values }) => say(key, values)).join(' ')}`;
  if (box.dataset.signature === signature) return;
  box.dataset.signature = signature;
  const hadFocus = box.contains(document.activeElement);
  box.replaceChildren(...notices.map(makeNotice));
  if (hadFocus) (box.querySelector('button') ?? elements.mute).focus();
}

/**
 * Shows the technical details of the connection.
 * @param {[string, string][]} figures pairs: the key of the label in text-en.js, and the value
 */
export function showFigures(figures) {
  byId('figures').replaceChildren(...figures.map(([key, value]) => {
    const pair = make('div', '');
    pair.append(make('dt', say(key)), make('dd', value));
    return pair;
  }));
}

/** Returns the control that has the focus after the present screen was opened. */
function mainControl() {
  const dialog = document.querySelector('dialog[open]');
  if (dialog) return dialog.querySelector('button');
  if (document.body.dataset.screen === 'door') return elements.join.hidden ? byId('door-title') : elements.join;
  return elements.mute.disabled ? elements['hand-button'] : elements.mute;
}

/** While a dialog is open, a screen reader ignores the live region outside it. */
function announceText(text) {
  set('spoken', text);
  for (const inDialog of document.querySelectorAll('dialog .spoken')) inDialog.textContent = text;
}

function showMicrophone(state, cutOff) {
  const name = micKey(state);
  const hint = say(state === 'on' && cutOff ? 'micOnCutOffHint' : `${name}Hint`);
  const open = ['on', 'waiting', 'held', 'ready'].includes(state);
  elements.mute.dataset.state = state;
  elements.mute.disabled = state === 'listener';
  elements.mute.querySelector('use').setAttribute('href', open ? '#mic' : '#mic-off');
  set('mic-state', say(name));
  set('mic-hint', hint);
  // In a window of little height, the microphone button shows no words, so its tooltip has them.
  setTitle(elements.mute, `${say(name)}: ${hint}`);
}

/** Sets a tooltip. The level records call this function several times a second, so it ignores an unchanged tooltip. */
function setTitle(element, text) {
  if (element.title !== text) element.title = text;
}

function makeNotice({ key, values, urgent, action, onAction }) {
  const card = make('div', '');
  card.className = urgent ? 'notice urgent' : 'notice';
  const words = make('div', '');
  words.append(make('strong', say(key, values)), make('p', say(`${key}Hint`, values)));
  card.append(words);
  if (!action) return card;
  const button = make('button', say(action));
  button.type = 'button';
  button.addEventListener('click', onAction);
  card.append(button);
  return card;
}

function swap(door) {
  byId('door').hidden = !door;
  byId('inside').hidden = door;
  byId('dock').hidden = door;
}

function set(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

function make(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}
