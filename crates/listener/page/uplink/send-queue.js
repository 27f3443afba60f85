/**
 * Queues the microphone's chunks until the network takes them. Drops the oldest when they are older than 300 ms: late speech only
 * disturbs.
 */

const MAX_MS = 300;

/** @typedef {{number: number, samples: Int16Array, wallMs: number}} QueuedChunk */

/** A queue of chunks with a maximum age. */
export class SendQueue {
  /** @type {QueuedChunk[]} */
  #chunks = [];
  #frames = 0;
  #number = 0;
  /** Number of chunks that were dropped. */
  dropped = 0;

  /** @param {number} rateHz of the samples */
  constructor(rateHz) {
    this.rateHz = rateHz;
  }

  /** @returns {number} number of the next chunk; dropped chunks leave a gap in the numbers, which the listener sees */
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
   * Puts back chunks that the listener didn't accept, unless they are older than 300 ms.
   * @param {QueuedChunk[]} chunks oldest first
   * @param {number} wallMs current wall-clock time
   */
  putBack(chunks, wallMs) {
    this.#chunks = [...chunks, ...this.#chunks];
    this.#frames += chunks.reduce((sum, { samples }) => sum + samples.length, 0);
    while (this.#chunks.length > 0 && wallMs - this.#chunks[0].wallMs > MAX_MS) this.#dropOldest();
    this.#trim();
  }

  /** @returns {QueuedChunk[]} all chunks, oldest first; empties the queue */
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
