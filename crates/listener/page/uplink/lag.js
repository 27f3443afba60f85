/**
 * Measures how late the listener receives the chunks, by its acknowledgements. The buffers of the operating system and of a slow line can hold
 * many seconds of sound, of which `WebSocket.bufferedAmount` knows nothing. Pure: time is an argument.
 */

/** Time after which an acknowledgement comes at the latest when nothing is late: the listener's interval, and the length of a chunk. */
const USUAL_MS = 150;
/** Time for which the quickest acknowledgement is remembered; the maximum is twice this time. */
const BASE_MS = 30_000;
/** Maximum number of chunks that are remembered. */
const MAX_CHUNKS = 1000;

/** The lag of one connection. */
export class Lag {
  /** Chunks without an acknowledgement, oldest first. */
  #waiting = [];
  #older = Infinity;
  #newer = Infinity;
  #turnMs = -Infinity;

  /** Notes a chunk that was sent. @param {number} number; @param {number} wallMs when its first sample was captured */
  sent(number, wallMs) {
    this.#waiting.push({ number, wallMs });
    if (this.#waiting.length > MAX_CHUNKS) this.#waiting.shift();
  }

  /** Notes that the listener has received the chunk with this number. @param {number} number; @param {number} wallMs the present */
  acknowledged(number, wallMs) {
    const index = this.#waiting.findIndex((chunk) => chunk.number === number);
    if (index < 0) return;
    this.#note(wallMs - this.#waiting[index].wallMs, wallMs);
    this.#waiting.splice(0, index + 1);
  }

  /**
   * @param {number} wallMs the present
   * @returns {number} how much later than usual the oldest chunk is that the listener has not acknowledged, in ms; 0 if the listener acknowledges nothing
   */
  lateMs(wallMs) {
    const usual = Math.min(this.#older, this.#newer);
    if (this.#waiting.length === 0 || usual === Infinity) return 0;
    return Math.max(0, wallMs - this.#waiting[0].wallMs - usual - USUAL_MS);
  }

  #note(delayMs, wallMs) {
    if (wallMs - this.#turnMs >= BASE_MS) {
      [this.#older, this.#newer] = [this.#newer, Infinity];
      this.#turnMs = wallMs;
    }
    this.#newer = Math.min(this.#newer, delayMs);
  }
}
