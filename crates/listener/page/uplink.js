/**
 * Brings the microphone's chunks to the listener and knows whether they arrive.
 *
 * A WebSocket first; if it cannot be opened twice in a row while the stream itself lives, POSTs (an untrusted
 * certificate on iOS, an old proxy). A newer page may take the microphone: then nothing is sent until the person takes
 * it back. It never opens the microphone and never mutes it: it only loses what can't be sent. A POST that a listener on its
 * way out didn't take is said again, together with what came meanwhile, unless it is too old by then.
 */

import { Backoff } from './backoff.js';
import { SendQueue } from './send-queue.js';
import { PostLink, SocketLink } from './uplink-links.js';

const SOCKET_TRIES = 2;

/**
 * @typedef {'off' | 'connecting' | 'open' | 'taken'} UplinkState
 * @typedef {{onState: (state: UplinkState) => void, onBroken: () => void, reachable: () => boolean,
 *   onFault?: (what: string) => void}} UplinkHandlers
 *   onBroken: what was open broke off without a word, so that the listener may be gone;
 *   reachable: whether the listener answers otherwise, so that a failure is the WebSocket's and not the network's
 */

/** The way of one page's microphone to the room. */
export class Uplink {
  #handlers;
  #page = pageId();
  #queue = new SendQueue(24000);
  #backoff = new Backoff();
  #link = null;
  #next = null;
  #retry = 0;
  #openedMs = 0;
  #failures = 0;
  #posting;
  #forced;
  /** @type {UplinkState} */
  state = 'off';
  /** What happened since the page was opened. */
  counts = { sent: 0, droppedBefore: 0, reconnects: 0 };

  /**
   * @param {UplinkHandlers} handlers
   * @param {boolean} postOnly never tries a WebSocket (`#uplink=post`)
   */
  constructor(handlers, postOnly) {
    this.#handlers = handlers;
    this.#forced = postOnly;
    this.#posting = postOnly;
  }

  /** @returns {'none' | 'websocket' | 'post'} */
  get kind() {
    return this.#link?.kind ?? 'none';
  }

  /** @returns {number} chunks that became too old */
  get dropped() {
    return this.counts.droppedBefore + this.#queue.dropped;
  }

  /** @param {number} rateHz of the room; the connection is made anew if it changes */
  setRate(rateHz) {
    if (rateHz === this.#queue.rateHz) return;
    this.counts.droppedBefore += this.#queue.dropped;
    this.#queue = new SendQueue(rateHz);
    if (this.#link) this.#connect();
  }

  /** Connects; the newest page owns the microphone from then on. */
  start() {
    // An identity that has lost the microphone is refused from then on; a person who wants it back comes as a new one.
    if (this.state === 'taken') this.#page = pageId();
    if (this.state === 'off' || this.state === 'taken') this.#connect();
  }

  /** Ends it. */
  stop() {
    this.#drop();
    this.#queue.takeAll();
    this.#become('off');
  }

  /** A new process serves: the next socket first, the old one goes on until that one is open. POSTs find their way. */
  move() {
    if (this.state !== 'open' || this.#posting || this.#next) return;
    this.#next = this.#make(() => this.#moved());
  }

  /** The listener answers again after a loss: what was tried in vain before may work now. */
  reconsider() {
    this.#failures = 0;
    this.#backoff.reset();
    const openedSecondBest = this.state === 'open' && this.#posting && !this.#forced;
    if (this.state !== 'connecting' && !openedSecondBest) return;
    this.#posting = this.#forced;
    this.#connect();
  }

  /** @param {{samples: Int16Array, wallMs: number}} chunk */
  send(chunk) {
    if (this.state === 'off' || this.state === 'taken') return;
    this.#queue.push(chunk);
    this.#drain();
  }

  #connect() {
    this.#drop();
    this.#become('connecting');
    this.#link = this.#make(() => this.#opened());
  }

  #make(onOpen) {
    const Link = this.#posting ? PostLink : SocketLink;
    const options = { page: this.#page, rateHz: this.#queue.rateHz, firstNumber: this.#queue.nextNumber };
    const link = new Link(options, {
      onOpen: () => { if (link === this.#link || link === this.#next) onOpen(); },
      onReady: () => { if (link === this.#link) this.#drain(); },
      onEnd: (why, unsaid) => {
        if (link === this.#link) this.#ended(why, unsaid);
        if (link === this.#next) this.#next = null;
      },
    });
    return link;
  }

  /** What the old socket still has is sent before it closes: WebSocket.close() ends in order. */
  #moved() {
    this.#link?.close();
    clearTimeout(this.#retry);
    this.#link = this.#next;
    this.#next = null;
    this.#opened();
  }

  #drop() {
    clearTimeout(this.#retry);
    this.#link?.close();
    this.#next?.close();
    this.#link = null;
    this.#next = null;
    // Between two POSTs there is nothing to open: what waits is said by the next one.
    if (!this.#posting) this.#queue.takeAll();
  }

  #drain() {
    if (!this.#link?.ready) return;
    const chunks = this.#queue.takeAll();
    if (chunks.length === 0) return;
    this.counts.sent += chunks.length;
    this.#link.send(chunks);
  }

  #opened() {
    this.#openedMs = performance.now();
    this.#failures = 0;
    this.#become('open');
    this.#drain();
  }

  #ended(why, unsaid = []) {
    if (this.state === 'open') this.#backoff.lived(performance.now() - this.#openedMs);
    this.#handlers.onFault?.(`uplink by ${this.kind}: ${why}`);
    this.#link = null;
    if (why === 'taken') {
      this.#queue.takeAll();
      this.#become('taken');
      return;
    }
    this.counts.sent -= unsaid.length;
    this.#queue.putBack(unsaid, performance.timeOrigin + performance.now());
    if (why === 'never opened' && this.#handlers.reachable()) this.#failures += 1;
    if (this.#failures >= SOCKET_TRIES) this.#posting = true;
    this.counts.reconnects += 1;
    if (why === 'broken') this.#handlers.onBroken();
    this.#become('connecting');
    this.#retry = setTimeout(() => this.#connect(), this.#backoff.next());
  }

  #become(state) {
    if (state === this.state) return;
    this.state = state;
    this.#handlers.onState(state);
  }
}

/** @returns {string} 16 letters and digits, made anew for each page that is opened */
function pageId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => (n % 36).toString(36)).join('');
}
