/**
 * Everybody in the room, as the stream's marks tell it: who is here, who shows what, who talks how loud. Pure: it knows
 * no page. A room of hundreds is as cheap as a small one, since each change names only those whom it concerns.
 */

const EVERYBODY = 65535;
const HERE = 1;
const HAND = 2;
const MUTED = 4;
const LISTENING = 8;
const MUTED_BY_OPERATOR = 255;
/** So many of those who talked last are shown in front of a crowd. */
const SPEAKERS = 6;

/**
 * @typedef {{name: string, display: string, place: number, here: boolean, hand: boolean, muted: boolean, listening: boolean,
 *   talking: boolean, operatorMuted: boolean, dbfs: number}} Person
 */

/** The people of one room. */
export class Crowd {
  #people = [];
  #states = new Uint8Array(0);
  #levels = new Uint8Array(0);
  /** Places of those who talked last; each keeps its seat until somebody else needs it. */
  #speakers = [];
  #turns = 0;
  #talkedLast = new Map();

  /** @returns {number} how many belong to the room */
  get size() {
    return this.#people.length;
  }

  /**
   * @param {{name: string, display: string}[]} people
   * @param {import('./records.js').Mark[]} states
   */
  setPeople(people, states) {
    const talked = new Map(this.#speakers.map((place) => [this.#people[place].name, this.#talkedLast.get(place)]));
    this.#people = people;
    this.#states = new Uint8Array(people.length);
    this.#levels = new Uint8Array(people.length);
    mark(this.#states, states);
    this.#talkedLast.clear();
    this.#speakers = [];
    people.forEach(({ name }, place) => {
      if (!talked.has(name)) return;
      this.#speakers.push(place);
      this.#talkedLast.set(place, talked.get(name));
    });
  }

  /**
   * @param {import('./records.js').Mark[]} marks
   * @returns {number[]} the places that changed
   */
  setStates(marks) {
    return mark(this.#states, marks);
  }

  /**
   * @param {import('./records.js').Mark[]} marks
   * @returns {number[]} the places that changed
   */
  setLevels(marks) {
    const changed = mark(this.#levels, marks);
    for (const place of changed) if (this.#talks(place)) this.#seat(place);
    return changed;
  }

  /** @returns {number[]} the places that changed: everybody is silent, what was known is stale */
  hush() {
    return mark(this.#levels, [[EVERYBODY, 0]]);
  }

  /**
   * @param {number} place
   * @returns {Person}
   */
  person(place) {
    const [state, level] = [this.#states[place], this.#levels[place]];
    const { name, display } = this.#people[place];
    return {
      name,
      display: display || name,
      place,
      here: (state & HERE) !== 0,
      hand: (state & HAND) !== 0,
      muted: (state & MUTED) !== 0,
      listening: (state & LISTENING) !== 0,
      talking: this.#talks(place),
      operatorMuted: level === MUTED_BY_OPERATOR,
      dbfs: this.#talks(place) ? -level : -Infinity,
    };
  }

  /** @returns {Person | null} */
  named(name) {
    const place = this.#people.findIndex((person) => person.name === name);
    return place < 0 ? null : this.person(place);
  }

  /**
   * Oneself first, then raised hands, then who is here, each by name, and those who are away apart.
   * @param {string} me login name
   * @returns {{here: Person[], away: Person[]}}
   */
  seated(me) {
    const rank = (person) => (person.name === me ? 0 : person.hand && person.here ? 1 : 2);
    const { compare } = new Intl.Collator();
    const all = this.#people.map((_, place) => this.person(place));
    all.sort((a, b) => rank(a) - rank(b) || compare(a.display, b.display) || a.place - b.place);
    const isHere = (person) => person.here || person.name === me;
    return { here: all.filter(isHere), away: all.filter((person) => !isHere(person)) };
  }

  /** @returns {number[]} places of who talks or talked last, in the order of their seats */
  get speakers() {
    return this.#speakers;
  }

  #talks(place) {
    const level = this.#levels[place];
    return level > 0 && level < MUTED_BY_OPERATOR;
  }

  #seat(place) {
    this.#turns += 1;
    this.#talkedLast.set(place, this.#turns);
    if (this.#speakers.includes(place)) return;
    if (this.#speakers.length < SPEAKERS) {
      this.#speakers = [...this.#speakers, place];
      return;
    }
    const silent = this.#speakers.filter((other) => !this.#talks(other));
    if (silent.length === 0) return;
    const leaver = silent.reduce((a, b) => (this.#talkedLast.get(a) < this.#talkedLast.get(b) ? a : b));
    this.#speakers = this.#speakers.map((other) => (other === leaver ? place : other));
  }
}

/** Puts the marks into `values`; what isn't in the list is passed over. */
function mark(values, marks) {
  const before = values.slice();
  const touched = new Set();
  for (const [place, value] of marks) {
    if (place === EVERYBODY) {
      values.fill(value);
      before.forEach((_, other) => touched.add(other));
    } else if (place < values.length) {
      values[place] = value;
      touched.add(place);
    }
  }
  return [...touched].filter((place) => values[place] !== before[place]);
}
