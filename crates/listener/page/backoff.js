/**
 * How long to wait before the next try: nothing, then 0.2, 0.3, 0.5, 1, 2, 4, 8, 10, 10 … seconds.
 *
 * The first tries are soon because most losses are a restart of the other side, which takes some tenths of a second; a connection counts as good only after
 * it has lived a while, so that a server which accepts and drops is not hammered. It is no timer.
 */

const STEPS_MS = [0, 200, 300, 500, 1000, 2000, 4000, 8000, 10000];
const GOOD_AFTER_MS = 5000;

/** The waiting times of one connection. */
export class Backoff {
  #tries = 0;

  /** @returns {number} ms to wait before the next try */
  next() {
    const step = Math.min(this.#tries, STEPS_MS.length - 1);
    this.#tries += 1;
    return STEPS_MS[step];
  }

  /** @returns {number} tries since the last good connection */
  get tries() {
    return this.#tries;
  }

  /** @param {number} livedMs how long the connection that just ended, or still runs, has been up */
  lived(livedMs) {
    if (livedMs >= GOOD_AFTER_MS) this.#tries = 0;
  }

  /** Forgets every failure: the person asked, or the network came back. */
  reset() {
    this.#tries = 0;
  }
}
