/**
 * Folder uplink/: sends the microphone's chunks to the listener. May import base/ and codec/.
 *
 * This file tries a WebSocket first. If that can't be opened twice in a row while the stream itself works, it uses POSTs (an untrusted
 * certificate on iOS, an old proxy). If another page or a program has taken the microphone, nothing is sent until the user takes it back.
 * A POST that a listener didn't take while it was being replaced is sent again together with newer chunks, unless it is too old by then.
 */

import { Backoff } from '../base/backoff.js';
import { pageId } from '../base/page-id.js';
import { OpusEncoder, uplinkName } from '../codec/opus-encoder.js';
import { SendQueue } from './send-queue.js';
import { PostTransport, SocketTransport } from './transports.js';

/** Number of failed WebSockets in a row after which POSTs are used. */
const SOCKET_TRIES = 2;
/** Length of the queue from which on POSTs are too slow. */
const POST_LATE_MS = 250;

/**
 * @typedef {'off' | 'connecting' | 'open' | 'taken' | 'free'} UplinkState
 * @typedef {{onState: (state: UplinkState) => void, onBroken: () => void, reachable: () => boolean,
 *   onFault?: (what: string) => void, onUnsent?: (ms: number) => void, onEncoderFailed?: () => void}} UplinkHandlers
 *   free: another page or a program had taken the microphone and has it no longer;
 *   onUnsent: length of the sound that is not sent yet, after each chunk while there is a connection;
 *   onEncoderFailed: the uplink sends PCM from now on;
 *   onBroken: an open connection broke without a close message, so the listener may be gone;
 *   reachable: returns whether the stream works; if it does, the WebSocket and not the network caused a failure
 */

/** The uplink of one page. */
export class Uplink {
  #handlers;
  #page = pageId();
  #queue = new SendQueue(24000);
  #backoff = new Backoff();
  #transport = null;
  #next = null;
  #retry = 0;
  #openedMs = 0;
  #failures = 0;
  #posting;
  #forced;
  #room;
  #encoder = null;
  #kbps = 0;
  #sentBytes = 0;
  /** @type {UplinkState} */
  state = 'off';
  /** Totals since the page was opened. */
  counts = { sent: 0, droppedBefore: 0, reconnects: 0 };

  /**
   * @param {UplinkHandlers} handlers
   * @param {{room: string, postOnly: boolean}} options postOnly: never tries a WebSocket (`#uplink=post`)
   */
  constructor(handlers, { room, postOnly }) {
    this.#handlers = handlers;
    this.#room = room;
    this.#forced = postOnly;
    this.#posting = postOnly;
  }

  /** @returns {'none' | 'websocket' | 'post'} */
  get kind() {
    return this.#transport?.kind ?? 'none';
  }

  /** @returns {number} chunks that were dropped because they were too old */
  get dropped() {
    return this.counts.droppedBefore + this.#queue.dropped;
  }

  /** @returns {number} bytes that were sent since the page was opened */
  get bytes() {
    return this.#sentBytes + (this.#transport?.bytes ?? 0);
  }

