/**
 * Queues the microphone's chunks until the network takes them. Drops the oldest when they are older than 300 ms: late speech only
 * disturbs.
 */

const MAX_MS = 300;
/** Maximum age of a queued chunk. While the microphone is muted, no newer chunk pushes the old ones out. */
const MAX_AGE_MS = 600;

/**
 * @typedef {{samples: Int16Array, wallMs: number} | {packets: Uint8Array[], frames: number, wallMs: number}} MicrophoneChunk PCM, or packets of Opus with
 *   the number of their samples
 * @typedef {{number: number} & MicrophoneChunk} QueuedChunk
 */

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

  /** @returns {number} length of the queued sound in ms */
  get heldMs() {
    return (1000 * this.#frames) / this.rateHz;
  }

  /** @param {MicrophoneChunk} chunk */
  push(chunk) {
    this.#chunks.push({ number: this.#number, ...chunk });
    this.#number += 1;
    this.#frames += framesOf(chunk);
    this.#trim();
  }

  /**
   * Puts back chunks that the listener didn't accept, unless they are older than 300 ms.
   * @param {QueuedChunk[]} chunks oldest first
   * @param {number} wallMs current wall-clock time
   */
  putBack(chunks, wallMs) {
    this.#chunks = [...chunks, ...this.#chunks];
    this.#frames += chunks.reduce((sum, chunk) => sum + framesOf(chunk), 0);
    while (this.#chunks.length > 0 && wallMs - this.#chunks[0].wallMs > MAX_MS) this.#dropOldest();
    this.#trim();
  }

  /** Drops chunks that are older than 600 ms. @param {number} wallMs current wall-clock time */
  dropOld(wallMs) {
    while (this.#chunks.length > 0 && wallMs - this.#chunks[0].wallMs > MAX_AGE_MS) this.#dropOldest();
  }

  /** @returns {QueuedChunk[]} all chunks, oldest first; empties the queue */
  takeAll() {
    const chunks = this.#chunks;
    this.#chunks = [];
    this.#frames = 0;
    return chunks;
  }

  /** @returns {QueuedChunk[]} the oldest chunks that have the same format, oldest first; removes them */
  takeAlike() {
    const all = this.takeAll();
    const end = all.findIndex((chunk) => isOpus(chunk) !== isOpus(all[0]));
    if (end < 0) return all;
    this.#chunks = all.slice(end);
    this.#frames = this.#chunks.reduce((sum, chunk) => sum + framesOf(chunk), 0);
    return all.slice(0, end);
  }

  #trim() {
    while (this.#frames * 1000 > MAX_MS * this.rateHz && this.#chunks.length > 1) this.#dropOldest();
  }

  #dropOldest() {
    this.#frames -= framesOf(this.#chunks.shift());
    this.dropped += 1;
  }
}

/** @param {MicrophoneChunk} chunk; @returns {boolean} */
export function isOpus(chunk) {
  return 'packets' in chunk;
}

function framesOf(chunk) {
  return isOpus(chunk) ? chunk.frames : chunk.samples.length;
}
