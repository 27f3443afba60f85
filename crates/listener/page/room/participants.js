/**
 * The state of all participants of the room, as the stream's marks tell it: who is connected, what they show, who talks and how loud.
 * Pure. Each change names only the participants that it concerns, so that large rooms stay cheap.
 */

/** Index that stands for all participants. */
const ALL = 65535;
const HERE = 1;
const HAND = 2;
const MUTED = 4;
const LISTENING = 8;
/** The microphone is open, and the connection is weak. */
const WEAK = MUTED + LISTENING;
/** The upper four bits of a state are the place in the queue of raised hands. */
const PLACE_SHIFT = 4;
const MUTED_BY_HOST = 255;
/** Maximum number of recent talkers on the stage. */
const SPEAKERS = 6;

/**
 * @typedef {{name: string, display: string, machine: string, label: string, cutOff: boolean, place: number, here: boolean, hand: boolean,
 *   queue: number, muted: boolean, listening: boolean, weak: boolean, talking: boolean, mutedByHost: boolean, dbfs: number}} Participant
 *   name: the login name, on another machine with `@` and the machine; machine: the other machine, or empty; label: display name and machine;
 *   cutOff: the connection to the machine is lost; place: index in the list that the listener sent;
 *   queue: place in the queue of raised hands from 1, at most 15, or 0, as for a hand on another machine
 */

/** The participants of one room. */
export class Participants {
  #people = [];
  /** Names of the machines to which the connection is lost. */
  #cutOff = new Set();
  #states = new Uint8Array(0);
  #levels = new Uint8Array(0);
  /** Indices of the recent talkers. A talker keeps the position on the stage until another talker needs that position. */
  #speakers = [];
  /** Whether several hands are raised. */
  #isQueue = false;
  #turns = 0;
  #lastTurn = new Map();

  /** @returns {number} */
  get size() {
    return this.#people.length;
  }

  /**
   * @param {{name: string, display: string}[]} people
   * @param {import('../stream/records.js').Mark[]} states
   * @param {import('../stream/records.js').Machine[]} [machines] other machines that share the room
   */
  setPeople(people, states, machines = []) {
    this.#cutOff = new Set(machines.filter(({ cutOff }) => cutOff).map(({ name }) => name));
    const talked = new Map(this.#speakers.map((place) => [this.#people[place].name, this.#lastTurn.get(place)]));
    this.#people = people;
    this.#states = new Uint8Array(people.length);
    this.#levels = new Uint8Array(people.length);
    applyMarks(this.#states, states);
    this.#noteQueue();
    this.#lastTurn.clear();
    this.#speakers = [];
    people.forEach(({ name }, place) => {
      if (!talked.has(name)) return;
      this.#speakers.push(place);
      this.#lastTurn.set(place, talked.get(name));
    });
  }

  /**
   * @param {import('../stream/records.js').Mark[]} marks
   * @returns {number[]} indices of the participants that changed
   */
  setStates(marks) {
    const changed = applyMarks(this.#states, marks);
    this.#noteQueue();
    return changed;
  }

  /**
   * @param {import('../stream/records.js').Mark[]} marks
   * @returns {number[]} indices of the participants that changed
   */
  setLevels(marks) {
    const changed = applyMarks(this.#levels, marks);
    for (const place of changed) if (this.#talks(place)) this.#seat(place);
    return changed;
  }

  /** Sets all participants silent, because the known levels are stale; @returns {number[]} indices that changed */
  hush() {
    return applyMarks(this.#levels, [[ALL, 0]]);
  }

  /**
   * @param {number} place
   * @returns {Participant}
   */
  at(place) {
    const [state, level] = [this.#states[place], this.#levels[place]];
    const { name } = this.#people[place];
    const [login, machine = ''] = name.split('@');
    const display = this.#people[place].display || login;
    return {
      name,
      display,
      machine,
      label: machine ? `${display} · ${machine}` : display,
      cutOff: this.#cutOff.has(machine),
      place,
      here: (state & HERE) !== 0,
      hand: (state & HAND) !== 0,
      queue: state >> PLACE_SHIFT,
      muted: (state & WEAK) === MUTED,
      listening: (state & WEAK) === LISTENING,
      weak: (state & WEAK) === WEAK,
      talking: this.#talks(place),
      mutedByHost: level === MUTED_BY_HOST,
      dbfs: this.#talks(place) ? -level : -Infinity,
    };
  }

  /** @returns {Participant | null} */
  named(name) {
    const place = this.#people.findIndex((person) => person.name === name);
    return place < 0 ? null : this.at(place);
  }

  /**
   * Sorts the participants: this page's own first, then raised hands in the order of their queue, then the others, each by name.
   * @param {string} me login name
   * @param {string} [locale] of the order of names
   * @returns {{here: Participant[], away: Participant[]}}
   */
  seated(me, locale) {
    const rank = (person) => (person.name === me ? 0 : person.hand && person.here ? 1 + person.queue : Infinity);
    const { compare } = new Intl.Collator(locale);
    const all = this.#people.map((_, place) => this.at(place));
    all.sort((a, b) => Math.sign(rank(a) - rank(b)) || compare(a.display, b.display) || a.place - b.place);
    const isHere = (person) => person.here || person.name === me;
    return { here: all.filter(isHere), away: all.filter((person) => !isHere(person)) };
  }

  /** @returns {boolean} whether several hands are raised, so that their places in the queue are of interest */
  get isQueue() {
    return this.#isQueue;
  }

  /** @returns {number[]} indices of the recent talkers, in the order of their positions on the stage */
  get speakers() {
    return this.#speakers;
  }

  /** Notes whether several hands are raised. Each row needs this value, so it is computed only once for each change. */
  #noteQueue() {
    this.#isQueue = this.#states.some((state) => state >> PLACE_SHIFT > 1);
  }

  #talks(place) {
    const level = this.#levels[place];
    return level > 0 && level < MUTED_BY_HOST;
  }

  #seat(place) {
    this.#turns += 1;
    this.#lastTurn.set(place, this.#turns);
    if (this.#speakers.includes(place)) return;
    if (this.#speakers.length < SPEAKERS) {
      this.#speakers = [...this.#speakers, place];
      return;
    }
    const silent = this.#speakers.filter((other) => !this.#talks(other));
    if (silent.length === 0) return;
    const leaver = silent.reduce((a, b) => (this.#lastTurn.get(a) < this.#lastTurn.get(b) ? a : b));
    this.#speakers = this.#speakers.map((other) => (other === leaver ? place : other));
  }
}

/** Writes the marks into `values` and returns the indices whose value changed. Ignores indices beyond the list. */
function applyMarks(values, marks) {
  const before = values.slice();
  const touched = new Set();
  for (const [place, value] of marks) {
    if (place === ALL) {
      values.fill(value);
      before.forEach((_, other) => touched.add(other));
    } else if (place < values.length) {
      values[place] = value;
      touched.add(place);
    }
  }
  return [...touched].filter((place) => values[place] !== before[place]);
}
