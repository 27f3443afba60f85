/**
 * Converts times on the sound card's clock to wall-clock time. Pure.
 *
 * A message from the worklet arrives late by an unknown, varying time, but never early. The smallest recent difference between arrival
 * and card time is therefore the offset of the clocks. Old differences are forgotten, because the clocks drift. The device's
 * input latency isn't included.
 *
 * If the sound card stands still, the offset grows. Messages that the page's main thread delayed come faster than their sound was captured. If
 * late messages come at the pace of the capture, the card has stood still, and old differences are forgotten at once.
 */

const WINDOW_MS = 10000;
/** Minimum difference to the offset of a message that counts as late. */
const LATE_MS = 100;
/** Minimum time between the first and the last of several late messages before their pace is known. */
const PACE_MS = 100;

/** A minimum filter over the last 10 to 20 s. */
export class ClockMap {
  #older = Infinity;
  #newer = Infinity;
  #turnMs = -Infinity;
  /** The first of the last messages that are all late. */
  #firstLate = null;

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
    if (this.#stoodStill(wallMs, wallMs - cardMs)) {
      this.#older = Infinity;
      this.#newer = Infinity;
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

  /** Returns whether late messages come at less than 1.5 times the pace at which their sound was captured. */
  #stoodStill(wallMs, offsetMs) {
    if (offsetMs - Math.min(this.#older, this.#newer, offsetMs) < LATE_MS) {
      this.#firstLate = null;
      return false;
    }
    this.#firstLate ??= { wallMs, offsetMs };
    const elapsedMs = wallMs - this.#firstLate.wallMs;
    return elapsedMs >= PACE_MS && 2 * (this.#firstLate.offsetMs - offsetMs) < elapsedMs;
  }
}
