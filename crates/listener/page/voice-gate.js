/**
 * Which of the microphone's chunks are said: all of them, those with a voice in them, or those while a key is held. Pure:
 * chunks in, chunks out. It never opens a microphone that is muted: then no chunks come here.
 */

const FADE_MS = 5;
/** What was said just before a voice was noticed; it comes with the chunk in which it was. */
const PRE_ROLL_MS = 20;
/** A pause for breath is no end. */
const HOLD_MS = 500;
const LEAST_DBFS = -52;
const ABOVE_NOISE_DB = 10;
/** How fast the idea of the noise rises, in dB a second; it falls at once. */
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
  /** Whether the key or the button is held, for `talk`. */
  held = false;

  /** @param {number} rateHz of the samples */
  constructor(rateHz) {
    this.#rateHz = rateHz;
  }

  /** @returns {boolean} whether what comes now is said */
  get isOpen() {
    return this.mode === 'open' || this.#open;
  }

  /** Begins anew: what comes next has nothing to do with what came. */
  reset() {
    this.#open = false;
    this.#last = null;
    this.#left = 0;
  }

  /**
   * @param {Chunk} chunk
   * @returns {Chunk[]} what is to be said, oldest first
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
    const isVoice = level > Math.max(LEAST_DBFS, this.#noiseDbfs + ABOVE_NOISE_DB);
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

  /** So that neither the beginning nor the end is a click: 5 ms, at the start or to silence for the rest. */
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
