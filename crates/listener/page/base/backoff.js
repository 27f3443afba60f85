/**
 * Waiting time before each retry: 0, 0.2, 0.3, 0.5, 1, 2, 4, 8, 10, 10 … seconds. Only computes; the caller runs the timer.
 *
 * The first retries are quick because most losses are a restart of the listener, which takes some tenths of a second. A connection
 * resets the sequence only after it has lasted 5 s, so that a server that accepts connections and closes them isn't flooded.
 */

const STEPS_MS = [0, 200, 300, 500, 1000, 2000, 4000, 8000, 10000];
/** Minimum duration of a connection that resets the sequence of delays. */
const GOOD_AFTER_MS = 5000;

/** The retry delays of one connection. */
export class Backoff {
  #tries = 0;

  /** @returns {number} ms to wait before the next retry */
  next() {
    const step = Math.min(this.#tries, STEPS_MS.length - 1);
    this.#tries += 1;
    return STEPS_MS[step];
  }

  /** @returns {number} retries since the last connection that lasted GOOD_AFTER_MS */
  get tries() {
    return this.#tries;
  }

  /** @param {number} livedMs age of the connection that just ended or still runs */
  lived(livedMs) {
    if (livedMs >= GOOD_AFTER_MS) this.#tries = 0;
  }

  /** Starts the sequence of delays again: the user asked for a retry, or the network came back. */
  reset() {
    this.#tries = 0;
  }
}
