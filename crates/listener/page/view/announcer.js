/**
 * Decides what a screen reader is told: the connection, a recording, and the own microphone when it can't be heard although the user
 * didn't mute it. Never who talks. Pure: time is an argument.
 *
 * A problem is announced at once. A recovery is announced only after it has lasted, because a state may change again at once.
 */

/** States of the microphone that are problems. */
const UNHEARD = ['off', 'taken', 'free', 'system', 'silent', 'operator', 'held'];
/** States of the microphone that may become a problem. */
const PENDING = ['asking', 'waiting'];
/** Time for which the microphone must work before that is announced. */
const RECOVERED_AFTER_MS = 500;

/** The announcements of one page, as keys of texts. */
export class Announcer {
  #base = '';
  #trouble = '';
  #recoveredMs = NaN;

  /**
   * @param {{connection: string, recorded: boolean, cutOff?: string, microphone: string}} state connection is empty outside the room; cutOff: the
   *   machines to which the connection is lost
   * @param {number} nowMs
   * @returns {{keys: string[] | null, againMs: number}} keys: what to announce now; againMs: time after which to call again even if
   *   nothing changes, 0 for never
   */
  look({ connection, recorded, cutOff = '', microphone }, nowMs) {
    if (!connection) return this.#leave();
    // A short disturbance of the connection (`unstable`) is not announced to screen readers.
    const base = [connection === 'unstable' ? 'live' : connection, ...(recorded ? ['recorded'] : []), ...(cutOff ? ['cutOff'] : [])];
    const signature = [...base, cutOff].join();
    const troubled = UNHEARD.includes(microphone);
    const key = micKey(microphone);
    const leftMs = this.#leftMs(microphone, nowMs);
    const recovered = leftMs <= 0;
    const isNew = signature !== this.#base || (troubled && key !== this.#trouble) || recovered;
    this.#base = signature;
    if (troubled) this.#trouble = key;
    if (recovered) this.#trouble = '';
    // Until the microphone has worked again for RECOVERED_AFTER_MS, each announcement still ends with the microphone's previous problem.
    const last = recovered ? key : this.#trouble;
    return { keys: isNew ? [...base, last].filter(Boolean) : null, againMs: leftMs > 0 ? leftMs : 0 };
  }

  /** @param {string} microphone state that the page has just announced because the user caused the change */
  announced(microphone) {
    this.#trouble = UNHEARD.includes(microphone) || PENDING.includes(microphone) ? micKey(microphone) : '';
    this.#recoveredMs = NaN;
  }

  /** Returns the time until the recovery is announced; NaN if there was no problem, or if it persists. */
  #leftMs(microphone, nowMs) {
    const isWell = this.#trouble !== '' && !UNHEARD.includes(microphone) && !PENDING.includes(microphone);
    if (!isWell) this.#recoveredMs = NaN;
    else if (Number.isNaN(this.#recoveredMs)) this.#recoveredMs = nowMs + RECOVERED_AFTER_MS;
    return this.#recoveredMs - nowMs;
  }

  #leave() {
    this.#base = '';
    this.#trouble = '';
    this.#recoveredMs = NaN;
    return { keys: [], againMs: 0 };
  }
}

/** @param {string} microphone state; @returns {string} key of its text */
export function micKey(microphone) {
  return `mic${microphone[0].toUpperCase()}${microphone.slice(1)}`;
}
