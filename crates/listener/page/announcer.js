/**
 * What a screen reader is told, and when: of the connection, of a recording, and of one's own microphone where it isn't heard without
 * one's own doing; never of who talks. Pure; time is an argument.
 *
 * What is wrong is told at once; that it is mended only when that has lasted, since a mark may go and come back in between.
 */

const UNHEARD = ['off', 'taken', 'operator', 'held'];
const PENDING = ['asking', 'waiting'];
const MENDED_AFTER_MS = 500;

/** The announcements of one page. Sentences are keys, see text.js. */
export class Announcer {
  #base = '';
  #trouble = '';
  #mendedMs = NaN;

  /**
   * @param {{connection: string, recorded: boolean, microphone: string}} state connection is empty outside a room; microphone is the
   *   word for its state
   * @param {number} nowMs
   * @returns {{keys: string[] | null, againMs: number}} keys: what is to be said now; againMs: when to look again though nothing
   *   happens, 0 for never
   */
  look({ connection, recorded, microphone }, nowMs) {
    if (!connection) return this.#leave();
    const base = [connection, ...(recorded ? ['recorded'] : [])];
    const troubled = UNHEARD.includes(microphone);
    const key = micKey(microphone);
    const leftMs = this.#leftMs(microphone, nowMs);
    const mended = leftMs <= 0;
    const isNews = base.join() !== this.#base || (troubled && key !== this.#trouble) || mended;
    this.#base = base.join();
    if (troubled) this.#trouble = key;
    if (mended) this.#trouble = '';
    // Until that has lasted, what was wrong still is.
    const last = mended ? key : this.#trouble;
    return { keys: isNews ? [...base, last].filter(Boolean) : null, againMs: leftMs > 0 ? leftMs : 0 };
  }

  /** @param {string} microphone the word that the person has just been told because of what they did */
  said(microphone) {
    this.#trouble = UNHEARD.includes(microphone) || PENDING.includes(microphone) ? micKey(microphone) : '';
    this.#mendedMs = NaN;
  }

  /** How long it must still be well until that is told; NaN where nothing was wrong, or still is. */
  #leftMs(microphone, nowMs) {
    const isWell = this.#trouble !== '' && !UNHEARD.includes(microphone) && !PENDING.includes(microphone);
    if (!isWell) this.#mendedMs = NaN;
    else if (Number.isNaN(this.#mendedMs)) this.#mendedMs = nowMs + MENDED_AFTER_MS;
    return this.#mendedMs - nowMs;
  }

  #leave() {
    this.#base = '';
    this.#trouble = '';
    this.#mendedMs = NaN;
    return { keys: [], againMs: 0 };
  }
}

/** @param {string} microphone the word for its state; @returns {string} the key of its sentence */
export function micKey(microphone) {
  return `mic${microphone[0].toUpperCase()}${microphone.slice(1)}`;
}