  /** @returns {string} name of the format */
  get format() {
    return uplinkName(this.#encoder ? this.#kbps : 0);
  }

  /** @param {number} kbps bit rate of Opus, or 0 for PCM */
  setBitRate(kbps) {
    if (kbps === this.#kbps) return;
    this.#kbps = kbps;
    this.#makeEncoder();
  }

  /** @param {number} rateHz of the room; a change reconnects */
  setRate(rateHz) {
    if (rateHz === this.#queue.rateHz) return;
    this.counts.droppedBefore += this.#queue.dropped;
    this.#queue = new SendQueue(rateHz);
    this.#makeEncoder();
    if (this.#transport) this.#connect();
  }

  /** Drops the waiting chunks and reconnects if the participant is in another room now. The listener refuses sound for the previous room. */
  setRoom(room) {
    if (room === this.#room) return;
    this.#room = room;
    this.#queue.takeAll();
    if (this.#transport) this.#connect();
  }

  /** Drops the chunks that wait for the network or the encoder. */
  discard() {
    this.#queue.takeAll();
    this.#makeEncoder();
  }

  /** Connects; the newest page has the microphone from then on. */
  start() {
    // The listener keeps refusing the page ID that has lost the microphone, so use a new ID.
    if (this.#isLost) this.#page = pageId();
    if (this.state === 'off' || this.#isLost) this.#connect();
  }

  /** Notes whether any page or program has the microphone, which matters if this page has lost it. @param {boolean} used */
  seen(used) {
    if (this.#isLost) this.#setState(used ? 'taken' : 'free');
  }

  /** Disconnects. */
  stop() {
    this.#drop();
    this.#queue.takeAll();
    this.#setState('off');
  }

  /** Connects to the listener's next process in a handover, and then closes the old socket. POSTs need no action. */
  move() {
    if (this.state !== 'open' || this.#posting || this.#next) return;
    this.#next = this.#make(() => this.#moved());
  }

  /** Retries at once, with a WebSocket first, because the listener answers again after a loss. */
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
    if (this.state === 'off' || this.#isLost) return;
    if (this.#encoder) this.#encoder.push(chunk);
    else this.#push(chunk);
  }

  #push(chunk) {
    this.#queue.push(chunk);
    this.#drain();
    if (this.state === 'open') this.#handlers.onUnsent?.(this.#unsentMs);
  }

  /** Length of the sound that is not sent. For POSTs, only a full queue is late: every POST waits for the previous POST. */
  get #unsentMs() {
    const { heldMs } = this.#queue;
    if (this.kind === 'post') return heldMs > POST_LATE_MS ? heldMs : 0;
    return heldMs + (this.#transport?.unsentMs ?? 0);
  }

  #makeEncoder() {
    this.#encoder?.close();
    this.#encoder = null;
    if (this.#kbps === 0) return;
    try {
      this.#encoder = new OpusEncoder({ rateHz: this.#queue.rateHz, kbps: this.#kbps }, {
        onPackets: (chunk) => { if (this.state !== 'off' && !this.#isLost) this.#push(chunk); },
        onError: (why) => this.#encoderFailed(why),
      });
    } catch (error) {
      this.#encoderFailed(error.message);
    }
  }

  #encoderFailed(why) {
    this.#encoder = null;
    this.#kbps = 0;
    this.#handlers.onFault?.(`uplink: Opus: ${why}`);
    this.#handlers.onEncoderFailed?.();
  }

  get #isLost() {
    return this.state === 'taken' || this.state === 'free';
  }

  #connect() {
    this.#drop();
    this.#setState('connecting');
    this.#transport = this.#make(() => this.#opened());
  }

  #make(onOpen) {
    const Transport = this.#posting ? PostTransport : SocketTransport;
    const options = { page: this.#page, room: this.#room, rateHz: this.#queue.rateHz, firstNumber: this.#queue.nextNumber };
    const transport = new Transport(options, {
      onOpen: () => { if (transport === this.#transport || transport === this.#next) onOpen(); },
      onReady: () => { if (transport === this.#transport) this.#drain(); },
      onEnd: (why, unsent) => {
        if (transport === this.#transport) this.#ended(why, unsent);
        if (transport === this.#next) this.#next = null;
      },
    });
    return transport;
  }

  /** Closes the old socket after a handover. WebSocket.close() sends the chunks in its buffer first. */
  #moved() {
    this.#forget();
    clearTimeout(this.#retry);
    this.#transport = this.#next;
    this.#next = null;
    this.#opened();
  }

  #drop() {
    clearTimeout(this.#retry);
    this.#forget();
    this.#next?.close();
    this.#next = null;
    // With POST, the waiting chunks are sent by the next request. A new WebSocket must not send old chunks, so they are dropped.
    if (!this.#posting) this.#queue.takeAll();
  }

  #forget() {
    this.#transport?.close();
    this.#sentBytes += this.#transport?.bytes ?? 0;
    this.#transport = null;
  }

  #drain() {
    this.#queue.dropOld(performance.timeOrigin + performance.now());
    while (this.#transport?.ready) {
      const chunks = this.#queue.takeAlike();
      if (chunks.length === 0) return;
      this.counts.sent += chunks.length;
      this.#transport.send(chunks);
    }
  }

  #opened() {
    this.#openedMs = performance.now();
    this.#failures = 0;
    this.#setState('open');
    this.#drain();
  }

  #ended(why, unsent = []) {
    if (this.state === 'open') this.#backoff.lived(performance.now() - this.#openedMs);
    this.#handlers.onFault?.(`uplink by ${this.kind}: ${why}`);
    this.#forget();
    if (why === 'refused' && this.#encoder) {
      this.#queue.takeAll();
      this.#encoder.close();
      this.#encoderFailed('the listener refuses it');
    }
    if (why === 'taken') {
      this.#queue.takeAll();
      this.#setState('taken');
      return;
    }
    this.counts.sent -= unsent.length;
    this.#queue.putBack(unsent, performance.timeOrigin + performance.now());
    if (why === 'never opened' && this.#handlers.reachable()) this.#failures += 1;
    if (this.#failures >= SOCKET_TRIES) this.#posting = true;
    this.counts.reconnects += 1;
    if (why === 'broken') this.#handlers.onBroken();
    this.#setState('connecting');
    this.#retry = setTimeout(() => this.#connect(), this.#backoff.next());
  }

  #setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.#handlers.onState(state);
  }
}
