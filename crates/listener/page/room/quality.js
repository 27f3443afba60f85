/**
 * Rates the participant's own connection by the sound that was missing or late in the last seconds. Pure: time is an argument.
 */

/** Time over which the connection is rated. */
const WINDOW_MS = 10000;
/** Minimum number of missing chunks that makes the connection weak, in both directions together, within `WINDOW_MS`. With chunks of 40 ms this is 400 ms of sound. */
const WEAK_LOSSES = 10;
/** Buffered sound from which on the connection is weak, because the delay disturbs a conversation. */
const WEAK_MARGIN_MS = 250;

/** The quality of one stay in the room. */
export class Quality {
  #samples = [];

  /**
   * @param {{lost: number, stretches: number, dropped: number, marginMs: number}} figures counters since joining: chunks lost on the way to the
   *   page, gaps that the player concealed, chunks that the page could not send in time
   * @param {number} nowMs
   * @returns {boolean} whether the connection is weak
   */
  isWeak({ lost, stretches, dropped, marginMs }, nowMs) {
    const count = lost + stretches + dropped;
    const [oldest] = this.#samples;
    // The player's counters begin again at 0 with a new worklet, for example after another sound card was chosen. Without a worklet they are 0.
    if (oldest && count < oldest.count) this.#samples = [];
    this.#samples = [...this.#samples.filter((sample) => nowMs - sample.nowMs <= WINDOW_MS), { nowMs, count }];
    return count - this.#samples[0].count >= WEAK_LOSSES || marginMs >= WEAK_MARGIN_MS;
  }
}
