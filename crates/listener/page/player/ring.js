/**
 * The ring buffer between the stream and the sound card. Sound can be cut out and repeated with a cross-fade; the caller decides when.
 */

/** A ring buffer of mono samples with a fixed capacity. */
export class Ring {
  #data;
  #mask;
  #read = 0;
  #write = 0;
  #fade = { from: new Float32Array(0), left: 0 };

  /** @param {number} frames minimum capacity, in samples */
  constructor(frames) {
    const size = 2 ** Math.ceil(Math.log2(frames));
    this.#data = new Float32Array(size);
    this.#mask = size - 1;
  }

  /** @returns {number} samples in the ring */
  get fill() {
    return this.#write - this.#read;
  }

  /** @returns {number} capacity in samples */
  get size() {
    return this.#data.length;
  }

  /** @param {Int16Array} samples to append; in a full ring they replace the oldest */
  write(samples) {
    for (const sample of samples) {
      this.#data[this.#write & this.#mask] = sample / 32768;
      this.#write += 1;
    }
    this.#read += Math.max(0, this.fill - this.#data.length);
  }

  /** @returns {number} the next sample; call only while `fill` > 0 */
  read() {
    const sample = this.#data[this.#read & this.#mask];
    this.#read += 1;
    return this.#fade.left > 0 ? this.#crossFade(sample) : sample;
  }

  /**
   * Skips the next `frames`, or repeats the last ones, with a cross-fade of `fadeFrames`.
   * @param {number} frames number of samples to skip; negative: to repeat samples that were read before
   * @param {number} fadeFrames
   */
  skip(frames, fadeFrames) {
    // A copy, because new samples may overwrite these samples in a full ring.
    const from = new Float32Array(fadeFrames);
    this.copy(0, from);
    this.#fade = { from, left: fadeFrames };
    this.#read += frames;
  }

  /** @returns {boolean} whether a cross-fade is in progress */
  get fading() {
    return this.#fade.left > 0;
  }

  /**
   * @param {number} from samples after the read position; negative: before it
   * @param {Float32Array} out filled with the samples from there on
   */
  copy(from, out) {
    for (let i = 0; i < out.length; i += 1) out[i] = this.#data[(this.#read + from + i) & this.#mask];
  }

  /** Fades out the last `frames` in the ring, because the next chunk doesn't continue them. */
  fadeTail(frames) {
    const n = Math.min(frames, this.fill);
    for (let i = 1; i <= n; i += 1) this.#data[(this.#write - i) & this.#mask] *= (i - 1) / n;
  }

  /** Discards everything. */
  clear() {
    this.#read = this.#write;
    this.#fade.left = 0;
  }

  /**
   * @param {number} from samples after the read position
   * @param {number} frames number of samples
   * @returns {number} root mean square of these samples, 0 to 1
   */
  level(from, frames) {
    let sum = 0;
    for (let i = 0; i < frames; i += 1) sum += this.#data[(this.#read + from + i) & this.#mask] ** 2;
    return Math.sqrt(sum / frames);
  }

  #crossFade(sample) {
    const { from, left } = this.#fade;
    const old = from[from.length - left];
    // A raised cosine, because a linear fade has audible corners.
    const share = 0.5 - 0.5 * Math.cos((Math.PI * left) / (from.length + 1));
    this.#fade.left -= 1;
    return sample + (old - sample) * share;
  }
}
