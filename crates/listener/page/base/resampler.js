/**
 * Resamples a mono signal sample by sample. The player converts the room's rate to the device's, the microphone the other way.
 *
 * A polyphase windowed sinc (Kaiser window, about 80 dB). Phases between two rows of the table are interpolated, so the ratio may be
 * any number and may change slightly while the resampler runs. With equal rates and speed 1 the output is the input, bit for bit,
 * delayed by half the filter.
 *
 * Runs in worklets: uses no API that only a page has.
 */

const PHASES = 512;
/** Number of filter taps at the lower of the two rates. */
const TAPS = 64;
const KAISER_BETA = 8.2;

/** Frequency at which the filter attenuates by 6 dB, relative to the lower of the two Nyquist frequencies. */
const CUTOFF = 0.92;

/** @typedef {{taps: number, rows: Float32Array[]}} FilterTable */

/** A resampler from `inRateHz` to `outRateHz`. Call `feed` while it is not `due`, and `take` while it is. */
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
    // Every sample is stored twice, `taps` apart, so that the newest `taps` samples are always contiguous.
    this.history = new Float32Array(2 * this.taps);
    this.head = 0;
    this.position = 1;
    this.straightening = false;
  }

  /** Delay of the filter in input frames. */
  get delayFrames() {
    return this.taps / 2;
  }

  /** Whether the next output sample can be computed without further input. */
  get due() {
    return this.position < 1;
  }

  /**
   * Sets the speed at which the input is consumed. With equal rates, a return to 1 takes effect when an output sample falls on an
   * input sample, so that the signal is bit-exact from there on.
   * @param {number} speed above 1 is faster
   */
  setSpeed(speed) {
    const wanted = this.step * speed;
    this.straightening = wanted === 1 && this.bentStep !== 1;
    if (!this.straightening) this.bentStep = wanted;
  }

  /** @param {number} sample the next input sample */
  feed(sample) {
    this.history[this.head] = sample;
    this.history[this.head + this.taps] = sample;
    this.head = this.head + 1 === this.taps ? 0 : this.head + 1;
    this.position -= 1;
  }

  /** @returns {number} the next output sample; call only when `due` */
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
 * Row r is the filter for an output sample r/PHASES after the window's middle sample. The last row is the first row shifted by one
 * sample, so that interpolation between rows is continuous.
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
  // Phase 0 without a cutoff must return the input exactly. All other rows are scaled to a gain of 1 at 0 Hz.
  const scale = cutoff === 1 && (offset === 0 || offset === 1) ? 1 : 1 / sum;
  return Float32Array.from(row, (tap) => tap * scale);
}

function sinc(x) {
  if (x === 0) return 1;
  // Returns exactly 0 at integers: the computed sin(πx) is about 1e-17 there, and the output at equal rates would not be bit-exact.
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
