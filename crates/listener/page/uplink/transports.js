/**
 * The two ways to send chunks to `/speak`: a WebSocket, or one POST after another with all queued chunks. Both have the same methods:
 * `ready`, `send(chunks)`, `close()`. They don't reconnect; uplink.js does.
 */

import { writeSamples, writeWav } from '../base/wav.js';

const HEADER_BYTES = 16;
/** Maximum length of the sound in the WebSocket's send buffer. */
const SOCKET_MS = 100;
/** Timeout for the answer to a POST. */
const POST_TIMEOUT_MS = 8000;
/** Timeout for opening a WebSocket. */
const CONNECT_TIMEOUT_MS = 6000;
/** Close code: another page or a program has taken the microphone. */
const CLOSE_TAKEN = 4001;
/** RFC 6455 §7.1.5: no close frame was received. */
const CLOSE_ABNORMAL = 1006;
const STATUS_TAKEN = 409;
/** HTTP status of a listener that is being replaced: the next process accepts the chunks. */
const STATUS_REPLACED = 503;

/**
 * @typedef {'taken' | 'lost' | 'broken' | 'never opened'} Ending taken: by another page or a program; broken: without a close message
 *   from the listener
 * @typedef {{onOpen: () => void, onReady: () => void,
 *   onEnd: (why: Ending, unsent?: import('./send-queue.js').QueuedChunk[]) => void}} TransportHandlers
 *   unsent: chunks that the listener may not have accepted
 */

/** A WebSocket of binary messages, one per chunk. */
export class SocketTransport {
  kind = 'websocket';
  #socket;
  #opened = false;
  #firstNumber;
  #limitBytes;
  #timeout;

  /**
   * @param {{page: string, room: string, rateHz: number, firstNumber: number}} options
   * @param {TransportHandlers} handlers
   */
  constructor({ page, room, rateHz, firstNumber }, handlers) {
    const url = new URL(`speak?${new URLSearchParams({ page, room })}`, document.baseURI);
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

  /** @returns {boolean} whether the send buffer has room; the queue drops old chunks, the browser's buffer doesn't */
  get ready() {
    return this.#socket.readyState === WebSocket.OPEN && this.#socket.bufferedAmount < this.#limitBytes;
  }

  /** @param {import('./send-queue.js').QueuedChunk[]} chunks whose memory is released */
  send(chunks) {
    for (const chunk of chunks) {
      const message = this.#message(chunk);
      this.#socket.send(message);
      // Releases the message's memory: Chromium on a busy machine collected no sent message for 24 minutes.
      message.transfer?.(0);
      chunk.samples.buffer.transfer?.(0);
    }
  }

  /** Closes without calling a handler. */
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
export class PostTransport {
  kind = 'post';
  #page;
  #room;
  #rateHz;
  #handlers;
  #inFlight = null;
  #closed = false;

  /**
   * @param {{page: string, room: string, rateHz: number}} options
   * @param {TransportHandlers} handlers
   */
  constructor({ page, room, rateHz }, handlers) {
    this.#page = page;
    this.#room = room;
    this.#rateHz = rateHz;
    this.#handlers = handlers;
    queueMicrotask(() => { if (!this.#closed) handlers.onOpen(); });
  }

  /** @returns {boolean} whether no POST is in flight */
  get ready() {
    return !this.#inFlight && !this.#closed;
  }

  /** @param {import('./send-queue.js').QueuedChunk[]} chunks at least one */
  async send(chunks) {
    this.#inFlight = new AbortController();
    const timeout = setTimeout(() => this.#inFlight?.abort(), POST_TIMEOUT_MS);
    const url = `speak?${new URLSearchParams({ page: this.#page, room: this.#room, t: Math.round(chunks[0].wallMs) })}`;
    const { why, unsent } = await this.#post(url, writeWav(chunks.map((chunk) => chunk.samples), this.#rateHz));
    clearTimeout(timeout);
    this.#inFlight = null;
    if (this.#closed) return;
    if (!why) this.#handlers.onReady();
    else this.#end(why, unsent ? chunks : []);
  }

  /** Closes without calling a handler. */
  close() {
    this.#closed = true;
    this.#inFlight?.abort();
  }

  async #post(url, body) {
    try {
      const headers = { 'Content-Type': 'audio/wav' };
      const { ok, status } = await fetch(url, { method: 'POST', body, headers, signal: this.#inFlight.signal });
      if (status === STATUS_TAKEN) return { why: 'taken' };
      return ok ? {} : { why: 'lost', unsent: status === STATUS_REPLACED };
    } catch {
      return { why: 'broken', unsent: true };
    }
  }

  #end(why, unsent) {
    this.#closed = true;
    this.#handlers.onEnd(why, unsent);
  }
}
