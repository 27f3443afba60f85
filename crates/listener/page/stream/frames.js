/**
 * Keeps track of the iframes of the injected stream: the leading iframe, the candidate that will replace it, and which records are new.
 * Pure: an iframe may be any object, and time plays no part.
 *
 * A document that streams costs the browser its bytes and about 4 kB for each record for as long as it lives, so a new iframe replaces it
 * about once a minute. Both run side by side until the new one has its first record; SEQ tells which records were already taken.
 */

/** Maximum cost of an iframe, in characters: about a minute of 40 ms chunks at 24 kHz, half a minute of 20 ms chunks at 48 kHz. */
const RENEW_COST = 10_000_000;
/** Cost of one record besides its characters. */
const RECORD_COST = 4000;

/** The leading iframe and its candidate. */
export class FrameTracker {
  #cost = 0;
  #maxCost;
  leader = null;
  candidate = null;
  /** SEQ of the last processed record of sound, silence or a message. */
  lastSeq = 0;

  /** @param {number} [maxCost] see RENEW_COST */
  constructor(maxCost = RENEW_COST) {
    this.#maxCost = maxCost;
  }

  /**
   * Notes a record of an iframe. The first record of the candidate makes it the leader.
   * @param {object} frame
   * @param {number} chars length of the record
   * @returns {{known: boolean, retired?: object | null}} retired: only when the frame has just become the leader, the previous leader,
   *   which the caller must close
   */
  spoke(frame, chars) {
    if (frame !== this.leader && frame !== this.candidate) return { known: false };
    const retired = frame === this.candidate ? this.#promote() : undefined;
    this.#cost += chars + RECORD_COST;
    return { known: true, retired };
  }

  /**
   * Call only for sound, silence and messages, which must not be processed twice. `hello` and `room` records may be repeated, and may have a
   * higher SEQ than the sound that follows them.
   * @param {number} seq
   * @returns {boolean} whether the record is new
   */
  isNew(seq) {
    if (seq <= this.lastSeq) return false;
    this.lastSeq = seq;
    return true;
  }

  /**
   * Notes the first record of an iframe. With the same clock its SEQ is at least `afterSeq - 1`. A lower SEQ means that the server's clock was set
   * back, for example because the server was restarted: then all records count as new, because otherwise the page would take none until
   * the clock has passed the old value.
   * @param {number} seq
   * @param {number} afterSeq `lastSeq` when the iframe was opened
   * @returns {boolean} whether the clock was set back
   */
  greeted(seq, afterSeq) {
    if (seq >= afterSeq - 1) return false;
    this.lastSeq = 0;
    return true;
  }

  /** @returns {boolean} whether the leader must be replaced */
  get due() {
    return this.candidate === null && this.#cost > this.#maxCost;
  }

  /** @param {object} frame that was closed */
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
