/**
 * Detects a microphone that delivers only digital silence, and a muted user who talks. Pure: time is an argument.
 *
 * Even a quiet room gives samples other than zero. Only zeros come from a microphone that is switched off, unplugged or muted outside the
 * browser, whether or not the browser knows that.
 */

/** Time with only zeros after which the microphone counts as silent. */
const SILENT_AFTER_MS = 5000;
/** Maximum level of the noise that echo cancellation adds to zeros. */
const MAX_ADDED_NOISE_DBFS = -60;
/** Number of the last levels among which voices are counted. */
const LEVELS = 8;
/** Minimum number of voices among these levels that counts as talking. */
const VOICES = 4;
/** Time for which talking is reported after the last voice. */
const HOLD_MS = 5000;
/** Minimum level of a voice. */
const MIN_DBFS = -40;
/** Minimum level of a voice above the noise floor. */
const ABOVE_NOISE_DB = 15;
/** Maximum rise of the estimated noise floor with each level; it falls at once. */
const NOISE_RISE_DB = 0.6;

/** The watch over one microphone. */
export class MicrophoneWatch {
  #soundMs = NaN;
  #loudMs = NaN;
  #noiseDbfs = -60;
  #voices = [];
  #talkedMs = -Infinity;

  /** Begins anew, because the microphone was opened, muted or unmuted. */
  reset() {
    this.#soundMs = NaN;
    this.#loudMs = NaN;
    this.#voices = [];
    this.#talkedMs = -Infinity;
  }

  /** Notes that the muted user holds the talk key, which counts as talking. @param {number} nowMs */
  talked(nowMs) {
    this.#talkedMs = nowMs;
  }

  /**
   * @param {number} peak of the last 200 ms, 0 to 1
   * @param {boolean} muted whether the user has muted the microphone
   * @param {boolean} byKey whether only the talk key counts as talking (push to talk)
   * @param {number} nowMs
   * @returns {{silent: boolean, faint: boolean, talking: boolean}} silent: the open microphone delivers only zeros; faint: it delivers so little sound
   *   that this may be noise that echo cancellation adds to zeros; talking: the user talks while muted
   */
  heard(peak, muted, byKey, nowMs) {
    // While the user has muted the microphone in the page, zeros don't count: the browser may deliver them then.
    if (peak > 0 || muted || Number.isNaN(this.#soundMs)) this.#soundMs = nowMs;
    if (20 * Math.log10(peak) > MAX_ADDED_NOISE_DBFS || muted || Number.isNaN(this.#loudMs)) this.#loudMs = nowMs;
    if (muted && !byKey) this.#count(20 * Math.log10(peak + 1e-6), nowMs);
    const [silent, faint] = [this.#soundMs, this.#loudMs].map((lastMs) => nowMs - lastMs >= SILENT_AFTER_MS);
    return { silent, faint, talking: muted && nowMs - this.#talkedMs < HOLD_MS };
  }

  #count(dbfs, nowMs) {
    const isVoice = dbfs > Math.max(MIN_DBFS, this.#noiseDbfs + ABOVE_NOISE_DB);
    this.#noiseDbfs = Math.min(dbfs, this.#noiseDbfs + NOISE_RISE_DB);
    this.#voices = [...this.#voices, isVoice].slice(-LEVELS);
    if (isVoice && this.#voices.filter(Boolean).length >= VOICES) this.#talkedMs = nowMs;
  }
}
