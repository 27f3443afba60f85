/**
 * The two ways from the page to `/speak`: a WebSocket, or one POST after the other with everything queued in it.
 * Both have the same face: `ready`, `send(chunks)`, `close()`, and handlers. Neither tries again: uplink.js does.
 */

import { writeSamples, writeWav } from './wav.js';

const HEADER_BYTES = 16;
const SOCKET_MS = 100;
const POST_TIMEOUT_MS = 8000;
const CONNECT_TIMEOUT_MS = 6000;
const CLOSE_TAKEN = 4001;
/** RFC 6455 §7.1.5: no close frame came. */
const CLOSE_ABNORMAL = 1006;
const STATUS_TAKEN = 409;
/** The process is being replaced; the next one takes it. */
const STATUS_REPLACED = 503;

/**
 * @typedef {'taken' | 'lost' | 'broken' | 'never opened'} Ending broken: without a word from the listener
 * @typedef {{onOpen: () => void, onReady: () => void,
 *   onEnd: (why: Ending, unsaid?: import('./send-queue.js').QueuedChunk[]) => void}} LinkHandlers
 *   unsaid: what the listener has not taken, or perhaps not
 */

/** A WebSocket of binary messages, one per chunk. */
export class SocketLink {
  kind = 'websocket';
  #socket;
  #opened = false;
  #firstNumber;
  #limitBytes;
  #timeout;

  /**
   * @param {{page: string, rateHz: number, firstNumber: number}} options
   * @param {LinkHandlers} handlers
   */
  constructor({ page, rateHz, firstNumber }, handlers) {
    const url = new URL(`speak?page=${page}`, document.baseURI);
    url.protocol = url.protocol === 'http:' ? 'ws:' : 'wss:';
    this.#firstNumber = firstNumber;
    this.#limitBytes = (2 * rateHz * SOCKET_MS) / 1000;
    this.#socket = new WebSocket(url);
    this.#socket.onopen = () => {
      this.#opened = true;
      handlers.onOpen();
    };
    this.#socket.onclose = ({ code }) => this.#closed(code, handlers);
    this.#timeout = setTimeout(() => { if (!this.#opened) this.#socket.close(); }, CONNECT_TIMEOUT_MS);
  }

  /** @returns {boolean} whether the socket takes more; what it doesn't take ages in our queue, not in the browser's */
  get ready() {
    return this.#socket.readyState === WebSocket.OPEN && this.#socket.bufferedAmount < this.#limitBytes;
  }

  /** @param {import('./send-queue.js').QueuedChunk[]} chunks whose memory is given back */
  send(chunks) {
    for (const chunk of chunks) {
      const message = this.#message(chunk);
      this.#socket.send(message);
      // Chromium was seen to collect none of these for 24 minutes while the machine was busy.
      message.transfer?.(0);
      chunk.samples.buffer.transfer?.(0);
    }
  }

  /** Ends it without a word to the handlers. */
  close() {
    clearTimeout(this.#timeout);
    this.#socket.onopen = null;
    this.#socket.onclose = null;
    this.#socket.close(1000);
  }

  #closed(code, { onEnd }) {
    clearTimeout(this.#timeout);
    if (code === CLOSE_TAKEN) onEnd('taken');
    else if (!this.#opened) onEnd('never opened');
    else onEnd(code === CLOSE_ABNORMAL ? 'broken' : 'lost');
  }

  #message({ number, samples, wallMs }) {
    const view = new DataView(new ArrayBuffer(HEADER_BYTES + 2 * samples.length));
    view.setUint32(0, number - this.#firstNumber, true);
    view.setFloat64(8, wallMs, true);
    writeSamples(view, HEADER_BYTES, samples);
    return view.buffer;
  }
}

/** POSTs of WAVs, one in flight. */
export class PostLink {
  kind = 'post';
  #page;
  #rateHz;
  #handlers;
  #inFlight = null;
  #closed = false;

  /**
   * @param {{page: string, rateHz: number}} options
   * @param {LinkHandlers} handlers
   */
  constructor({ page, rateHz }, handlers) {
    this.#page = page;
    this.#rateHz = rateHz;
    this.#handlers = handlers;
    queueMicrotask(() => { if (!this.#closed) handlers.onOpen(); });
  }

  /** @returns {boolean} whether the last POST was answered */
  get ready() {
    return !this.#inFlight && !this.#closed;
  }

  /** @param {import('./send-queue.js').QueuedChunk[]} chunks at least one */
  async send(chunks) {
    this.#inFlight = new AbortController();
    const timeout = setTimeout(() => this.#inFlight?.abort(), POST_TIMEOUT_MS);
    const url = `speak?page=${this.#page}&t=${Math.round(chunks[0].wallMs)}`;
    const { why, unsaid } = await this.#post(url, writeWav(chunks.map((chunk) => chunk.samples), this.#rateHz));
    clearTimeout(timeout);
    this.#inFlight = null;
    if (this.#closed) return;
    if (!why) this.#handlers.onReady();
    else this.#end(why, unsaid ? chunks : []);
  }

  /** Ends it without a word to the handlers. */
  close() {
    this.#closed = true;
    this.#inFlight?.abort();
  }

  async #post(url, body) {
    try {
      const headers = { 'Content-Type': 'audio/wav' };
      const { ok, status } = await fetch(url, { method: 'POST', body, headers, signal: this.#inFlight.signal });
      if (status === STATUS_TAKEN) return { why: 'taken' };
      return ok ? {} : { why: 'lost', unsaid: status === STATUS_REPLACED };
    } catch {
      return { why: 'broken', unsaid: true };
    }
  }

  #end(why, unsaid) {
    this.#closed = true;
    this.#handlers.onEnd(why, unsaid);
  }
}
