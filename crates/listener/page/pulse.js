/**
 * How long a stream may say nothing before it is doubted. Pure: time is an argument.
 *
 * While there is sound, a record comes with every chunk; in silence one comes every 2 s. What lies between two records of
 * a sound beyond that is the line's doing: the longest pause of each second is remembered for two minutes, and twice the
 * longest of these is strange on this line. A line of which little is known, and one that stalls, are given more time.
 */

const SILENCE_MS = 2000;
const BIN_MS = 1000;
const BINS = 120;
const LEARNT_BINS = 15;
const LEAST_MS = 250;
const MOST_MS = 1200;
const STRANGE = 2;
const SAFE_MS = 100;

/** The pauses of one stream. */
export class Pulse {
  #lastMs = NaN;
  #silent = true;
  #bins = [];
  #binMs = -Infinity;

  /**
   * A record has come.
   * @param {number} nowMs
   * @param {boolean} silent whether the room is silent from now on
   */
  heard(nowMs, silent) {
    if (!this.#silent && !Number.isNaN(this.#lastMs)) this.#remember(nowMs, nowMs - this.#lastMs);
    this.#lastMs = nowMs;
    this.#silent = silent;
  }

  /** The pause that ends now was no doing of the line's. */
  restart() {
    this.#lastMs = NaN;
  }

  /** @returns {number} after so much without a record there is reason to doubt */
  get limitMs() {
    if (this.#silent) return SILENCE_MS + MOST_MS;
    if (this.#bins.length < LEARNT_BINS) return MOST_MS;
    return Math.min(MOST_MS, Math.max(LEAST_MS, SAFE_MS + STRANGE * Math.max(...this.#bins)));
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
