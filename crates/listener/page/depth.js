/**
 * Decides how much sound the player holds back: as little as the network's unevenness lately allows.
 *
 * What lateness.js has learnt is the margin; it grows at once and comes back slowly, and every underrun adds a little.
 * What a punctual chunk finds in the ring, compared with the margin, is surplus or missing. The speed stays exactly 1
 * within a wide dead band, because every other speed costs exactness; two crystals differ by less than 0.03 %, so
 * ±0.1 % always suffices. It is told the time by its owner and touches no sample.
 */

import { Lateness } from './lateness.js';

const MAX_MARGIN_MS = 460;
const UNDERRUN_MS = 5;
const FORGIVEN_AFTER_MS = 60000;
const BACK_MS_PER_S = 5;
const BIN_MS = 500;
const BINS = 8;
const BEND = 0.001;
const BAND = { fastMs: 20, slowMs: -5, doneMs: 2 };

/** The depth of one stream's player. */
export class Depth {
  #lateness = new Lateness();
  #penaltyMs = 0;
  #punctualMs = NaN;
  #bend = 0;
  #lows = [];
  #lowAgeMs = 0;
  marginMs = this.#lateness.neededMs;

  /** A new spurt starts with a depth of its own. What was learnt stays. */
  restart() {
    this.#lateness.restart();
    this.#punctualMs = NaN;
    this.#bend = 0;
    this.#lows = [];
  }

  /**
   * @param {number} nowMs on the sound card's clock
   * @param {number} lengthMs of the chunk that has just come
   * @param {number} fillMs what was in the ring before it; NaN while the ring isn't being read
   * @param {boolean} counts whether its lateness says something about the line
   */
  arrived(nowMs, lengthMs, fillMs, counts) {
    const lateMs = this.#lateness.arrived(nowMs, lengthMs, counts);
    // Had it been punctual, it would have found so much more.
    this.#punctualMs = fillMs + lateMs;
  }

  /**
   * @param {number} fillMs what is in the ring now
   * @param {number} passedMs since the last call
   */
  passed(fillMs, passedMs) {
    this.#penaltyMs *= 1 - passedMs / FORGIVEN_AFTER_MS;
    const wantedMs = Math.min(MAX_MARGIN_MS, this.#lateness.neededMs + this.#penaltyMs);
    this.marginMs = Math.max(wantedMs, this.marginMs - (BACK_MS_PER_S * passedMs) / 1000);
    // The ring is read so much faster or slower than it is filled.
    this.#punctualMs -= this.#bend * passedMs;
    this.#noteLow(fillMs, passedMs);
  }

  /** The ring ran dry while somebody was speaking. */
  underrun() {
    this.#penaltyMs += UNDERRUN_MS;
  }

  /** @param {number} ms that were cut out of the ring; negative: that are read again */
  shortened(ms) {
    this.#punctualMs -= ms;
    if (ms > 0) this.#lows = this.#lows.map((lowMs) => Math.max(0, lowMs - ms));
  }

  /** @returns {number} lowest fill of the last 4 s; NaN when there is none */
  get lowMs() {
    return this.#lows.length === 0 ? NaN : Math.min(...this.#lows);
  }

  /** @returns {number} see {@link Lateness#jitterMs} */
  get jitterMs() {
    return this.#lateness.jitterMs;
  }

  /** @returns {number} ms that could go without harm; negative if some are missing; 0 until a chunk has told */
  get surplusMs() {
    return Number.isNaN(this.#punctualMs) ? 0 : this.#punctualMs - this.marginMs;
  }

  /** @returns {number} how fast the ring is to be read: 0.999, 1 or 1.001 */
  get speed() {
    const surplusMs = this.surplusMs;
    if (surplusMs > BAND.fastMs) this.#bend = BEND;
    else if (surplusMs < BAND.slowMs) this.#bend = -BEND;
    else if (this.#bend * (surplusMs - Math.sign(this.#bend) * BAND.doneMs) <= 0) this.#bend = 0;
    return 1 + this.#bend;
  }

  #noteLow(fillMs, passedMs) {
    this.#lowAgeMs += passedMs;
    if (this.#lows.length === 0 || this.#lowAgeMs > BIN_MS) {
      this.#lows.push(Infinity);
      if (this.#lows.length > BINS) this.#lows.shift();
      this.#lowAgeMs = 0;
    }
    const last = this.#lows.length - 1;
    this.#lows[last] = Math.min(this.#lows[last], fillMs);
  }
}
