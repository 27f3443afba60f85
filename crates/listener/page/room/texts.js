/**
 * The user's texts that the listener has not accepted yet, and the IDs of the texts that were received.
 *
 * Texts are sent one after another. If there is no answer, the same text is sent again with the same ID, by which the listeners and the
 * pages recognise it, so it is shown once. A text that could not be sent in five minutes fails, and the user may send it again.
 */

import { Backoff } from '../base/backoff.js';

/** Maximum number of texts that wait. */
const MAX_WAITING = 20;
/** Maximum age of a text that waits. */
const MAX_AGE_MS = 300000;
/** Maximum delay before a text is sent again. */
const MAX_PAUSE_MS = 10000;
/** Answers after which a text is not sent again: invalid, no access, no room, another room, too long. */
const FINAL = [400, 401, 403, 404, 405, 409, 411, 413];
/** Maximum number of received texts that are remembered. A listener sends at most the last 50 texts again. */
const MAX_RECEIVED = 200;

/** @typedef {'sending' | 'sent' | 'failed'} TextState */

/** The texts that wait to be sent. */
export class TextQueue {
  #post;
  #onState;
  #now;
  #waiting = [];
  #backoff = new Backoff();
  #running = false;
  #epoch = 0;
  #endPause = () => {};

  /**
   * @param {(text: string, id: string) => Promise<{status?: number, retryAfterMs?: number}>} post sends a text; no status: no answer
   * @param {(id: string, state: TextState) => void} onState
   * @param {() => number} [now] ms
   */
  constructor(post, onState, now = () => performance.now()) {
    this.#post = post;
    this.#onState = onState;
    this.#now = now;
  }

  /** @returns {boolean} whether the queue takes no more texts */
  get isFull() {
    return this.#waiting.length >= MAX_WAITING;
  }

  /**
   * Sends a text, after the texts that wait already. Call only if the queue isn't full.
   * @param {string} text
   * @param {string} id newId(), or the ID of a text that failed and is sent again
   */
  add(text, id) {
    this.#waiting.push({ text, id, sinceMs: this.#now() });
    this.#onState(id, 'sending');
    this.#run();
  }

  /** Stops sending a text, because it has arrived in the stream. @param {string} id */
  remove(id) {
    this.#waiting = this.#waiting.filter((entry) => entry.id !== id);
    this.wake();
  }

  /** Sends the next text at once, because the connection is back. */
  wake() {
    this.#backoff.reset();
    this.#endPause();
  }

  /** Forgets all texts. */
  clear() {
    this.#epoch += 1;
    this.#waiting = [];
    this.#running = false;
    this.wake();
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    const epoch = this.#epoch;
    while (this.#waiting.length > 0) {
      const { text, id, sinceMs } = this.#waiting[0];
      if (this.#now() - sinceMs > MAX_AGE_MS) {
        this.#end(id, 'failed');
        continue;
      }
      const { status = 0, retryAfterMs } = await this.#post(text, id);
      if (epoch !== this.#epoch) return;
      if (this.#waiting[0]?.id !== id) continue;
      if (status >= 200 && status < 300) this.#end(id, 'sent');
      else if (FINAL.includes(status)) this.#end(id, 'failed');
      else await this.#pause(status === 429 && retryAfterMs ? retryAfterMs : this.#backoff.next());
      if (epoch !== this.#epoch) return;
    }
    this.#running = false;
  }

  #end(id, state) {
    this.remove(id);
    this.#onState(id, state);
  }

  #pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.min(ms, MAX_PAUSE_MS));
      this.#endPause = () => { clearTimeout(timer); resolve(); };
    });
  }
}

/** The texts that were received, so that a text that the listener sends again is shown once. */
export class ReceivedTexts {
  #keys = new Set();

  /**
   * @param {string} from
   * @param {string | undefined} id undefined: a program sent the text without an ID, and never sends it again
   * @returns {boolean} whether the text is new
   */
  isNew(from, id) {
    if (id === undefined) return true;
    const key = `${from} ${id}`;
    if (this.#keys.has(key)) return false;
    this.#keys.add(key);
    if (this.#keys.size > MAX_RECEIVED) this.#keys.delete(this.#keys.values().next().value);
    return true;
  }

  /** Forgets all texts. */
  clear() {
    this.#keys.clear();
  }
}

/** @returns {string} an ID for a text */
export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
