/**
 * Computes a bit rate from a counter of bytes. Pure: time is an argument.
 */

/** Time over which the bit rate is computed. */
const WINDOW_MS = 10_000;

/** The bit rate of one direction. */
export class BitRate {
  #samples = [];

  /**
   * @param {number} bytes since the start
   * @param {number} nowMs
   */
  note(bytes, nowMs) {
    if (bytes < (this.#samples.at(-1)?.bytes ?? 0)) this.#samples = [];
    this.#samples = [...this.#samples.filter((sample) => nowMs - sample.nowMs <= WINDOW_MS), { nowMs, bytes }];
  }

  /** @returns {number} kbit/s */
  get kbps() {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    return first && last.nowMs > first.nowMs ? (8 * (last.bytes - first.bytes)) / (last.nowMs - first.nowMs) : 0;
  }
}
