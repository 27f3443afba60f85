/**
 * Encodes the microphone's sound with WebCodecs. The browser encodes on its own thread; the chunks are on the page's main thread before and
 * after that, so no worker is needed here.
 */

import { PCM } from './formats.js';

const FRAME_MS = 20;
/** Maximum number of packets in one message to the listener. */
const MAX_PACKETS = 10;
/** Maximum number of frames without a result: one second. */
const MAX_PENDING = 50;

/**
 * Encodes one frame, because a browser's first encoder can take more than a second to start (Firefox on a busy computer).
 * @param {number} rateHz of the room
 * @returns {Promise<boolean>} whether the browser encodes Opus at this rate
 */
export async function encodesOpus(rateHz) {
  try {
    const supported = typeof AudioData === 'function' && (await AudioEncoder.isConfigSupported(configuration(rateHz, 24))).supported === true;
    return supported && await encodesSilence(rateHz);
  } catch {
    return false;
  }
}

async function encodesSilence(rateHz) {
  let count = 0;
  const encoder = new AudioEncoder({ output: () => { count += 1; }, error: () => {} });
  try {
    encoder.configure(configuration(rateHz, 24));
    encode(encoder, new Float32Array((rateHz * FRAME_MS) / 1000), rateHz, 0);
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
  #frame;
  #fill = 0;
  #firstMs = 0;
  #usualFrames = 0;
  #count = 0;
  /** Packets that are sent together, oldest first. */
  #groups = [];

  /**
   * @param {{rateHz: number, kbps: number}} format
   * @param {{onPackets: (chunk: {packets: Uint8Array[], frames: number, wallMs: number}) => void, onError: (why: string) => void}} handlers
   */
  constructor({ rateHz, kbps }, handlers) {
    this.#rateHz = rateHz;
    this.#handlers = handlers;
    this.#frame = new Float32Array((rateHz * FRAME_MS) / 1000);
    this.#encoder = new AudioEncoder({
      output: (chunk) => this.#encoded(chunk),
      error: (error) => this.#failed(error),
    });
    this.#guard(() => this.#encoder.configure(configuration(rateHz, kbps)));
  }

  /** @param {{samples: Int16Array, wallMs: number}} chunk; one that is shorter than the ones before ends a spurt */
  push({ samples, wallMs }) {
    const group = () => ({ frames: 0, packets: [], wallMs: 0 });
    let open = group();
    const close = () => {
      if (open.frames > 0) this.#groups.push(open);
      open = group();
    };
    const put = (sample, ms) => {
      if (this.#fill === 0) this.#firstMs = ms;
      this.#frame[this.#fill] = sample / 32768;
      this.#fill += 1;
      if (this.#fill < this.#frame.length) return;
      if (open.frames === 0) open.wallMs = this.#firstMs;
      open.frames += 1;
      this.#encode();
      if (open.frames === MAX_PACKETS) close();
    };
    const isLast = samples.length < this.#usualFrames;
    this.#usualFrames = Math.max(this.#usualFrames, samples.length);
    samples.forEach((sample, i) => put(sample, wallMs + (1000 * i) / this.#rateHz));
    // The encoder holds back 6.5 ms, so the end of a spurt needs zeros after it.
    if (isLast) for (let i = this.#frame.length - this.#fill + this.#frame.length; i > 0; i -= 1) put(0, wallMs + (1000 * samples.length) / this.#rateHz);
    close();
    if (this.#groups.reduce((sum, { frames, packets }) => sum + frames - packets.length, 0) > MAX_PENDING) this.#failed(new Error('no result'));
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
      encode(this.#encoder, this.#frame, this.#rateHz, this.#count);
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
      this.#handlers?.onPackets({ packets, frames: frames * this.#frame.length, wallMs });
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
function encode(encoder, frame, rateHz, number) {
  const data = new AudioData({
    format: 'f32-planar', sampleRate: rateHz, numberOfFrames: frame.length, numberOfChannels: 1, timestamp: number * FRAME_MS * 1000, data: frame,
  });
  encoder.encode(data);
  data.close();
}

function configuration(rateHz, kbps) {
  return { codec: 'opus', sampleRate: rateHz, numberOfChannels: 1, bitrate: 1000 * kbps, opus: { frameDuration: 1000 * FRAME_MS } };
}
