/**
 * Tells the wall-clock time of a moment on the sound card's clock.
 *
 * A message from the worklet comes late by an unknown and varying time, but never early: the smallest difference seen
 * lately between arrival and card time is the map, the rest is delay. Two windows make it forget, because the two
 * clocks drift. It knows nothing of the device's own input delay.
 */

const WINDOW_MS = 10000;

/** A minimum filter over the last 10 to 20 s. */
export class ClockMap {
  #older = Infinity;
  #newer = Infinity;
  #turnMs = -Infinity;

  /**
   * @param {number} cardMs time on the card's clock at which the message was sent
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
