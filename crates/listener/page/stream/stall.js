/**
 * Computes how long a stream may be without a record before it is suspected to be dead. Pure: time is an argument.
 *
 * While there is sound, a record comes with every chunk; in silence, every 2 s. The longest pause of each second with sound is kept
 * for two minutes. The timeout is a little more than twice the longest of these. It is longer while little is known about the line, and
 * on a line that stalls.
 */

/** Interval between records in silence. */
const SILENCE_MS = 2000;
const BIN_MS = 1000;
/** Number of bins that are kept, each with the longest pause of one second. */
const BINS = 120;
/** Number of bins from which on the timeout depends on the observed pauses. */
const LEARNT_BINS = 15;
const MIN_TIMEOUT_MS = 250;
const MAX_TIMEOUT_MS = 1200;
const FACTOR = 2;
const MARGIN_MS = 100;

/** The pauses of one stream. */
export class StallDetector {
  #lastMs = NaN;
  #silent = true;
  #bins = [];
  #binMs = -Infinity;

  /**
   * Notes a record.
   * @param {number} nowMs
   * @param {boolean} silent whether the room is silent from now on
   */
  heard(nowMs, silent) {
    if (!this.#silent && !Number.isNaN(this.#lastMs)) this.#remember(nowMs, nowMs - this.#lastMs);
    this.#lastMs = nowMs;
    this.#silent = silent;
  }

  /** Ignores the pause that ends with the next record, because the network didn't cause that pause. */
  restart() {
    this.#lastMs = NaN;
  }

  /** @returns {number} the timeout in ms */
  get limitMs() {
    if (this.#silent) return SILENCE_MS + MAX_TIMEOUT_MS;
    if (this.#bins.length < LEARNT_BINS) return MAX_TIMEOUT_MS;
    return Math.min(MAX_TIMEOUT_MS, Math.max(MIN_TIMEOUT_MS, MARGIN_MS + FACTOR * Math.max(...this.#bins)));
  }

  #remember(nowMs, pauseMs) {
    if (nowMs - this.#binMs > BIN_MS) {
      this.#bins.push(0);
      if (this.#bins.length > BINS) this.#bins.shift();
      this.#binMs = nowMs;
    }
    const last = this.#bins.length - 1;
    this.#bins[last] = Math.max(this.#bins[last], pauseMs);
  }
}
