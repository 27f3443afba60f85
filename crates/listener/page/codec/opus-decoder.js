/**
 * Decodes Opus with WebCodecs, and converts the sound to the room's rate. Decoding is asynchronous; results come in order.
 *
 * Never calls `flush`, which would make the decoder need a new start. The number of samples tells which packets a result belongs to, because some
 * browsers change the timestamps. Browsers decode to 48 kHz or to the configured rate. Samples are picked without a filter: an encoder at
 * the room's rate leaves hardly any sound above half that rate (for speech at most -37 dB, at 24 kHz less).
 */

import { packetMs } from '../base/packets.js';

/** All browsers decode Opus to 48 kHz if they are asked for it. */
const CONFIGURATION = { codec: 'opus', sampleRate: 48000, numberOfChannels: 1 };
/** Maximum number of packets in the decoder: three seconds of 20 ms. */
const MAX_PACKETS = 150;
/** Maximum time without a result. A page that was suspended gets a second period, because its timer runs before its results. */
const STUCK_MS = 300;

/** @returns {boolean} whether the browser has the interfaces that this file needs */
export function hasDecoder() {
  return typeof AudioDecoder === 'function' && typeof EncodedAudioChunk === 'function';
}

/** @returns {Promise<boolean>} whether the browser claims to decode Opus */
export async function claimsOpus() {
  return hasDecoder() && (await AudioDecoder.isConfigSupported(CONFIGURATION)).supported === true;
}

/** One decoder, from its first packet until `close`. */
export class OpusDecoder {
  #decoder;
  #rateHz;
  #onError;
  #jobs = [];
  #packets = 0;
  #phase = 0;
  #planes = new Float32Array(0);
  #timer = 0;
  #late = false;
  #retired = false;
  #sentMs = 0;
  #stuckMs;

  /**
   * @param {number} rateHz of the room
   * @param {(why: string) => void} onError called at most once; the decoder is closed then
   * @param {number} [stuckMs] see STUCK_MS
   */
  constructor(rateHz, onError, stuckMs = STUCK_MS) {
    this.#stuckMs = stuckMs;
    this.#rateHz = rateHz;
    this.#onError = onError;
    this.#decoder = new AudioDecoder({
      output: (data) => this.#guard(() => this.#decoded(data)),
      error: (error) => this.#failed(error),
    });
    this.#guard(() => this.#decoder.configure(CONFIGURATION));
  }

  /** @returns {boolean} whether so many packets wait that further ones must be dropped */
  get isFull() {
    return this.#packets >= MAX_PACKETS;
  }

  /** @returns {boolean} whether packets are being decoded */
  get isBusy() {
    return this.#jobs.length > 0;
  }

  /**
   * @param {Uint8Array[]} packets
   * @param {(samples: Int16Array<ArrayBuffer>) => void} onDone
   */
  decode(packets, onDone) {
    const frames = packets.reduce((sum, packet) => sum + (packetMs(packet) * this.#rateHz) / 1000, 0);
    this.#jobs.push({ samples: new Int16Array(frames), fill: 0, packets: packets.length, onDone });
    this.#packets += packets.length;
    this.#guard(() => {
      for (const data of packets) {
        this.#decoder.decode(new EncodedAudioChunk({ type: 'key', timestamp: 1000 * this.#sentMs, data }));
        this.#sentMs += packetMs(data);
      }
    });
    if (!this.#timer) this.#watch();
  }

  /** Closes the decoder after its last result. */
  retire() {
    this.#retired = true;
    if (this.#jobs.length === 0) this.close();
  }

  /** Closes the decoder. No function is called afterwards. */
  close() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#onError = null;
    this.#jobs = [];
    if (this.#decoder.state !== 'closed') this.#decoder.close();
  }

  #decoded(data) {
    try {
      if (this.#onError) this.#pick(data);
    } finally {
      data.close();
    }
    this.#late = false;
    this.#deliver();
  }

  /** Appends every n-th sample to the job at the front, and to further jobs if it is full. */
  #pick(data) {
    const step = data.sampleRate / this.#rateHz;
    if (!Number.isInteger(step)) throw new RangeError(`the decoder's rate is ${data.sampleRate} Hz`);
    if (this.#planes.length < data.numberOfFrames) this.#planes = new Float32Array(data.numberOfFrames);
    const samples = this.#planes.subarray(0, data.numberOfFrames);
    data.copyTo(samples, { planeIndex: 0, format: 'f32-planar' });
    let i = this.#phase;
    for (let at = 0; i < samples.length && at < this.#jobs.length;) {
      const job = this.#jobs[at];
      for (; job.fill < job.samples.length && i < samples.length; i += step) {
        job.samples[job.fill] = Math.max(-32768, Math.min(32767, Math.round(samples[i] * 32768)));
        job.fill += 1;
      }
      if (job.fill === job.samples.length) at += 1;
    }
    this.#phase = Math.max(0, i - samples.length);
  }

  #deliver() {
    while (this.#jobs.length > 0 && this.#jobs[0].fill === this.#jobs[0].samples.length) {
      const { samples, packets, onDone } = this.#jobs.shift();
      this.#packets -= packets;
      onDone(samples);
    }
    if (this.#retired && this.#jobs.length === 0) this.close();
  }

  /** Detects a decoder that gives no results. */
  #watch() {
    this.#late = true;
    this.#timer = setTimeout(() => this.#check(false), this.#stuckMs);
  }

  #check(again) {
    this.#timer = 0;
    if (this.#jobs.length === 0) return;
    if (!this.#late) this.#watch();
    else if (again) this.#failed(new Error('no result'));
    else this.#timer = setTimeout(() => this.#check(true), this.#stuckMs);
  }

  #guard(action) {
    try {
      action();
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error) {
    const onError = this.#onError;
    this.close();
    onError?.(`${error.name}: ${error.message}`);
  }
}
