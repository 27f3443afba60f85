/**
 * Shows the participants: a few present ones as a circle; more as a list, with the recent talkers on a stage. If not all participants fit into
 * the circle, absent ones are folded up.
 * room/participants.js holds their state; here each change touches only the rows that it concerns.
 *
 * Levels are the mixer's: a row shows what the room hears. Names are user input and go to textContent and attributes only.
 */

import { REACTION_MS } from '../room/reactions.js';
import { NORMAL } from '../room/gains.js';
import { Participants } from '../room/participants.js';
import { locale, say } from '../text/text.js';
import { hasLongWord, initials, plain, tone } from './names.js';

/** Level at the bottom of a meter. */
const FLOOR_DBFS = -55;
/** Level at the top of a meter. */
const TOP_DBFS = -12;
/** Maximum number of present participants in a circle. */
const CIRCLE = 9;
/** Minimum number of participants for which there is a search. */
const SEARCH_FROM = 20;

/**
 * @typedef {{list: HTMLElement, stage: HTMLElement, away: HTMLDetailsElement, alone: HTMLElement, search: HTMLInputElement,
 *   count: HTMLElement, noHit: HTMLElement}} Places
 */

/** The lists of participants. */
export class ParticipantList {
  #places;
  #gains;
  #onOpen;
  #participants = new Participants();
  #me = null;
  /** @type {Map<string, object>} */
  #rows = new Map();
  #stage = new Map();

