/**
 * Encodes the microphone's sound with WebCodecs. The browser encodes on its own thread; the chunks are on the page's main thread before and
 * after that, so no worker is needed here.
 */

import { Resampler } from '../base/resampler.js';
import { PCM } from './formats.js';

const FRAME_MS = 20;
/**
 * Sample rate of the encoded sound. At higher rates, browsers encode a wider band with the same number of bits, and speech becomes worse
 * (docs/measurements.md, "How good is Opus?").
 */
const RATE_HZ = 16_000;
const FRAME_SAMPLES = (RATE_HZ * FRAME_MS) / 1000;
/** Speech needs about an eighth less than an encoder may use. */
const NOMINAL = 9 / 8;
/** Maximum number of packets in one message to the listener. */
const MAX_PACKETS = 10;
/** More frames without a result than this mean that the encoder may have stopped: one second. */
const MAX_PENDING = 50;
/**
 * An encoder has stopped if it had too many frames without a result for this time. A page that the browser kept from running gets many chunks at
 * once, before the results.
 */
const STUCK_MS = 3000;
/** Minimum number of chunks during this time. */
const STUCK_CHUNKS = 25;

/**
 * Encodes one frame, because a browser's first encoder can take more than a second to start (Firefox on a busy computer).
 * @returns {Promise<boolean>} whether the browser encodes Opus
 */
export async function encodesOpus() {
  try {
    const supported = typeof AudioData === 'function' && (await AudioEncoder.isConfigSupported(configuration(24))).supported === true;
    return supported && await encodesSilence();
  } catch {
    return false;
  }
}

async function encodesSilence() {
  let count = 0;
  const encoder = new AudioEncoder({ output: () => { count += 1; }, error: () => {} });
  try {
    encoder.configure(configuration(24));
    encode(encoder, new Float32Array(FRAME_SAMPLES), 0);
    await encoder.flush();
    return count > 0;
  } finally {
    if (encoder.state !== 'closed') encoder.close();
  }
}

/** @param {number} kbps; @returns {string} name of the uplink's format */
export function uplinkName(kbps) {
  return kbps > 0 ? `Opus ${kbps}` : PCM.name;
}

/** One encoder, until `close`. */
export class OpusEncoder {
  #encoder;
  #rateHz;
  #handlers;
  #resampler;
  #frame = new Float32Array(FRAME_SAMPLES);
  #fill = 0;
  #firstMs = 0;
  #usualFrames = 0;
  #count = 0;
  /** Time since which too many frames are without a result, or null. */
  #lateSinceMs = null;
  #lateChunks = 0;
  /** Packets that are sent together, oldest first. */
  #groups = [];

  /**
   * @param {{rateHz: number, kbps: number}} format rateHz: sample rate of the microphone's chunks, which is that of the room
   * @param {{onPackets: (chunk: {packets: Uint8Array[], frames: number, wallMs: number}) => void, onError: (why: string) => void}} handlers
   */
  constructor({ rateHz, kbps }, handlers) {
    this.#rateHz = rateHz;
    this.#handlers = handlers;
    this.#resampler = new Resampler(rateHz, RATE_HZ);
    this.#encoder = new AudioEncoder({
      output: (chunk) => this.#encoded(chunk),
      error: (error) => this.#failed(error),
    });
    this.#guard(() => this.#encoder.configure(configuration(kbps)));
  }

  /** @param {{samples: Int16Array, wallMs: number}} chunk; a chunk that is shorter than the previous chunks ends a spurt */
  push({ samples, wallMs }) {
    const group = () => ({ frames: 0, packets: [], wallMs: 0 });
    let open = group();
    const close = () => {
      if (open.frames > 0) this.#groups.push(open);
      open = group();
    };
    const put = (sample, ms) => {
      if (this.#fill === 0) this.#firstMs = ms;
      this.#frame[this.#fill] = sample;
      this.#fill += 1;
      if (this.#fill < FRAME_SAMPLES) return;
      if (open.frames === 0) open.wallMs = this.#firstMs;
      open.frames += 1;
      this.#encode();
      if (open.frames === MAX_PACKETS) close();
    };
    const resampler = this.#resampler;
    const feed = (sample, i) => {
      resampler.feed(sample / 32768);
      while (resampler.due) put(resampler.take(), wallMs + (1000 * (i - resampler.delayFrames)) / this.#rateHz);
    };
    const isLast = samples.length < this.#usualFrames;
    this.#usualFrames = Math.max(this.#usualFrames, samples.length);
    samples.forEach(feed);
    if (isLast) this.#flush((i) => feed(0, samples.length + i));
    close();
    this.#watch();
  }

  /** Detects an encoder that gives no results. */
  #watch() {
    if (this.#groups.reduce((sum, { frames, packets }) => sum + frames - packets.length, 0) <= MAX_PENDING) {
      this.#lateSinceMs = null;
      return;
    }
    const nowMs = performance.now();
    if (this.#lateSinceMs === null) [this.#lateSinceMs, this.#lateChunks] = [nowMs, 0];
    this.#lateChunks += 1;
    if (nowMs - this.#lateSinceMs > STUCK_MS && this.#lateChunks > STUCK_CHUNKS) this.#failed(new Error('no result'));
  }

  /** Feeds zeros until the frame is complete and one frame more: the encoder holds back 6.5 ms, and the resampler a few ms. */
  #flush(feedZero) {
    let i = 0;
    const until = (isDone) => { for (; !isDone(); i += 1) feedZero(i); };
    until(() => i > this.#resampler.delayFrames);
    until(() => this.#fill === 0);
    until(() => this.#fill > 0);
    until(() => this.#fill === 0);
  }

  /** Closes the encoder. No handler is called afterwards. */
  close() {
    this.#handlers = null;
    this.#groups = [];
    if (this.#encoder.state !== 'closed') this.#encoder.close();
  }

  #encode() {
    this.#fill = 0;
    this.#guard(() => {
      encode(this.#encoder, this.#frame, this.#count);
      this.#count += 1;
    });
  }

  /** Every frame becomes one packet. */
  #encoded(chunk) {
    const packet = new Uint8Array(chunk.byteLength);
    chunk.copyTo(packet);
    const group = this.#groups.find(({ frames, packets }) => packets.length < frames);
    group?.packets.push(packet);
    while (this.#groups.length > 0 && this.#groups[0].packets.length === this.#groups[0].frames) {
      const { packets, frames, wallMs } = this.#groups.shift();
      this.#handlers?.onPackets({ packets, frames: (frames * this.#rateHz * FRAME_MS) / 1000, wallMs });
    }
  }

  #guard(action) {
    try {
      action();
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error) {
    const handlers = this.#handlers;
    this.close();
    handlers?.onError(`${error.name}: ${error.message}`);
  }
}

/** Encodes the frame with this number. */
function encode(encoder, frame, number) {
  const data = new AudioData({
    format: 'f32-planar', sampleRate: RATE_HZ, numberOfFrames: frame.length, numberOfChannels: 1, timestamp: number * FRAME_MS * 1000, data: frame,
  });
  encoder.encode(data);
  data.close();
}

function configuration(kbps) {
  return { codec: 'opus', sampleRate: RATE_HZ, numberOfChannels: 1, bitrate: 1000 * kbps * NOMINAL, opus: { frameDuration: 1000 * FRAME_MS } };
}
