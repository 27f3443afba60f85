/**
 * Tells the listener what the other participants see of this page's participant: a raised hand, the microphone's state and a weak connection. Repeats
 * a request until the listener has accepted it.
 */

import { sendPresence } from './requests.js';

/** Delay before a failed request is repeated. */
const RETRY_MS = 2000;

/** Reports one participant's presence from joining to leaving. */
export class PresenceReporter {
  #wanted = '';
  #told = '';
  #process = 0;
  #timer = 0;
  #busy = false;
  #stopped = false;
  #page;

  /** @param {string} page ID of this page: when its stream has ended, the listener lowers the hand that it has raised */
  constructor(page) {
    this.#page = page;
  }

  /** @param {{hand?: boolean, microphone: 'open' | 'muted' | 'none', weak: boolean}} state */
  show(state) {
    this.#wanted = JSON.stringify(state);
    this.#tellSoon();
  }

  /** Sends the state again, because a new process of the listener may not know it. */
  tellAgain() {
    this.#told = '';
    this.#process += 1;
    this.#tellSoon();
  }

  /** Sends nothing from now on. */
  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** Sends the state soon: several changes at once need only one request. */
  #tellSoon() {
    queueMicrotask(() => this.#tell());
  }

  async #tell() {
    clearTimeout(this.#timer);
    if (this.#busy || this.#stopped || this.#wanted === this.#told) return;
    this.#busy = true;
    const [telling, process] = [this.#wanted, this.#process];
    const ok = await sendPresence(this.#page, telling);
    this.#busy = false;
    // If a new process of the listener has started meanwhile, this request did not reach it and is repeated.
    if (ok && process === this.#process) this.#told = telling;
    if (!this.#stopped && this.#wanted !== this.#told) this.#timer = setTimeout(() => this.#tell(), ok ? 0 : RETRY_MS);
  }
}
