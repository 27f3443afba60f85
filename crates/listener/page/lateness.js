/**
 * How unevenly the network delivers, learnt from the chunks themselves.
 *
 * A chunk is late by how much more than the quickest chunk lately it took. Each second of sound gives its largest lateness
 * to a memory of 2 minutes. What happens in one second of thirty is the line, and the player must hold enough back for it.
 * What is rarer is bridged by saying a little again; for what happened twice and is longer than that, more is held back.
 * What happened once is fate and may be heard. While less is known the memory is half of what was heard, since a page is
 * late again and again while it begins, and never after. It is told the time, on the sound card's clock, and touches no
 * sample.
 */

const BASE_MS = 5000;
const BIN_MS = 1000;
const BINS = 120;
/** No conversation bears more: what is later is an outage, and nothing is learnt from it. */
const OUTAGE_MS = 450;
/** Covers what the sound card's own unevenness and the fade at the end of the ring take. */
const SAFE_MS = 8;
const SELDOM_BINS = 30;
/** So much of what is rare the player bridges. */
const BRIDGED_MS = 50;
/** What happened once lately is provided for if it costs no more than this; in the first seconds, of which little is known, more. */
const CHEAP_MS = 40;
const CHEAP_AT_FIRST_MS = 100;
const LEAST_MS = 12;
const START_MS = 25;
const LEARNT_BINS = 10;
const LEAST_BINS = 5;

/** The lateness of one stream's chunks. */
export class Lateness {
  #positionMs = 0;
  #older = Infinity;
  #newer = Infinity;
  #turnMs = -Infinity;
  #bins = [];
  #seen = 0;
  #binMs = -Infinity;
  #outage = false;
  #neededMs = START_MS;

  /** What comes next doesn't continue what came before: how quick the network is has to be seen anew. */
  restart() {
    this.#positionMs = 0;
    this.#older = Infinity;
    this.#newer = Infinity;
    this.#turnMs = -Infinity;
  }

  /**
   * @param {number} nowMs on the sound card's clock
   * @param {number} lengthMs of the chunk that has just come
   * @param {boolean} counts whether its lateness says something about the line
   * @returns {number} how late it was, in ms
   */
  arrived(nowMs, lengthMs, counts) {
    this.#positionMs += lengthMs;
    const took = nowMs - this.#positionMs;
    if (nowMs - this.#turnMs > BASE_MS) {
      this.#older = this.#newer;
      this.#newer = took;
      this.#turnMs = nowMs;
    }
    this.#newer = Math.min(this.#newer, took);
    const lateMs = took - Math.min(this.#older, this.#newer);
    if (counts) this.#remember(nowMs, lateMs);
    return lateMs;
  }

  /** @returns {number} what must be held back so that what comes later than that is bridged */
  get neededMs() {
    return this.#neededMs;
  }

  /** @returns {number} the lateness that this line has shown twice in two minutes */
  get jitterMs() {
    return this.#worst[1] ?? 0;
  }

  /** The largest lateness first. */
  get #worst() {
    return [...this.#bins].sort((a, b) => b - a);
  }

  #remember(nowMs, lateMs) {
    // What had piled up behind an outage is late because of it.
    this.#outage = lateMs > (this.#outage ? this.#neededMs : OUTAGE_MS);
    if (this.#outage) return;
    if (nowMs - this.#binMs > BIN_MS) {
      this.#bins.push(0);
      this.#seen += 1;
      if (this.#bins.length > Math.min(BINS, Math.max(LEAST_BINS, this.#seen / 2))) this.#bins.shift();
      this.#binMs = nowMs;
    }
    const last = this.#bins.length - 1;
    this.#bins[last] = Math.max(this.#bins[last], lateMs);
    const worst = this.#worst;
    const learnt = this.#seen > LEARNT_BINS;
    const cheap = worst[0] <= (learnt ? CHEAP_MS : CHEAP_AT_FIRST_MS);
    const seldom = Math.max(cheap ? 0 : 1, Math.floor(worst.length / SELDOM_BINS));
    const lateEnoughMs = Math.max(worst[seldom] ?? 0, (worst[1] ?? 0) - BRIDGED_MS);
    this.#neededMs = Math.max(learnt ? LEAST_MS : START_MS, SAFE_MS + lateEnoughMs);
  }
}
