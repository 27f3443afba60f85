/**
 * Decides how much sound the player buffers: as little as the network's recent jitter allows. Time is an argument; it touches no sample.
 *
 * The margin is the lateness that lateness.js computes, plus 5 ms for each underrun. The margin grows at once and shrinks slowly. Surplus
 * is the fill of the ring above the margin when a punctual chunk arrives. The playing speed is exactly 1 within a wide band of surplus,
 * because any other speed alters the samples. Two sound cards differ by less than 0.03 %, so ±0.1 % is always enough.
 */

import { LatenessTracker } from './lateness.js';

const MAX_MARGIN_MS = 460;
/** Added to the margin for each underrun. */
const UNDERRUN_MS = 5;
/** Time constant with which UNDERRUN_MS decays in the margin. */
const FORGIVEN_AFTER_MS = 60000;
/** Maximum rate at which the margin shrinks. */
const SHRINK_MS_PER_S = 5;
const BIN_MS = 500;
/** Number of bins that are kept, each with the lowest fill of half a second. */
const BINS = 8;
/** Difference of the playing speed from 1. */
const BEND = 0.001;
/** Surplus at which the speed changes: above `fastMs` the speed rises, below `slowMs` it falls, and within `doneMs` of 0 it returns to 1. */
const BAND = { fastMs: 20, slowMs: -5, doneMs: 2 };

/** The buffer depth of one stream. */
export class BufferDepth {
  #lateness = new LatenessTracker();
  #penaltyMs = 0;
  #punctualMs = NaN;
  #bend = 0;
  #lows = [];
  #lowAgeMs = 0;
  marginMs = this.#lateness.neededMs;

  /** Starts a new spurt. Keeps the lateness that was measured before. */
  restart() {
    this.#lateness.restart();
    this.#punctualMs = NaN;
    this.#bend = 0;
    this.#lows = [];
  }

  /**
   * @param {number} nowMs on the sound card's clock
   * @param {number} lengthMs of the chunk that has arrived
   * @param {number} fillMs of the ring before the chunk; NaN while the ring isn't played
   * @param {boolean} counts whether the network caused the chunk's lateness
   */
  arrived(nowMs, lengthMs, fillMs, counts) {
    const lateMs = this.#lateness.arrived(nowMs, lengthMs, counts);
    // The fill that the ring would have if the chunk had been punctual. While a clock and not the network may be the cause of the lateness,
    // `#punctualMs` stays as it was.
    if (!this.#lateness.isInDoubt || Number.isNaN(fillMs)) this.#punctualMs = fillMs + lateMs;
  }

  /**
   * Updates the margin: it rises at once to what lateness and underruns require, and shrinks slowly. Call it regularly.
   * @param {number} fillMs duration of the sound that waits in the ring
   * @param {number} passedMs time since the last call
   */
  passed(fillMs, passedMs) {
    this.#penaltyMs *= 1 - passedMs / FORGIVEN_AFTER_MS;
    const wantedMs = Math.min(MAX_MARGIN_MS, this.#lateness.neededMs + this.#penaltyMs);
    this.marginMs = Math.max(wantedMs, this.marginMs - (SHRINK_MS_PER_S * passedMs) / 1000);
    this.#punctualMs -= this.#bend * passedMs;
    this.#noteLow(fillMs, passedMs);
  }

  /** Enlarges the margin, because the ring ran empty within a spurt. */
  underrun() {
    this.#penaltyMs += UNDERRUN_MS;
  }

  /** @param {number} ms of sound cut out of the ring; negative for sound that is played twice */
  shortened(ms) {
    this.#punctualMs -= ms;
    if (ms > 0) this.#lows = this.#lows.map((lowMs) => Math.max(0, lowMs - ms));
  }

  /** @returns {number} lowest fill of the ring in the last 4 s, in ms; NaN if unknown */
  get lowMs() {
    return this.#lows.length === 0 ? NaN : Math.min(...this.#lows);
  }

  /** @returns {number} see {@link LatenessTracker#jitterMs} */
  get jitterMs() {
    return this.#lateness.jitterMs;
  }

  /** @returns {number} fill of the ring above the margin, in ms; negative below the margin; 0 while unknown */
  get surplusMs() {
    return Number.isNaN(this.#punctualMs) ? 0 : this.#punctualMs - this.marginMs;
  }

  /** @returns {number} playing speed: 0.999, 1 or 1.001 */
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
