/**
 * Decides how much sound the player holds back: as little as the network's unevenness lately allowed.
 *
 * What counts is the lowest fill, just before a chunk arrives: that is sound which was waited for in vain. It is
 * compared with a margin, which grows by 10 ms with every underrun and slowly comes back. The speed stays exactly 1
 * within a wide dead band, because every other speed costs exactness; two crystals differ by less than 0.02 %, so
 * ±0.1 % always suffices. It is told the time by its owner and touches no sample.
 */

const START_MARGIN_MS = 25;
const MAX_MARGIN_MS = 250;
const UNDERRUN_MS = 10;
const BACK_MS_PER_S = 0.1;
const BIN_MS = 500;
const BINS = 8;
const TRUSTED_AFTER_MS = 2000;
const GUESSED_AFTER_MS = 400;
const GUESS_BINS = 2;
const BEND = 0.001;
const BAND = { fastMs: 20, slowMs: -15, doneMs: 2 };

/** Follows the lowest fill of the last 4 s of playing. */
export class Depth {
  #bins = [];
  #binAgeMs = 0;
  #seenMs = 0;
  #bend = 0;
  marginMs = START_MARGIN_MS;

  /** Forgets what was seen, since a new spurt starts with a depth of its own. The margin stays. */
  restart() {
    this.#bins = [];
    this.#binAgeMs = 0;
    this.#seenMs = 0;
    this.#bend = 0;
  }

  /**
   * @param {number} fillMs what is in the ring now
   * @param {number} passedMs since the last call
   */
  observe(fillMs, passedMs) {
    this.#seenMs += passedMs;
    this.#binAgeMs += passedMs;
    if (this.#bins.length === 0 || this.#binAgeMs > BIN_MS) this.#nextBin();
    const last = this.#bins.length - 1;
    this.#bins[last] = Math.min(this.#bins[last], fillMs);
    this.marginMs = Math.max(START_MARGIN_MS, this.marginMs - (BACK_MS_PER_S * passedMs) / 1000);
  }

  /** The ring ran dry while somebody was speaking. */
  underrun() {
    this.marginMs = Math.min(MAX_MARGIN_MS, this.marginMs + UNDERRUN_MS);
  }

  /** @param {number} ms that were cut out of the ring; a low from before a burst arrived stays what it was */
  shortened(ms) {
    this.#bins = this.#bins.map((lowMs) => (lowMs > ms ? lowMs - ms : lowMs));
  }

  /** @returns {number} lowest fill of the last seconds; NaN when there is none */
  get lowMs() {
    return this.#bins.length === 0 ? NaN : Math.min(...this.#bins);
  }

  /** @returns {number} ms that could go without harm; negative if some are missing; 0 until enough was seen */
  get surplusMs() {
    return this.#seenMs < TRUSTED_AFTER_MS ? 0 : this.lowMs - this.marginMs;
  }

  /** @returns {number} the same by a much shorter look, for the first seconds, in which nobody minds a jump */
  get guessedSurplusMs() {
    return this.#seenMs < GUESSED_AFTER_MS ? 0 : Math.min(...this.#bins.slice(-GUESS_BINS)) - this.marginMs;
  }

  /** @returns {number} how fast the ring is to be read: 0.999, 1 or 1.001 */
  get speed() {
    const surplusMs = this.surplusMs;
    if (surplusMs > BAND.fastMs) this.#bend = BEND;
    else if (surplusMs < BAND.slowMs) this.#bend = -BEND;
    else if (this.#bend * (surplusMs - Math.sign(this.#bend) * BAND.doneMs) <= 0) this.#bend = 0;
    return 1 + this.#bend;
  }

  #nextBin() {
    this.#bins.push(Infinity);
    if (this.#bins.length > BINS) this.#bins.shift();
    this.#binAgeMs = 0;
  }
}
