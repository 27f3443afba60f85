/**
 * Decides which chunks are sent: all of them, those with a voice (voice activation), or those while a key is held (push to talk). Pure:
 * chunks in, chunks out. A muted microphone delivers no chunks.
 */

const FADE_MS = 5;
/** Length of the sound before the detected voice that is sent too. */
const PRE_ROLL_MS = 20;
/** Time for which the gate stays open after the last chunk with a voice. */
const HOLD_MS = 500;
/** Minimum level of a voice. */
const MIN_DBFS = -52;
/** Minimum level of a voice above the noise floor. */
const ABOVE_NOISE_DB = 10;
/** Maximum rise of the estimated noise floor in dB per second; it falls at once. */
const NOISE_RISE_DB = 3;

/** @typedef {{samples: Int16Array, wallMs: number}} Chunk */

/** The gate of one microphone. */
export class VoiceGate {
  #rateHz;
  #open = false;
  #left = 0;
  #noiseDbfs = -70;
  #last = null;
  /** @type {'open' | 'voice' | 'talk'} */
  mode = 'open';
  /** Whether the key or button of push to talk is held. */
  held = false;

  /** @param {number} rateHz of the samples */
  constructor(rateHz) {
    this.#rateHz = rateHz;
  }

  /** Closes the gate and forgets the previous chunk. */
  reset() {
    this.#open = false;
    this.#last = null;
    this.#left = 0;
  }

  /**
   * @param {Chunk} chunk
   * @returns {Chunk[]} the chunks to send, oldest first
   */
  push(chunk) {
    const wanted = this.#wants(chunk);
    const before = this.#last;
    this.#last = chunk;
    if (this.mode === 'open') {
      this.#open = true;
      return [chunk];
    }
    if (wanted === this.#open) return wanted ? [chunk] : [];
    this.#open = wanted;
    return wanted ? this.#begin(before, chunk) : [this.#faded(chunk, false)];
  }

  #wants({ samples }) {
    if (this.mode === 'talk') return this.held;
    const level = dbfs(samples);
    const chunkMs = (1000 * samples.length) / this.#rateHz;
    const isVoice = level > Math.max(MIN_DBFS, this.#noiseDbfs + ABOVE_NOISE_DB);
    this.#noiseDbfs = Math.min(level, this.#noiseDbfs + (NOISE_RISE_DB * chunkMs) / 1000);
    this.#left = isVoice ? HOLD_MS : Math.max(0, this.#left - chunkMs);
    return this.#left > 0;
  }

  #begin(before, chunk) {
    if (this.mode !== 'voice' || !before) return [this.#faded(chunk, true)];
    const frames = Math.min(before.samples.length, Math.round((PRE_ROLL_MS * this.#rateHz) / 1000));
    const start = before.samples.length - frames;
    const tail = { samples: before.samples.slice(start), wallMs: before.wallMs + (1000 * start) / this.#rateHz };
    return [this.#faded(tail, true), chunk];
  }

  /** Returns a chunk that fades in, or the first 5 ms of a chunk, faded out. */
  #faded({ samples, wallMs }, isBeginning) {
    const frames = Math.min(samples.length, Math.round((FADE_MS * this.#rateHz) / 1000));
    const out = samples.slice(0, isBeginning ? samples.length : frames);
    for (let i = 0; i < frames; i += 1) out[i] = Math.round((out[i] * (isBeginning ? i : frames - i)) / frames);
    return { samples: out, wallMs };
  }
}

function dbfs(samples) {
  const energy = samples.reduce((sum, sample) => sum + sample * sample, 0);
  return 10 * Math.log10(energy / Math.max(1, samples.length) / 32768 ** 2 + 1e-12);
}
