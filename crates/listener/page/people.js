/**
 * Who is here, how loud, who is talking, who is muted: one row each, oneself first, those who are away last.
 *
 * The levels are the mixer's, so a row shows what the room hears of somebody, not what their browser believes. Names are
 * whatever people typed and go to textContent only.
 */

import { say } from './text.js';

const FLOOR_DBFS = -55;
const TOP_DBFS = -12;
const TONES = 6;
/** Up to so many sit in a circle; more make a list. */
const CIRCLE = 9;

/** The list of people. */
export class People {
  #list;
  #alone;
  #me = null;
  #people = [];
  #levels = {};
  #rows = new Map();

  /**
   * @param {HTMLUListElement} list
   * @param {HTMLElement} alone shown while nobody else is here
   */
  constructor(list, alone) {
    this.#list = list;
    this.#alone = alone;
  }

  /** @param {{name: string, display: string}} me */
  setMe(me) {
    this.#me = me;
    this.#lay();
  }

  /** @param {{name: string, display: string, here?: boolean}[]} people all who belong to the room */
  setPeople(people) {
    this.#people = people;
    this.#lay();
  }

  /** @param {Record<string, [number, number] | null>} levels who is not in it is silent */
  setLevels(levels) {
    this.#levels = levels;
    for (const [name, row] of this.#rows) paint(row, Object.hasOwn(levels, name) ? levels[name] : undefined);
  }

  /** Shows everybody silent: what was known is stale. */
  hush() {
    this.setLevels({});
  }

  /** Forgets everybody. */
  clear() {
    this.#people = [];
    this.#levels = {};
    this.#lay();
    this.#alone.hidden = true;
  }

  /** Makes every row anew, in the language that is chosen now. */
  translate() {
    this.#rows.clear();
    this.#lay();
  }

  /** @returns {boolean} whether the operator has muted this very person */
  get operatorMutedMe() {
    return this.#me !== null && this.#levels[this.#me.name] === null;
  }

  #lay() {
    const name = this.#me?.name;
    const mine = this.#people.filter((person) => person.name === name);
    const others = this.#people.filter((person) => person.name !== name);
    const here = others.filter((person) => person.here !== false);
    const away = others.filter((person) => person.here === false);
    const rows = [...mine, ...here, ...away].map((person) => this.#row(person));
    away.forEach((person) => markAway(this.#rows.get(person.name), true));
    [...mine, ...here].forEach((person) => markAway(this.#rows.get(person.name), false));
    this.#list.replaceChildren(...rows.map((row) => row.element));
    this.#list.dataset.crowd = rows.length > CIRCLE ? 'many' : 'few';
    this.#alone.hidden = here.length > 0 || this.#people.length === 0;
    this.setLevels(this.#levels);
    const known = new Set(this.#people.map((person) => person.name));
    for (const gone of this.#rows.keys()) if (!known.has(gone)) this.#rows.delete(gone);
  }

  #row(person) {
    const known = this.#rows.get(person.name);
    if (known?.display === person.display) return known;
    const row = makeRow(person, person.name === this.#me?.name);
    this.#rows.set(person.name, row);
    return row;
  }
}

function makeRow({ name, display }, isMe) {
  const element = make('li', `person tone-${tone(name)}`);
  const seat = make('span', 'seat', initials(display || name));
  seat.setAttribute('aria-hidden', 'true');
  seat.append(mutedSign());
  const title = make('span', 'name', display || name);
  title.title = display || name;
  const words = make('span', 'words');
  words.append(title);
  if (isMe) words.append(make('span', 'you', say('you')));
  const mark = make('span', 'mark');
  const meter = make('span', 'meter');
  meter.setAttribute('aria-hidden', 'true');
  meter.append(make('span', 'meter-bar'));
  element.append(seat, words, mark, meter);
  return { element, mark, display };
}

function markAway(row, away) {
  row.away = away;
  row.element.classList.toggle('away', away);
}

/** @param {[number, number] | null | undefined} level as in a record: null is muted, undefined silent */
function paint({ element, mark, away }, level) {
  const muted = level === null;
  const talking = Array.isArray(level) && level[1] === 1;
  const share = Array.isArray(level) ? (Number(level[0]) - FLOOR_DBFS) / (TOP_DBFS - FLOOR_DBFS) : 0;
  element.classList.toggle('talking', talking);
  element.classList.toggle('muted', muted);
  element.style.setProperty('--level', Math.max(0, Math.min(1, share || 0)).toFixed(3));
  const quiet = away ? say('away') : '';
  const word = muted ? say('operatorMuted') : talking ? say('talking') : quiet;
  if (mark.textContent !== word) mark.textContent = word;
}

function make(tag, className, text = '') {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function mutedSign() {
  const sign = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', '#mic-off');
  sign.setAttribute('class', 'muted-sign');
  sign.append(use);
  return sign;
}

function initials(display) {
  const words = display.match(/[\p{L}\p{N}][\p{L}\p{M}\p{N}]*/gu) ?? [];
  const ends = words.length > 1 ? [words[0], words.at(-1)] : words;
  return ends.map((word) => [...word][0]).join('').toLocaleUpperCase();
}

/** The same person has the same colour for everybody. */
function tone(name) {
  return [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 997, 7) % TONES;
}
