/**
 * Chooses the format of the stream and of the uplink by the user's setting, the server's setting, the abilities of the browser, and the line.
 */

import { ADPCM, PCM, opusAt } from './formats.js';
import { Ladder, RUNGS, StreamDelay, isLoopback, isThrifty } from './ladder.js';
import { encodesOpus } from './opus-encoder.js';
import { decodesOpus, isKnownToDecode } from './opus-support.js';

/** Time without Opus in the uplink after the first failure of the encoder. */
const ENCODER_RETRY_MS = 60_000;

/**
 * @typedef {{onStream: (format: import('./formats.js').Format) => void, onUplink: (kbps: number) => void}} ChoiceHandlers
 *   onUplink: 0 means PCM
 */

/** The choice of one stay in the room. */
export class FormatChoice {
  #handlers;
  #quality;
  #fixedKbps;
  #codec;
  #down = new Ladder();
  #up = new Ladder();
  #delay = new StreamDelay();
  /** Whether decoding has failed. */
  #decoderFailed = false;
  /** If decoding has failed: PCM replaces Opus at this bit rate and higher ones, and ADPCM replaces it at lower ones. */
  #pcmKbps = 0;
  #encodes = false;
  /** Before this time the uplink has no Opus, because the encoder has failed. */
  #noEncoderUntilMs = 0;
  #encoderRetryMs = ENCODER_RETRY_MS;
  #stopped = false;
  #kbps = 0;
  stream = PCM;

  /**
   * @param {{quality: import('./ladder.js').Quality, fixedKbps?: number}} wish fixedKbps: the only rung, for tests
   * @param {ChoiceHandlers} handlers called when a format changes
   */
  constructor({ quality, fixedKbps }, handlers) {
    this.#quality = quality;
    this.#fixedKbps = fixedKbps;
    this.#handlers = handlers;
  }

  /** @param {import('./ladder.js').Quality} quality */
  setQuality(quality) {
    this.#quality = quality;
    this.look();
  }

  /** Notes the server's setting, as in `/me`. @param {{codec?: string}} me */
  setServer({ codec }) {
    const isNew = codec !== this.#codec;
    this.#codec = codec;
    this.look();
    if (isNew && codec !== undefined) this.#ask();
  }

  /** Notes a record of sound. @param {{seq: number, lost?: boolean}} record */
  heard({ seq, lost }) {
    const nowMs = performance.now();
    this.#down.behind(lost ? Infinity : this.#delay.behindMs(seq, nowMs), nowMs);
  }

  /** Notes how much of the microphone's sound is not sent. @param {number} ms */
  unsent(ms) {
    this.#up.behind(ms, performance.now());
  }

  /**
   * Uses no Opus in the stream for the rest of this stay. A line that had the lowest bit rate gets ADPCM, because PCM would be too much for it.
   * @returns {import('./formats.js').Format} the format that replaces Opus
   */
  decoderFailed() {
    const kbps = this.#down.kbps;
    this.#decoderFailed = true;
    this.#pcmKbps = kbps > RUNGS.at(-1) ? kbps : Infinity;
    this.stream = this.#formatAt(kbps);
    return this.stream;
  }

  /** Uses no Opus in the uplink for a minute, after a further failure for twice as long. */
  encoderFailed() {
    this.#noEncoderUntilMs = performance.now() + this.#encoderRetryMs;
    this.#encoderRetryMs *= 2;
    this.look();
  }

  /** Chooses again. Call once a second. */
  look() {
    if (this.#stopped) return;
    const nowMs = performance.now();
    const wish = { quality: this.#quality, fixedKbps: this.#fixedKbps, codec: this.#codec, loopback: isLoopback(location.hostname ?? ''), thrifty: isThrifty() };
    const format = this.#formatAt(this.#down.choose(wish, nowMs));
    const kbps = this.#encodes && nowMs >= this.#noEncoderUntilMs ? this.#up.choose(wish, nowMs) : 0;
    if (format.name !== this.stream.name) {
      this.stream = format;
      this.#handlers.onStream(format);
    }
    if (kbps === this.#kbps) return;
    this.#kbps = kbps;
    this.#handlers.onUplink(kbps);
  }

  /** No handler is called afterwards. */
  stop() {
    this.#stopped = true;
  }

  #formatAt(kbps) {
    if (kbps === 0) return PCM;
    if (this.#decoderFailed) return kbps >= this.#pcmKbps ? PCM : ADPCM;
    return isKnownToDecode() ? opusAt(kbps) : ADPCM;
  }

  async #ask() {
    const [, encodes] = await Promise.all([decodesOpus(), encodesOpus()]);
    this.#encodes = encodes;
    this.look();
  }
}
