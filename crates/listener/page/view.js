/**
 * The page's elements, and how each state looks. It decides nothing: app.js says what is the case.
 */

import { Announcer, micKey } from './announcer.js';
import { Signs } from './signs.js';
import { otherLanguage, say } from './text.js';

const byId = (id) => document.getElementById(id);

/** The elements that app.js listens to. */
export const elements = Object.fromEntries(
  ['join', 'mute', 'volume', 'leave', 'language', 'details', 'hand-button', 'hold', 'settings-open', 'try', 'volume-2'].map((id) => [id, byId(id)]),
);

/** Where people.js shows the people. */
export const peoplePlaces = {
  list: byId('people'), stage: byId('stage'), away: byId('away'), alone: byId('alone'), search: byId('search'), count: byId('count'),
};

/** The parts of messages.js. */
export const messageParts = {
  panel: byId('messages'), list: byId('message-list'), form: byId('write'), line: byId('message-line'),
  toggle: byId('messages-toggle'), badge: byId('badge'), trouble: byId('message-trouble'), close: byId('messages-close'),
  empty: byId('messages-empty'),
};

const SIGNS = { on: '#mic', off: '#mic-off' };
const signs = new Signs();
let signsTimer = 0;
const announcer = new Announcer();
let announcerTimer = 0;

/**
 * The screen before and after the room.
 * @param {{title: string, hint?: string, warning?: string, room?: string, join?: string, troubled?: boolean}} door sentences
 */
export function showDoor({ title, hint = '', warning = '', room = '', join = '', troubled = false }) {
  document.body.dataset.screen = 'door';
  swap(true);
  byId('door').classList.toggle('troubled', troubled);
  set('door-title', title);
  set('door-hint', hint);
  set('door-room', room);
  set('door-warning', warning);
  byId('door-warning').hidden = !warning;
  set('join', join);
  elements.join.hidden = !join;
  elements.try.hidden = !join;
  document.title = room ? `Palabre · ${room}` : 'Palabre';
}

/** The room itself. */
export function showInside() {
  document.body.dataset.screen = 'inside';
  swap(false);
  elements.mute.focus({ preventScroll: true });
}

/**
 * @param {{room: string, recorded?: boolean, connection: 'connecting' | 'live' | 'lost' | '', microphone: string}} state
 */
export function showState({ room, recorded = false, connection, microphone }) {
  set('room', room);
  set('recorded', recorded ? say('recorded') : '');
  set('connection', connection && say(connection));
  announce({ connection, recorded, microphone });
  byId('connection').dataset.state = connection;
  showMicrophone(microphone);
  showSigns(room, microphone);
}

/** Title and icon, which are seen while another page is in front. */
function showSigns(room, microphone) {
  clearTimeout(signsTimer);
  const inside = document.body.dataset.screen === 'inside';
  const { prefix, icon, againMs } = signs.show(inside ? microphone : 'off', talking, performance.now());
  setIcon(icon);
  const title = `${prefix}Palabre · ${room}`;
  if (inside && document.title !== title) document.title = title;
  if (againMs > 0) signsTimer = setTimeout(() => showSigns(room, microphone), againMs);
}

/** A region that is live speaks whenever it changes, so what stands there is announcer.js's to decide. */
function announce(state) {
  clearTimeout(announcerTimer);
  const { keys, againMs } = announcer.look(state, performance.now());
  if (keys) speak(keys.map((key) => say(key)).join(' · '));
  if (againMs > 0) announcerTimer = setTimeout(() => announce(state), againMs);
}

function setIcon(name) {
  const link = document.querySelector('link[rel="icon"]');
  const href = `./page/${name}`;
  if (link.getAttribute('href') !== href) link.setAttribute('href', href);
}

let talking = false;

/** @param {boolean} now whether the room hears this person just now, for the page's title and icon */
export function showTalking(now) {
  talking = now;
}

/**
 * The button that is held to talk.
 * @param {boolean} shown
 * @param {boolean} held
 */
export function showHold(shown, held) {
  elements.hold.hidden = !shown;
  elements.hold.classList.toggle('held', held);
  set('hold-words', say(held ? 'holding' : 'hold'));
}

/** @param {boolean} raised the own hand */
export function showHand(raised) {
  elements['hand-button'].setAttribute('aria-pressed', String(raised));
}

/** @param {number} share 0 to 1 of the own level's meter */
export function showLevel(share) {
  byId('mic-level').style.setProperty('--level', share.toFixed(3));
}

/** @param {string} state the word for the microphone's, which the person has just changed and a screen reader is to say */
export function speakOfMicrophone(state) {
  announcer.said(state);
  speak(say(micKey(state)));
}

/** Names the language that the toggle offers, in that language. */
export function showLanguage() {
  const { code, name } = otherLanguage();
  elements.language.textContent = code.toUpperCase();
  elements.language.setAttribute('aria-label', `${code.toUpperCase()} · ${name}`);
  elements.language.title = name;
  elements.language.lang = code;
}

/**
 * Cards above the people, each with something to do.
 * @param {{key: string, urgent?: boolean, action: string, onAction: () => void}[]} notices `key` and `keyHint` are sentences
 */
export function showNotices(notices) {
  const box = byId('notices');
  const signature = `${document.documentElement.lang} ${notices.map((notice) => notice.key).join(' ')}`;
  if (box.dataset.signature === signature) return;
  box.dataset.signature = signature;
  box.replaceChildren(...notices.map(makeNotice));
}

/** @param {[string, string][]} figures sentence key and value */
export function showFigures(figures) {
  byId('figures').replaceChildren(...figures.map(([key, value]) => {
    const pair = make('div', '');
    pair.append(make('dt', say(key)), make('dd', value));
    return pair;
  }));
}

function speak(sentence) {
  set('spoken', sentence);
}

function showMicrophone(state) {
  const name = micKey(state);
  const open = ['on', 'waiting', 'held', 'ready'].includes(state);
  elements.mute.dataset.state = state;
  elements.mute.disabled = state === 'listener';
  elements.mute.querySelector('use').setAttribute('href', open ? SIGNS.on : SIGNS.off);
  set('mic-state', say(name));
  set('mic-hint', say(`${name}Hint`));
}

function makeNotice({ key, urgent, action, onAction }) {
  const card = make('div', '');
  card.className = urgent ? 'notice urgent' : 'notice';
  const words = make('div', '');
  words.append(make('strong', say(key)), make('p', say(`${key}Hint`)));
  const button = make('button', say(action));
  button.type = 'button';
  button.addEventListener('click', onAction);
  card.append(words, button);
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
