/**
 * Triggers garbage collection on Firefox's audio thread once a minute (seen with ESR 153).
 *
 * Firefox runs no collection timer on that thread. Each message leaves a little garbage, which is collected after an hour or so, at once,
 * in the middle of the sound (javascript.options.mem.gc_allocation_threshold_mb, 27 MiB). An allocation above 38 MiB
 * (gc_malloc_threshold_base_mb) triggers a collection too. The memory is never touched, so it costs only address space. Chromium
 * doesn't need this.
 */

const INTERVAL_S = 60;
const ALLOCATION_BYTES = 64 * 1024 * 1024;

/** The trigger of one audio thread. */
export class GcTrigger {
  #intervalFrames;
  #frames = 0;

  /** @param {number} contextRateHz */
  constructor(contextRateHz) {
    this.#intervalFrames = INTERVAL_S * contextRateHz;
  }

  /** @param {number} frames number of samples rendered since the last call */
  rendered(frames) {
    this.#frames += frames;
    if (this.#frames < this.#intervalFrames) return;
    this.#frames = 0;
    try {
      new ArrayBuffer(ALLOCATION_BYTES);
    } catch {
      // The allocation that should trigger garbage collection failed: memory is scarce, so the browser collects garbage anyway.
    }
  }
}
