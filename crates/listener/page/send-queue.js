/**
 * What the microphone made and the network has not yet taken: the newest 300 ms, the oldest goes first.
 * Speech that would come later than that is better not said.
 */

const MAX_MS = 300;

/** @typedef {{number: number, samples: Int16Array, wallMs: number}} QueuedChunk */

/** A queue with a maximum age. */
export class SendQueue {
  /** @type {QueuedChunk[]} */
  #chunks = [];
  #frames = 0;
  #number = 0;
  /** Chunks that were too old. */
  dropped = 0;

  /** @param {number} rateHz of the samples */
  constructor(rateHz) {
    this.rateHz = rateHz;
  }

  /** @returns {number} the number that the next chunk gets: a dropped one leaves a hole, which tells the listener */
  get nextNumber() {
    return this.#number;
  }

  /** @param {{samples: Int16Array, wallMs: number}} chunk */
  push({ samples, wallMs }) {
    this.#chunks.push({ number: this.#number, samples, wallMs });
    this.#number += 1;
    this.#frames += samples.length;
    this.#trim();
  }

  /**
   * @param {QueuedChunk[]} chunks that were taken out and that nobody has taken, oldest first: said again if they are young
   * @param {number} wallMs now, on the clock of the chunks' own
   */
  putBack(chunks, wallMs) {
    this.#chunks = [...chunks, ...this.#chunks];
    this.#frames += chunks.reduce((sum, { samples }) => sum + samples.length, 0);
    while (this.#chunks.length > 0 && wallMs - this.#chunks[0].wallMs > MAX_MS) this.#dropOldest();
    this.#trim();
  }

  /** @returns {QueuedChunk[]} everything, oldest first; the queue is empty afterwards */
  takeAll() {
    const chunks = this.#chunks;
    this.#chunks = [];
    this.#frames = 0;
    return chunks;
  }

  #trim() {
    while (this.#frames * 1000 > MAX_MS * this.rateHz && this.#chunks.length > 1) this.#dropOldest();
  }

  #dropOldest() {
    this.#frames -= this.#chunks.shift().samples.length;
    this.dropped += 1;
  }
}
