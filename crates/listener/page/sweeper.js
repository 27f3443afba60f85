/**
 * Has the audio thread's garbage collected once a minute, for Firefox (ESR 153).
 *
 * That thread has no timer for it there: each message leaves a little, and it is collected when there are 27 MiB of it
 * (javascript.options.mem.gc_allocation_threshold_mb), after an hour or so, all at once and in the middle of the sound. What
 * does lead to a collection is memory that is asked for in one piece of more than 38 MiB (gc_malloc_threshold_base_mb);
 * none of it is ever touched, so it costs an address and no memory. Chromium was not seen to need it.
 */

const EVERY_S = 60;
const PIECE_BYTES = 64 * 1024 * 1024;

/** Of one audio thread. */
export class Sweeper {
  #everyFrames;
  #frames = 0;

  /** @param {number} contextRateHz */
  constructor(contextRateHz) {
    this.#everyFrames = EVERY_S * contextRateHz;
  }

  /** @param {number} frames that were rendered since the last call */
  rendered(frames) {
    this.#frames += frames;
    if (this.#frames < this.#everyFrames) return;
    this.#frames = 0;
    try {
      new ArrayBuffer(PIECE_BYTES);
    } catch {
      // There is no such piece: memory is scarce, and the browser collects by itself then.
    }
  }
}