  /**
   * @param {Places} places
   * @param {import('../room/gains.js').Gains} gains
   * @param {(person: import('../room/participants.js').Participant) => void} onOpen the user opens the panel of a participant
   */
  constructor(places, gains, onOpen) {
    this.#places = places;
    this.#gains = gains;
    this.#onOpen = onOpen;
    places.search.addEventListener('input', () => { this.#layStage(); this.#filter(); });
    places.search.addEventListener('blur', () => this.#layOut());
    places.away.addEventListener('toggle', () => this.#layAway());
    for (const list of [places.list, places.away]) {
      list.addEventListener('click', (event) => this.#clicked(event));
      list.addEventListener('keydown', walk);
    }
  }

  /** @param {{name: string, display: string}} me */
  setMe(me) {
    this.#me = me;
    this.#layOut();
  }

  /**
   * @param {{name: string, display: string}[]} people all participants of the room
   * @param {import('../stream/records.js').Mark[]} states
   * @param {import('../stream/records.js').Machine[]} [machines] other machines that share the room
   */
  setPeople(people, states, machines) {
    this.#participants.setPeople(people, states, machines);
    this.#layOut();
  }

  /** @param {import('../stream/records.js').Mark[]} marks */
  setStates(marks) {
    if (this.#participants.setStates(marks).length > 0) this.#layOut();
  }

  /** @param {import('../stream/records.js').Mark[]} marks */
  setLevels(marks) {
    this.#paint(this.#participants.setLevels(marks));
  }

  /** Shows the personal gains, after they have changed. @param {string} [name] whose gain has changed; without a name, all have */
  showGains(name) {
    const person = this.#participants.named(name);
    if (!person) return this.#layOut();
    this.#paintRow(person);
    this.#layStage();
  }

  /** Shows a reaction beside a participant for some seconds. @param {string} name login name; @param {string} text one sign */
  react(name, text) {
    for (const rows of [this.#rows, this.#stage]) {
      const seat = rows.get(name)?.element.querySelector('.seat');
      if (!seat) continue;
      const shown = make('span', 'reaction', text);
      seat.querySelector('.reaction')?.remove();
      seat.append(shown);
      setTimeout(() => shown.remove(), REACTION_MS);
    }
  }

  /** Shows all participants silent, because the known levels are stale. */
  hush() {
    this.#paint(this.#participants.hush());
  }

  /** Forgets all participants. */
  clear() {
    this.#places.search.value = '';
    this.setPeople([], []);
    this.#places.alone.hidden = true;
  }

  /** Creates all rows again, in the current language. */
  translate() {
    this.#rows.clear();
    this.#stage.clear();
    this.#layOut();
  }

  /** @returns {import('../room/participants.js').Participant[]} all participants except this page's own */
  get others() {
    return Array.from({ length: this.#participants.size }, (_, place) => this.#participants.at(place)).filter(({ name }) => name !== this.#me?.name);
  }

  /** @returns {import('../room/participants.js').Participant | null} this page's participant, as the others see them */
  get mine() {
    return this.#participants.named(this.#me?.name);
  }

  /** @returns {boolean} whether the host has muted this page's participant */
  get mutedByHost() {
    return this.mine?.mutedByHost ?? false;
  }

  /** @param {string} name; @returns {boolean} whether the room hears this participant talk */
  talking(name) {
    return this.#participants.named(name)?.talking ?? false;
  }

  /** @param {string} name login name; @returns {boolean} whether the user has muted this participant for themselves */
  isMutedForMe(name) {
    return this.#gains.isMuted(name);
  }

  /** @param {string} name login name; @returns {string} display name, and the machine if it is another one */
  displayName(name) {
    return this.#participants.named(name)?.label ?? name;
  }

  #layOut() {
    const { list, alone, search, count, away: awayBox } = this.#places;
    const { here, away } = this.#participants.seated(this.#me?.name, locale());
    const few = here.length <= CIRCLE;
    const all = here.length + away.length <= CIRCLE;
    const shown = all ? [...here, ...away] : here;
    this.#forget(new Set([...here, ...away].map(({ name }) => name)));
    setChildren(list, shown.map((person) => this.#row(person).element));
    list.dataset.crowd = few ? 'few' : 'many';
    awayBox.hidden = all || away.length === 0;
    awayBox.querySelector('summary').textContent = say('awayCount', { count: away.length });
    this.#layAway();
    alone.hidden = here.some(({ name }) => name !== this.#me?.name) || this.#participants.size === 0;
    search.hidden = here.length < SEARCH_FROM && search.value === '' && search !== document.activeElement;
    count.textContent = few || here.length === 0 ? '' : say('hereCount', { count: here.length });
    for (const person of shown) this.#paintRow(person);
    this.#layStage();
    this.#filter();
    keepOneTabStop(list);
  }

  /** Creates rows for absent participants only while they are unfolded: there may be hundreds. */
  #layAway() {
    const box = this.#places.away;
    const list = box.querySelector('ul');
    const people = box.open && !box.hidden ? this.#participants.seated(this.#me?.name, locale()).away : [];
    setChildren(list, people.map((person) => this.#row(person).element));
    for (const person of people) this.#paintRow(person);
    keepOneTabStop(list);
  }

  /** Shows the recent talkers in front of a long list. Hidden from screen readers, because the list says the same. */
  #layStage() {
    const { stage, list, search } = this.#places;
    const isShown = list.dataset.crowd === 'many' && search.value === '';
    const speakers = isShown ? this.#participants.speakers.filter((place) => this.#participants.at(place).name !== this.#me?.name) : [];
    const seats = speakers.map((place) => {
      const person = this.#participants.at(place);
      let seat = this.#stage.get(person.name);
      if (seat?.label !== person.label) seat = makeRow(person, false, false);
      this.#stage.set(person.name, seat);
      paint(seat, person, this.#gains, this.#participants.isQueue);
      return seat.element;
    });
    setChildren(stage, seats);
    stage.hidden = seats.length === 0;
  }

  #paint(places) {
    if (places.length === 0) return;
    for (const place of places) this.#paintRow(this.#participants.at(place));
    this.#layStage();
  }

  #paintRow(person) {
    const row = this.#rows.get(person.name);
    if (row) paint(row, person, this.#gains, this.#participants.isQueue);
  }

  #row(person) {
    const known = this.#rows.get(person.name);
    if (known?.label === person.label) return known;
    const row = makeRow(person, person.name === this.#me?.name, true);
    this.#rows.set(person.name, row);
    return row;
  }

  #forget(known) {
    for (const rows of [this.#rows, this.#stage]) for (const name of rows.keys()) if (!known.has(name)) rows.delete(name);
  }

  #filter() {
    const wanted = plain(this.#places.search.value);
    for (const { element, label } of this.#rows.values()) element.hidden = wanted !== '' && !plain(label).includes(wanted);
    const { list, away, noHit } = this.#places;
    const hit = [list, away].some((place) => place.querySelector('.person:not([hidden])'));
    const text = hit || wanted === '' ? '' : say('noHit', { name: this.#places.search.value.trim() });
    if (noHit.textContent !== text) noHit.textContent = text;
    keepOneTabStop(this.#places.list);
  }

  #clicked(event) {
    const button = event.target.closest('button');
    const name = button?.closest('.person')?.dataset.name;
    if (!name) return;
    if (button.matches('.mute-for-me')) this.#gains.mute(name, button.getAttribute('aria-pressed') !== 'true');
    else this.#onOpen(this.#participants.named(name));
  }
}

/**
 * Moves the focus by arrow keys within a list: left and right to the next button, up and down to the same button of the next participant. The
 * whole list is one stop of the Tab key, because it may have hundreds of buttons.
 */
function walk(event) {
  const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
  const step = steps[event.key];
  if (!step || !event.target.matches('.person button')) return;
  const isSideways = event.key === 'ArrowLeft' || event.key === 'ArrowRight';
  const buttons = buttonsOf(event.currentTarget).filter((button) => isSideways || button.className === event.target.className);
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

/** Moves only elements that are at the wrong place, so that the focus stays. */
function setChildren(parent, children) {
  if (children.length === 0) return parent.replaceChildren();
  children.forEach((child, i) => { if (parent.children[i] !== child) parent.insertBefore(child, parent.children[i] ?? null); });
  while (parent.children.length > children.length) parent.lastElementChild.remove();
}

function makeRow({ name, display, machine, label }, isMe, withButton) {
  const element = make('li', `person tone-${tone(name)}`);
  element.classList.toggle('long-word', hasLongWord(display));
  element.dataset.name = name;
  const seat = make('span', 'seat');
  seat.setAttribute('aria-hidden', 'true');
  const hand = make('span', 'hand-sign');
  hand.append(sign('#hand'));
  const microphone = make('span', 'mic-sign-small');
  microphone.append(sign('#mic-off'));
  seat.append(make('span', 'initials', initials(display)), hand, microphone);
  const title = make('bdi', 'name', display);
  title.title = label;
  const words = make('span', 'words');
  words.append(title);
  if (isMe) words.append(make('span', 'you', say('you')));
  // A line may wrap after the dot between the display name and the machine, but not before the dot.
  if (machine) title.append(make('span', 'machine', `\u00a0· ${machine}`));
  const mark = make('span', 'mark');
  const meter = make('span', 'meter');
  meter.setAttribute('aria-hidden', 'true');
  meter.append(make('span', 'meter-bar'));
  element.append(seat, words, mark, meter);
  const row = { element, mark, display, label, isMe, use: microphone.querySelector('use') };
  if (isMe || !withButton) return row;
  const more = makeButton('more');
  more.setAttribute('aria-haspopup', 'dialog');
  const buttons = make('span', 'person-buttons');
  element.append(buttons);
  if (machine) {
    // Another machine sends the sum of its people's voices, so this person can't be muted or have a volume here. The panel says so.
    more.append(sign('#more'));
    more.title = say('aboutPerson', { name: label });
    more.setAttribute('aria-label', more.title);
    buttons.append(more);
    return row;
  }
  const button = makeButton('mute-for-me');
  button.setAttribute('aria-label', say('muteForMe', { name: display }));
  button.append(sign('#speaker'));
  buttons.append(button, more);
  return { ...row, button, more };
}

function makeButton(className) {
  const button = make('button', className);
  button.type = 'button';
  button.tabIndex = -1;
  return button;
}

function paint({ element, mark, button, more, display, isMe, use }, known, gains, isQueue) {
  const mutedForMe = gains.isMuted(known.name);
  // This page's participant is shown as present, even if the listener hasn't reported that yet, and never as weak: the top of the page shows the quality of
  // this connection.
  const person = { ...known, here: known.here || isMe, weak: known.weak && !isMe };
  const { talking, mutedByHost, muted, listening, weak, dbfs, cutOff } = person;
  const [here, hand] = [person.here && !cutOff, person.hand && !cutOff];
  const share = talking ? (dbfs - FLOOR_DBFS) / (TOP_DBFS - FLOOR_DBFS) : 0;
  const silenced = mutedByHost || (here && (muted || listening));
  element.classList.toggle('talking', talking);
  element.classList.toggle('away', !person.here && !talking);
  element.classList.toggle('cut-off', cutOff);
  element.classList.toggle('hand', here && hand);
  element.classList.toggle('silenced', silenced);
  element.classList.toggle('weak', here && weak && !mutedByHost);
  element.classList.toggle('operator', mutedByHost);
  element.classList.toggle('muted-for-me', mutedForMe);
  element.style.setProperty('--level', Math.max(0, Math.min(1, share || 0)).toFixed(2));
  const href = mutedByHost ? '#mic-off' : weak ? '#weak' : listening ? '#headphones' : '#mic-off';
  if (use.getAttribute('href') !== href) use.setAttribute('href', href);
  const word = wordFor(person, mutedForMe, isQueue);
  if (mark.textContent !== word) mark.textContent = word;
  if (button && button.getAttribute('aria-pressed') !== String(mutedForMe)) {
    button.setAttribute('aria-pressed', String(mutedForMe));
    button.querySelector('use').setAttribute('href', mutedForMe ? '#speaker-off' : '#speaker');
    button.title = say(mutedForMe ? 'unmuteForMe' : 'muteForMe', { name: display });
  }
  if (more) showVolume(more, display, gains.volume(known.name));
}

/** Shows the volume on the button that opens the panel of a participant, unless it is the normal volume. */
function showVolume(more, display, volume) {
  if (more.dataset.volume === String(volume)) return;
  more.dataset.volume = String(volume);
  const words = volume === NORMAL ? '' : say('percent', { count: volume });
  more.replaceChildren(words || sign('#more'));
  more.title = say('volumeOf', { name: display });
  more.setAttribute('aria-label', [more.title, words].filter(Boolean).join(': '));
}

/** Returns the most important state of a participant, and a raised hand besides. */
function wordFor({ talking, mutedByHost, muted, listening, weak, hand, queue, here, cutOff }, mutedForMe, isQueue) {
  if (cutOff) return say('cutOffMark');
  const words = [];
  if (here && hand) words.push(isQueue && queue > 0 ? say('handInQueue', { place: queue }) : say('handRaised'));
  if (mutedForMe) words.push(say('mutedForMe'));
  else if (mutedByHost) words.push(say('mutedByHost'));
  else if (talking) words.push(say('talking'));
  else if (!here) words.push(say('away'));
  else if (listening) words.push(say('listening'));
  else if (muted) words.push(say('selfMuted'));
  if (here && weak && !mutedForMe && !mutedByHost) words.push(say('weak'));
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
