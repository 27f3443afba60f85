/**
 * Detects that the participant was away: the computer slept, or the server was not reachable for minutes. The room goes on meanwhile, so
 * the page then mutes the microphone. Pure: time is an argument. The time is that of the wall clock, because a monotonic clock may stop during sleep.
 */

/** Minimum time without a record of the stream that counts as an absence. */
const UNREACHABLE_MS = 120000;
/** Minimum time without any run of the page's scripts that counts as an absence. Browsers delay timers of hidden pages by up to a minute. */
const ASLEEP_MS = 70000;

/** The absence of one participant. */
export class Absence {
  #recordMs = NaN;
  #ranMs = NaN;
  #reported = false;

  /**
   * Checks whether the participant was away. Call often, and before sound is sent.
   * @param {number} nowMs
   * @returns {boolean} whether the participant was away; true once for each absence
   */
  noticed(nowMs) {
    const asleep = nowMs - this.#ranMs >= ASLEEP_MS;
    const unreachable = nowMs - this.#recordMs >= UNREACHABLE_MS;
    this.#ranMs = nowMs;
    const isNew = asleep || (unreachable && !this.#reported);
    this.#reported ||= isNew;
    return isNew;
  }

  /** Notes a record of the stream. Call `noticed` before. @param {number} nowMs */
  heard(nowMs) {
    this.#recordMs = nowMs;
    this.#reported = false;
  }
}
