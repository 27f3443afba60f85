/**
 * Which frame of the injected stream leads, which one comes next, and which record is news. Pure: frames are any
 * objects, time is an argument.
 *
 * A streaming document costs the browser its bytes and 4 kB a record for as long as it lives (measured), so it is
 * replaced by a fresh one about once a minute. Both run side by side until the fresh one speaks; the sequence numbers
 * tell what was heard already.
 */

/** About a minute of 40 ms chunks at 24 kHz; half a minute of 20 ms chunks at 48 kHz; over an hour of silence. */
const RENEW_COST = 10_000_000;
const RECORD_COST = 4000;

/** The succession of one stream's frames. */
export class Renewal {
  #cost = 0;
  #mostCost;
  leader = null;
  candidate = null;
  /** SEQ of the last sound or silence that was taken. */
  lastSeq = 0;

  /** @param {number} [mostCost] of a frame's records, in characters and some for each */
  constructor(mostCost = RENEW_COST) {
    this.#mostCost = mostCost;
  }

  /**
   * A frame has spoken.
   * @param {object} frame
   * @param {number} chars of its record
   * @returns {{known: boolean, retired?: object | null}} retired, if this frame leads from now on, is the one that is to be
   *   closed now
   */
  spoke(frame, chars) {
    if (frame !== this.leader && frame !== this.candidate) return { known: false };
    const retired = frame === this.candidate ? this.#promote() : undefined;
    this.#cost += chars + RECORD_COST;
    return { known: true, retired };
  }

  /**
   * Only what carries sound is counted: hello and room say the same thing twice without harm, and they may be younger
   * than the first sound that follows them.
   * @param {number} seq of a sound or silence record
   * @returns {boolean} whether it is news
   */
  isNews(seq) {
    if (seq <= this.lastSeq) return false;
    this.lastSeq = seq;
    return true;
  }

  /** @returns {boolean} whether it is time for a fresh frame */
  get due() {
    return this.candidate === null && this.#cost > this.#mostCost;
  }

  /** @param {object} frame that is gone */
  forget(frame) {
    if (frame === this.leader) this.leader = null;
    if (frame === this.candidate) this.candidate = null;
  }

  #promote() {
    const retired = this.leader;
    this.leader = this.candidate;
    this.candidate = null;
    this.#cost = 0;
    return retired;
  }
}
