/**
 * The people of the room on the screen: a circle of a few, rows of many with those who talked last in front, and those who
 * are away folded up. What is the case is in crowd.js; here each change touches only the rows that it concerns.
 *
 * The levels are the mixer's, so a row shows what the room hears of somebody, not what their browser believes. Names are
 * whatever people typed and go to textContent only.
 */

import { Crowd } from './crowd.js';
import { say } from './text.js';

const FLOOR_DBFS = -55;
const TOP_DBFS = -12;
const TONES = 6;
/** Up to so many sit in a circle; more make a list. */
const CIRCLE = 9;
/** From so many on one may search. */
const SEARCH_FROM = 20;

/**
 * @typedef {{list: HTMLElement, stage: HTMLElement, away: HTMLDetailsElement, alone: HTMLElement, search: HTMLInputElement,
 *   count: HTMLElement}} Places
 */

/** The lists of people. */
export class People {
  #places;
  #onUnheard;
  #crowd = new Crowd();
  #me = null;
  #unheard = new Set();
  /** @type {Map<string, object>} */
  #rows = new Map();
  #stage = new Map();

  /**
   * @param {Places} places
   * @param {(name: string, unheard: boolean) => void} onUnheard the person wants to hear somebody, or not
   */
  constructor(places, onUnheard) {
    this.#places = places;
    this.#onUnheard = onUnheard;
    places.search.addEventListener('input', () => this.#filter());
    places.away.addEventListener('toggle', () => this.#layAway());
    for (const list of [places.list, places.away]) {
      list.addEventListener('click', (event) => this.#clicked(event));
      list.addEventListener('keydown', walk);
    }
  }

  /** @param {{name: string, display: string}} me */
  setMe(me) {
    this.#me = me;
    this.#lay();
  }

  /**
   * @param {{name: string, display: string}[]} people all who belong to the room
   * @param {import('./records.js').Mark[]} states
   */
  setPeople(people, states) {
    this.#crowd.setPeople(people, states);
    this.#lay();
  }

  /** @param {import('./records.js').Mark[]} marks */
  setStates(marks) {
    if (this.#crowd.setStates(marks).length > 0) this.#lay();
  }

  /** @param {import('./records.js').Mark[]} marks */
  setLevels(marks) {
    this.#paint(this.#crowd.setLevels(marks));
  }

  /** @param {Iterable<string>} names whom one doesn't hear */
  setUnheard(names) {
    this.#unheard = new Set(names);
    this.#lay();
  }

  /** Shows everybody silent: what was known is stale. */
  hush() {
    this.#paint(this.#crowd.hush());
  }

  /** Forgets everybody. */
  clear() {
    this.#places.search.value = '';
    this.setPeople([], []);
    this.#places.alone.hidden = true;
  }

  /** Makes every row anew, in the language that is chosen now. */
  translate() {
    this.#rows.clear();
    this.#stage.clear();
    this.#lay();
  }

  /** @returns {boolean} whether the operator has muted this very person */
  get operatorMutedMe() {
    return this.#crowd.named(this.#me?.name)?.operatorMuted ?? false;
  }

  /** @returns {boolean} whether the room hears this person talk */
  talking(name) {
    return this.#crowd.named(name)?.talking ?? false;
  }

  /** @returns {Set<string>} login names */
  get unheard() {
    return this.#unheard;
  }

  /** @returns {string} the display name of whoever has this login name */
  displayName(name) {
    return this.#crowd.named(name)?.display ?? name;
  }

  #lay() {
    const { list, alone, search, count, away: awayBox } = this.#places;
    const { here, away } = this.#crowd.seated(this.#me?.name);
    const few = here.length + away.length <= CIRCLE;
    const shown = few ? [...here, ...away] : here;
    this.#forget(new Set([...here, ...away].map(({ name }) => name)));
    setChildren(list, shown.map((person) => this.#row(person).element));
    list.dataset.crowd = few ? 'few' : 'many';
    awayBox.hidden = few || away.length === 0;
    awayBox.querySelector('summary').textContent = say('awayCount', { count: away.length });
    this.#layAway();
    alone.hidden = here.some(({ name }) => name !== this.#me?.name) || this.#crowd.size === 0;
    search.hidden = here.length < SEARCH_FROM;
    if (search.hidden) search.value = '';
    count.textContent = few || here.length === 0 ? '' : say('hereCount', { count: here.length });
    for (const person of shown) this.#paintRow(person);
    this.#layStage();
    this.#filter();
    keepOneTabStop(list);
  }

  /** Hundreds who are away cost nothing while they are folded up. */
  #layAway() {
    const box = this.#places.away;
    const list = box.querySelector('ul');
    const people = box.open && !box.hidden ? this.#crowd.seated(this.#me?.name).away : [];
    setChildren(list, people.map((person) => this.#row(person).element));
    for (const person of people) this.#paintRow(person);
    keepOneTabStop(list);
  }

  /** Who talked last in front of a crowd; for eyes only, the list says the same. */
  #layStage() {
    const { stage, list } = this.#places;
    const speakers = list.dataset.crowd === 'many' ? this.#crowd.speakers : [];
    const seats = speakers.map((place) => {
      const person = this.#crowd.person(place);
      let seat = this.#stage.get(person.name);
      if (seat?.display !== person.display) seat = makeRow(person, person.name === this.#me?.name, false);
      this.#stage.set(person.name, seat);
      paint(seat, person, this.#unheard.has(person.name));
      return seat.element;
    });
    setChildren(stage, seats);
    stage.hidden = seats.length === 0;
  }

  #paint(places) {
    if (places.length === 0) return;
    for (const place of places) this.#paintRow(this.#crowd.person(place));
    this.#layStage();
  }

  #paintRow(person) {
    const row = this.#rows.get(person.name);
    if (row) paint(row, person, this.#unheard.has(person.name));
  }

  #row(person) {
    const known = this.#rows.get(person.name);
    if (known?.display === person.display) return known;
    const row = makeRow(person, person.name === this.#me?.name, true);
    this.#rows.set(person.name, row);
    return row;
  }

  #forget(known) {
    for (const rows of [this.#rows, this.#stage]) for (const name of rows.keys()) if (!known.has(name)) rows.delete(name);
  }

  #filter() {
    const wanted = plain(this.#places.search.value);
    for (const { element, display } of this.#rows.values()) element.hidden = wanted !== '' && !plain(display).includes(wanted);
    keepOneTabStop(this.#places.list);
  }

  #clicked(event) {
    const button = event.target.closest('button');
    const name = button?.closest('.person')?.dataset.name;
    if (name) this.#onUnheard(name, button.getAttribute('aria-pressed') !== 'true');
  }
}

/** One stop of the Tab key for the whole list, arrows within it: hundreds of stops are no way through a page. */
function walk(event) {
  const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
  const step = steps[event.key];
  if (!step || !event.target.matches('.person button')) return;
  const buttons = buttonsOf(event.currentTarget);
  const at = buttons.indexOf(event.target) + step;
  const next = buttons[Math.max(0, Math.min(buttons.length - 1, at))];
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
  event.preventDefault();
}

function buttonsOf(list) {
  return [...list.querySelectorAll('.person:not([hidden]) button')];
}

function keepOneTabStop(list) {
  const buttons = buttonsOf(list);
  const current = buttons.find((button) => button === document.activeElement) ?? buttons.find((button) => button.tabIndex === 0);
  const first = current ?? buttons[0];
  for (const button of buttons) button.tabIndex = button === first ? 0 : -1;
}

/** Moves only what isn't where it should be, so that whatever has the focus keeps it. */
function setChildren(parent, children) {
  if (children.length === 0) return parent.replaceChildren();
  children.forEach((child, i) => { if (parent.children[i] !== child) parent.insertBefore(child, parent.children[i] ?? null); });
  while (parent.children.length > children.length) parent.lastElementChild.remove();
}

function makeRow({ name, display }, isMe, withButton) {
  const element = make('li', `person tone-${tone(name)}`);
  element.dataset.name = name;
  const seat = make('span', 'seat');
  seat.setAttribute('aria-hidden', 'true');
  const hand = make('span', 'hand-sign');
  hand.append(sign('#hand'));
  const microphone = make('span', 'mic-sign-small');
  microphone.append(sign('#mic-off'));
  seat.append(make('span', 'initials', initials(display)), hand, microphone);
  const title = make('bdi', 'name', display);
  title.title = display;
  const words = make('span', 'words');
  words.append(title);
  if (isMe) words.append(make('span', 'you', say('you')));
  const mark = make('span', 'mark');
  const meter = make('span', 'meter');
  meter.setAttribute('aria-hidden', 'true');
  meter.append(make('span', 'meter-bar'));
  element.append(seat, words, mark, meter);
  const button = isMe || !withButton ? null : makeButton(display);
  if (button) element.append(button);
  return { element, mark, button, display, isMe, use: microphone.querySelector('use') };
}

function makeButton(display) {
  const button = make('button', 'unhear');
  button.type = 'button';
  button.tabIndex = -1;
  button.setAttribute('aria-label', say('unhear', { name: display }));
  button.title = say('unhear', { name: display });
  button.append(sign('#speaker'));
  return button;
}

function paint({ element, mark, button, isMe, use }, known, unheard) {
  // Whoever looks at this page is here, whatever the room knows yet.
  const person = { ...known, here: known.here || isMe };
  const { talking, operatorMuted, muted, listening, hand, here, dbfs } = person;
  const share = talking ? (dbfs - FLOOR_DBFS) / (TOP_DBFS - FLOOR_DBFS) : 0;
  const silenced = operatorMuted || (here && (muted || listening));
  element.classList.toggle('talking', talking);
  element.classList.toggle('away', !here && !talking);
  element.classList.toggle('hand', here && hand);
  element.classList.toggle('silenced', silenced);
  element.classList.toggle('operator', operatorMuted);
  element.classList.toggle('unheard', unheard);
  element.style.setProperty('--level', Math.max(0, Math.min(1, share || 0)).toFixed(2));
  const href = listening && !operatorMuted ? '#headphones' : '#mic-off';
  if (use.getAttribute('href') !== href) use.setAttribute('href', href);
  const word = wordFor(person, unheard);
  if (mark.textContent !== word) mark.textContent = word;
  if (button && button.getAttribute('aria-pressed') !== String(unheard)) {
    button.setAttribute('aria-pressed', String(unheard));
    button.querySelector('use').setAttribute('href', unheard ? '#speaker-off' : '#speaker');
  }
}

/** The one thing to know of somebody, the worst truth first; a raised hand is said besides. */
function wordFor({ talking, operatorMuted, muted, listening, hand, here }, unheard) {
  const words = [];
  if (here && hand) words.push(say('handRaised'));
  if (unheard) words.push(say('unheard'));
  else if (operatorMuted) words.push(say('operatorMuted'));
  else if (talking) words.push(say('talking'));
  else if (!here) words.push(say('away'));
  else if (listening) words.push(say('listening'));
  else if (muted) words.push(say('selfMuted'));
  return words.join(' · ');
}

function make(tag, className, text = '') {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function sign(href) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', href);
  svg.setAttribute('aria-hidden', 'true');
  svg.append(use);
  return svg;
}

function initials(display) {
  const words = display.match(/[\p{L}\p{N}][\p{L}\p{M}\p{N}]*/gu) ?? [];
  const ends = words.length > 1 ? [words[0], words.at(-1)] : words;
  return ends.map((word) => [...word][0]).join('').toLocaleUpperCase();
}

/** Without case and accents: whoever looks for Zoé types zoe. */
function plain(text) {
  return text.normalize('NFKD').replace(/\p{M}/gu, '').toLocaleLowerCase().trim();
}

/** The same person has the same colour for everybody. */
function tone(name) {
  return [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 997, 7) % TONES;
}
