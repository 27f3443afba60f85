/**
 * Chooses how much the sound is compressed, in one direction. Pure: time is an argument.
 *
 * The choice goes one rung down when the line has been more than 200 ms behind two times within 10 s, and one rung up when it has not been so for
 * 60 s. If the line is behind again within 60 s after a rung up, the next rung up comes later.
 */

/** The rungs, from the best sound to the fewest data: PCM, and Opus with its bit rate in kbit/s. */
export const RUNGS = [0, 32, 24, 16];

/** An event: the line is further behind than this. */
const BEHIND_MS = 200;
/** Maximum time between two events that lead one rung down. */
const WINDOW_MS = 10_000;
/** Minimum time between two events. */
const EVENT_MS = 1000;
/** Time after a change in which events don't count: the old connection may still be behind. */
const SETTLE_MS = 3000;
/** Time without an event after which one rung up is tried. Doubles if a rung up fails within this time. */
const CALM_MS = 60_000;
/** Maximum time without an event before one rung up is tried. */
const MAX_CALM_MS = 16 * CALM_MS;

/**
 * @typedef {'auto' | 'full' | 'save'} Quality the user's choice: automatic, full quality, or save data
 * @typedef {{quality: Quality, codec: string | undefined, loopback: boolean, thrifty: boolean, fixedKbps?: number}} Wish
 *   codec: of the server's settings, `auto` or `opus`; absent if there is no Opus;
 *   thrifty: whether the system asks to save data, or the line is a cellular one; fixedKbps: the only rung
 */

/** The choice for one direction. */
export class Ladder {
  #range = { best: 0, worst: 0, start: 0 };
  #rung = 0;
  #events = [];
  #calmSinceMs = -Infinity;
  #changedMs = -Infinity;
  #upMs = -Infinity;
  #calmMs = CALM_MS;

  /**
   * @param {Wish} wish
   * @param {number} nowMs
   * @returns {number} one of RUNGS
   */
  choose(wish, nowMs) {
    const range = rangeOf(wish);
    const isSame = ['best', 'worst', 'start'].every((key) => range[key] === this.#range[key]);
    this.#range = range;
    if (!isSame) this.#go(range.start, nowMs);
    else if (this.#rung > range.best && nowMs - this.#calmSinceMs >= this.#calmMs) {
      this.#upMs = nowMs;
      this.#go(this.#rung - 1, nowMs);
    }
    return this.kbps;
  }

  /** @returns {number} the chosen rung */
  get kbps() {
    return RUNGS[this.#rung];
  }

  /**
   * Notes how far the line is behind.
   * @param {number} ms
   * @param {number} nowMs
   */
  behind(ms, nowMs) {
    if (ms <= BEHIND_MS || nowMs - this.#changedMs < SETTLE_MS || nowMs - (this.#events.at(-1) ?? -Infinity) < EVENT_MS) return;
    this.#calmSinceMs = nowMs;
    this.#events = [...this.#events.filter((eventMs) => nowMs - eventMs <= WINDOW_MS), nowMs];
    if (this.#events.length < 2 || this.#rung >= this.#range.worst) return;
    this.#calmMs = nowMs - this.#upMs < CALM_MS ? Math.min(2 * this.#calmMs, MAX_CALM_MS) : CALM_MS;
    this.#go(this.#rung + 1, nowMs);
  }

  #go(rung, nowMs) {
    this.#rung = rung;
    this.#events = [];
    this.#changedMs = nowMs;
    this.#calmSinceMs = nowMs;
  }
}

/** Returns the first and last permitted rung, and the one to begin with. */
function rangeOf({ quality, codec, loopback, thrifty, fixedKbps }) {
  if (codec === undefined) return { best: 0, worst: 0, start: 0 };
  const fixed = RUNGS.indexOf(fixedKbps);
  if (fixed >= 0) return { best: fixed, worst: fixed, start: fixed };
  const always = codec === 'opus';
  if (quality === 'full') return always ? { best: 1, worst: 1, start: 1 } : { best: 0, worst: 0, start: 0 };
  if (quality === 'save' || always) return { best: 2, worst: 3, start: 2 };
  if (loopback) return { best: 0, worst: 0, start: 0 };
  return thrifty ? { best: 1, worst: 3, start: 2 } : { best: 0, worst: 3, start: 0 };
}

/** Time for which the quickest record is remembered; the maximum is twice this time. */
const BASE_MS = 30_000;
/** If records are later than this, the clocks were set or the page was suspended. */
const IMPOSSIBLE_MS = 10_000;

/** Measures how far the stream is behind: the delay of each record of sound minus the delay of the quickest one. */
export class StreamDelay {
  #older = Infinity;
  #newer = Infinity;
  #turnMs = -Infinity;

  /**
   * @param {number} seq of the record: when it was made, in ms
   * @param {number} nowMs
   * @returns {number} ms
   */
  behindMs(seq, nowMs) {
    const delayMs = nowMs - seq;
    if (Math.abs(delayMs - Math.min(this.#older, this.#newer)) > IMPOSSIBLE_MS) {
      this.#older = Infinity;
      this.#newer = Infinity;
    }
    if (nowMs - this.#turnMs > BASE_MS) {
      this.#older = this.#newer;
      this.#newer = Infinity;
      this.#turnMs = nowMs;
    }
    this.#newer = Math.min(this.#newer, delayMs);
    return delayMs - Math.min(this.#older, this.#newer);
  }
}

/** @param {string} hostname; @returns {boolean} whether the page comes from this computer itself */
export function isLoopback(hostname) {
  return hostname === 'localhost' || hostname.endsWith('.localhost') || hostname === '[::1]' || /^127(?:\.\d{1,3}){3}$/.test(hostname);
}

/** @returns {boolean} whether the system asks to save data, or the line is a cellular one; browsers without this interface say nothing */
export function isThrifty(connection = navigator.connection) {
  return connection?.saveData === true || connection?.type === 'cellular';
}
