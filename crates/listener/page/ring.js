/**
 * The samples between the stream and the sound card: a ring that can be cut and stretched without a click.
 *
 * It knows samples only; when to cut and how full to be is decided by its owner. It never grows: what no longer fits
 * pushes the oldest out.
 */

/** A ring of mono samples at the room's rate. */
export class Ring {
  #data;
  #mask;
  #read = 0;
  #write = 0;
  #fade = { from: new Float32Array(0), left: 0 };

  /** @param {number} frames least capacity */
  constructor(frames) {
    const size = 2 ** Math.ceil(Math.log2(frames));
    this.#data = new Float32Array(size);
    this.#mask = size - 1;
  }

  /** @returns {number} frames that can be read */
  get fill() {
    return this.#write - this.#read;
  }

  /** @returns {number} frames that it holds at most */
  get size() {
    return this.#data.length;
  }

  /** @param {Int16Array} samples which push out the oldest */
  write(samples) {
    for (const sample of samples) {
      this.#data[this.#write & this.#mask] = sample / 32768;
      this.#write += 1;
    }
    this.#read += Math.max(0, this.fill - this.#data.length);
  }

  /** @returns {number} the next sample; only when `fill` > 0 */
  read() {
    const sample = this.#data[this.#read & this.#mask];
    this.#read += 1;
    return this.#fade.left > 0 ? this.#crossFade(sample) : sample;
  }

  /**
   * Leaves out the next `frames`, or says the last ones again, passing over the join within `fadeFrames`.
   * @param {number} frames to be left out; negative: to be read again, of which the caller knows that they were read
   * @param {number} fadeFrames
   */
  skip(frames, fadeFrames) {
    // A copy: in a full ring what comes next would be written over it.
    const from = new Float32Array(fadeFrames);
    this.copy(0, from);
    this.#fade = { from, left: fadeFrames };
    this.#read += frames;
  }

  /** @returns {boolean} whether a join is still being passed over */
  get fading() {
    return this.#fade.left > 0;
  }

  /**
   * @param {number} from frames after the next one to be read; negative: before it
   * @param {Float32Array} out is filled with what comes there
   */
  copy(from, out) {
    for (let i = 0; i < out.length; i += 1) out[i] = this.#data[(this.#read + from + i) & this.#mask];
  }

  /** Lets the last `frames` written fade out, because what is written next doesn't continue them. */
  fadeTail(frames) {
    const n = Math.min(frames, this.fill);
    for (let i = 1; i <= n; i += 1) this.#data[(this.#write - i) & this.#mask] *= (i - 1) / n;
  }

  /** Throws everything away. */
  clear() {
    this.#read = this.#write;
    this.#fade.left = 0;
  }

  /**
   * @param {number} from frames after the next one to be read
   * @param {number} frames
   * @returns {number} root mean square of that stretch, 0 to 1
   */
  level(from, frames) {
    let sum = 0;
    for (let i = 0; i < frames; i += 1) sum += this.#data[(this.#read + from + i) & this.#mask] ** 2;
    return Math.sqrt(sum / frames);
  }

  #crossFade(sample) {
    const { from, left } = this.#fade;
    const old = from[from.length - left];
    // Half a cosine: a straight line would have corners.
    const share = 0.5 - 0.5 * Math.cos((Math.PI * left) / (from.length + 1));
    this.#fade.left -= 1;
    return sample + (old - sample) * share;
  }
}
