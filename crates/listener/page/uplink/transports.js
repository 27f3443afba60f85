/**
 * The two ways to send chunks to `/speak`: a WebSocket, or one POST after another with all queued chunks. Both have the same methods:
 * `ready`, `bytes`, `unsentMs`, `send(chunks)`, `close()`. They don't reconnect; uplink.js does.
 */

import { writePackets } from '../base/packets.js';
import { writeSamples, writeWav } from '../base/wav.js';
import { Lag } from './lag.js';
import { isOpus } from './send-queue.js';

const HEADER_BYTES = 16;
/** Format in the header of a message with Opus; PCM is 0. */
const FORMAT_OPUS = 1;
const OPUS_TYPE = 'application/vnd.palabre.opus';
/** Maximum number of bytes of Opus in the WebSocket's send buffer: about 100 ms at 32 kbit/s, with headers. */
const SOCKET_OPUS_BYTES = 600;
/** Maximum length of the sound in the WebSocket's send buffer. */
const SOCKET_MS = 100;
/** Maximum lateness of the chunks at the listener. If it is greater, the page keeps back further chunks, because the listener would drop them. */
const LATE_MS = 300;
/** Timeout for the answer to a POST. */
const POST_TIMEOUT_MS = 8000;
/** Timeout for opening a WebSocket. */
const CONNECT_TIMEOUT_MS = 6000;
/** Close code: another page or a program has taken the microphone. */
const CLOSE_TAKEN = 4001;
/** RFC 6455 §7.1.5: no close frame was received. */
const CLOSE_ABNORMAL = 1006;
/** Close code of a listener that doesn't accept the format. */
const CLOSE_REFUSED = 1003;
/** HTTP status of a listener that doesn't accept the format. */
const STATUS_REFUSED = 415;
const STATUS_TAKEN = 409;
/** HTTP status of a listener that is being replaced: the next process accepts the chunks. */
const STATUS_REPLACED = 503;

/**
 * @typedef {'taken' | 'lost' | 'refused' | 'broken' | 'never opened'} Ending taken: by another page or a program; refused: the listener doesn't accept the
 *   format; broken: without a close message from the listener
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
  #pcmLimitBytes;
  #lag = new Lag();
  /** Number of bytes that were sent. */
  bytes = 0;
  #timeout;

  /**
   * @param {{page: string, room: string, rateHz: number, firstNumber: number}} options
   * @param {TransportHandlers} handlers
   */
  constructor({ page, room, rateHz, firstNumber }, handlers) {
    const url = new URL(`speak?${new URLSearchParams({ page, room })}`, document.baseURI);
    url.protocol = url.protocol === 'http:' ? 'ws:' : 'wss:';
    this.#firstNumber = firstNumber;
    this.#pcmLimitBytes = (2 * rateHz * SOCKET_MS) / 1000;
    this.#limitBytes = this.#pcmLimitBytes;
    this.#socket = new WebSocket(url);
    this.#socket.binaryType = 'arraybuffer';
    this.#socket.onmessage = ({ data }) => {
      this.#lag.acknowledged(new DataView(data).getUint32(0, true), wallMs());
      handlers.onReady();
    };
    this.#socket.onopen = () => {
      this.#opened = true;
      handlers.onOpen();
    };
    this.#socket.onclose = ({ code }) => this.#closed(code, handlers);
    this.#timeout = setTimeout(() => { if (!this.#opened) this.#socket.close(); }, CONNECT_TIMEOUT_MS);
  }

  /** @returns {boolean} whether the send buffer has room; the queue drops old chunks, the browser's buffer doesn't */
  get ready() {
    return this.#socket.readyState === WebSocket.OPEN && this.#socket.bufferedAmount < this.#limitBytes && this.#lag.lateMs(wallMs()) < LATE_MS;
  }

  /** @returns {number} length of the sound in the send buffer, or how late the listener receives it, in ms */
  get unsentMs() {
    return Math.max((SOCKET_MS * this.#socket.bufferedAmount) / this.#limitBytes, this.#lag.lateMs(wallMs()));
  }

  /** @param {import('./send-queue.js').QueuedChunk[]} chunks whose memory is released */
  send(chunks) {
    for (const chunk of chunks) {
      const message = isOpus(chunk) ? this.#opusMessage(chunk) : this.#message(chunk);
      this.#limitBytes = isOpus(chunk) ? SOCKET_OPUS_BYTES : this.#pcmLimitBytes;
      this.bytes += message.byteLength;
      this.#lag.sent(chunk.number - this.#firstNumber, chunk.wallMs);
      this.#socket.send(message);
      // Releases the message's memory: on a busy machine, Chromium's garbage collector freed no sent message for 24 minutes.
      message.transfer?.(0);
      chunk.samples?.buffer.transfer?.(0);
    }
  }

  /** Closes without calling a handler. */
  close() {
    clearTimeout(this.#timeout);
    this.#socket.onopen = null;
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    this.#socket.close(1000);
  }

  #closed(code, { onEnd }) {
    clearTimeout(this.#timeout);
    if (code === CLOSE_TAKEN) onEnd('taken');
    else if (!this.#opened) onEnd('never opened');
    else if (code === CLOSE_REFUSED) onEnd('refused');
    else onEnd(code === CLOSE_ABNORMAL ? 'broken' : 'lost');
  }

  #message({ number, samples, wallMs }) {
    const view = new DataView(new ArrayBuffer(HEADER_BYTES + 2 * samples.length));
    this.#writeHeader(view, number, 0, wallMs);
    writeSamples(view, HEADER_BYTES, samples);
    return view.buffer;
  }

  #opusMessage({ number, packets, wallMs }) {
    const { buffer } = writePackets(packets, HEADER_BYTES);
    this.#writeHeader(new DataView(buffer), number, FORMAT_OPUS, wallMs);
    return buffer;
  }

  #writeHeader(view, number, format, wallMs) {
    view.setUint32(0, number - this.#firstNumber, true);
    view.setUint32(4, format, true);
    view.setFloat64(8, wallMs, true);
  }
}

/** POSTs of WAVs or lists of packets, one in flight. */
export class PostTransport {
  kind = 'post';
  #page;
  #room;
  #rateHz;
  #handlers;
  #inFlight = null;
  bytes = 0;
  /** The queue's length says how late POSTs are. */
  unsentMs = 0;
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

  /** @param {import('./send-queue.js').QueuedChunk[]} chunks at least one, all of the same format */
  async send(chunks) {
    this.#inFlight = new AbortController();
    const timeout = setTimeout(() => this.#inFlight?.abort(), POST_TIMEOUT_MS);
    const url = `speak?${new URLSearchParams({ page: this.#page, room: this.#room, t: Math.round(chunks[0].wallMs) })}`;
    const body = isOpus(chunks[0])
      ? writePackets(chunks.flatMap(({ packets }) => packets)).buffer : writeWav(chunks.map(({ samples }) => samples), this.#rateHz);
    this.bytes += body.byteLength;
    const { why, unsent } = await this.#post(url, body, isOpus(chunks[0]) ? OPUS_TYPE : 'audio/wav');
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

  async #post(url, body, type) {
    try {
      const headers = { 'Content-Type': type };
      const { ok, status } = await fetch(url, { method: 'POST', body, headers, signal: this.#inFlight.signal });
      if (status === STATUS_TAKEN) return { why: 'taken' };
      if (status === STATUS_REFUSED) return { why: 'refused' };
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

function wallMs() {
  return performance.timeOrigin + performance.now();
}
