/**
 * Converts times on the sound card's clock to wall-clock time. Pure.
 *
 * A message from the worklet arrives late by an unknown, varying time, but never early. The smallest recent difference between arrival
 * and card time is therefore the offset of the clocks. Old differences are forgotten, because the clocks drift. The device's
 * input latency isn't included.
 */

const WINDOW_MS = 10000;

/** A minimum filter over the last 10 to 20 s. */
export class ClockMap {
  #older = Infinity;
  #newer = Infinity;
  #turnMs = -Infinity;

  /**
   * @param {number} cardMs card time at which the message was sent
   * @param {number} wallMs wall-clock time at which it arrived
   */
  observe(cardMs, wallMs) {
    if (wallMs - this.#turnMs > WINDOW_MS) {
      this.#older = this.#newer;
      this.#newer = Infinity;
      this.#turnMs = wallMs;
    }
    this.#newer = Math.min(this.#newer, wallMs - cardMs);
  }

  /**
   * @param {number} cardMs
   * @returns {number} wall-clock ms
   */
  wallMs(cardMs) {
    return cardMs + Math.min(this.#older, this.#newer);
  }
}
