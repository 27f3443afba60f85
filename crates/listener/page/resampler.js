/**
 * Changes the rate of a mono signal, sample by sample, without ever losing its state.
 *
 * A polyphase windowed sinc (Kaiser, about 80 dB) of which every phase between two table rows is interpolated, so the
 * ratio may be any number and may be bent a little while it runs. It serves both ways: the player turns the room's rate
 * into the device's, the microphone the device's into the room's. With equal rates and speed 1 it is a pure delay, bit by bit.
 *
 * It is no file converter: it knows no channels, no buffers and no end of file. Worklets import it, so it uses nothing
 * that a page has and a worklet has not.
 */

const PHASES = 512;
const TAPS = 64;
const KAISER_BETA = 8.2;

/** Share of the smaller Nyquist frequency at which the filter is 6 dB down: half the transition width below it. */
const CUTOFF = 0.92;

/** @typedef {{taps: number, rows: Float32Array[]}} FilterTable */

/** One stateful converter from `inRateHz` to `outRateHz`. Feed one sample while it is not `due`, take one while it is. */
export class Resampler {
  /**
   * @param {number} inRateHz
   * @param {number} outRateHz
   */
  constructor(inRateHz, outRateHz) {
    this.inRateHz = inRateHz;
    this.outRateHz = outRateHz;
    this.step = inRateHz / outRateHz;
    this.bentStep = this.step;
    const table = filterTable(this.step);
    this.taps = table.taps;
    this.rows = table.rows;
    // Every sample is written twice, one window apart, so that the newest `taps` samples are always contiguous.
    this.history = new Float32Array(2 * this.taps);
    this.head = 0;
    this.position = 1;
    this.straightening = false;
  }

  /** Input frames between a sample's arrival and its middle in the output. */
  get delayFrames() {
    return this.taps / 2;
  }

  /** Whether the next output sample needs no further input. */
  get due() {
    return this.position < 1;
  }

  /**
   * Consumes the input faster (> 1) or slower (< 1). Going back to 1 with equal rates takes effect where an output
   * sample falls on an input sample again, so that the signal is bit-exact from there on.
   * @param {number} speed
   */
  setSpeed(speed) {
    const wanted = this.step * speed;
    this.straightening = wanted === 1 && this.bentStep !== 1;
    if (!this.straightening) this.bentStep = wanted;
  }

  /** @param {number} sample one input sample */
  feed(sample) {
    this.history[this.head] = sample;
    this.history[this.head + this.taps] = sample;
    this.head = this.head + 1 === this.taps ? 0 : this.head + 1;
    this.position -= 1;
  }

  /** @returns {number} one output sample; only when `due` */
  take() {
    const place = this.position * PHASES;
    const row = Math.floor(place);
    const between = place - row;
    const a = this.rows[row];
    const sum = between === 0 ? this.#dot(a) : this.#dotBetween(a, this.rows[row + 1], between);
    this.position += this.bentStep;
    if (this.straightening) this.#straighten();
    return sum;
  }

  #dot(row) {
    const { history, head, taps } = this;
    let sum = 0;
    for (let i = 0; i < taps; i += 1) sum += row[i] * history[head + i];
    return sum;
  }

  #dotBetween(rowA, rowB, between) {
    const { history, head, taps } = this;
    let a = 0;
    let b = 0;
    for (let i = 0; i < taps; i += 1) {
      const sample = history[head + i];
      a += rowA[i] * sample;
      b += rowB[i] * sample;
    }
    return a + (b - a) * between;
  }

  #straighten() {
    const nearest = Math.round(this.position);
    if (Math.abs(this.position - nearest) > Math.abs(this.bentStep - 1)) return;
    this.position = nearest;
    this.bentStep = 1;
    this.straightening = false;
  }
}

/** @type {Map<number, FilterTable>} */
const tables = new Map();

function filterTable(step) {
  let table = tables.get(step);
  if (!table) {
    table = makeTable(step);
    tables.set(step, table);
  }
  return table;
}

/**
 * Row r holds the filter for an output sample r/PHASES after the window's middle sample; the last row is the first one
 * shifted by a sample, which is what makes interpolation between rows seamless.
 */
function makeTable(step) {
  const stretch = Math.max(1, step);
  const taps = 2 * Math.ceil((TAPS * stretch) / 2);
  const cutoff = step === 1 ? 1 : CUTOFF / stretch;
  const rows = [];
  for (let r = 0; r <= PHASES; r += 1) rows.push(makeRow(r / PHASES, taps, cutoff));
  return { taps, rows };
}

function makeRow(offset, taps, cutoff) {
  const row = new Float64Array(taps);
  const half = taps / 2;
  let sum = 0;
  for (let i = 0; i < taps; i += 1) {
    const x = i - (half - 1) - offset;
    row[i] = cutoff * sinc(cutoff * x) * kaiser(x / half);
    sum += row[i];
  }
  // Exactly the input where the phase is 0 and nothing is cut off; elsewhere every row passes a constant unchanged.
  const scale = cutoff === 1 && (offset === 0 || offset === 1) ? 1 : 1 / sum;
  return Float32Array.from(row, (tap) => tap * scale);
}

function sinc(x) {
  if (x === 0) return 1;
  // Not sin(πx)/πx rounded to 1e-17: a true zero, or equal rates would not be bit-exact.
  return Number.isInteger(x) ? 0 : Math.sin(Math.PI * x) / (Math.PI * x);
}

function kaiser(x) {
  return Math.abs(x) >= 1 ? 0 : bessel(KAISER_BETA * Math.sqrt(1 - x * x)) / bessel(KAISER_BETA);
}

function bessel(x) {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > 1e-12 * sum; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}
