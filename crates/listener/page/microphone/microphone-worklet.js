/**
 * The microphone's AudioWorklet: resamples to the room's rate and cuts the sound into chunks, each with the time of its first sample on
 * the sound card's clock. While muted it sends nothing. Muting and unmuting fade for 5 ms, so that they don't click.
 *
 * Messages in: {open: boolean, watched?: boolean}, {end}. Out: {samples, firstMs, nowMs, peak}; and if watched, every 200 ms, also while
 * muted, {inputPeak}: the highest sample from the device, exactly. A page that was opened before an upgrade may load a newer version of
 * this file, so the messages must stay compatible.
 */

import { Resampler } from '../base/resampler.js';

const FADE_MS = 5;
const WATCH_MS = 200;

class MicrophoneProcessor extends AudioWorkletProcessor {
  #resampler;
  #frames;
  #chunk;
  #fill = 0;
  #firstMs = 0;
  #peak = 0;
  #gain = 0;
  #open = false;
  #ended = false;
  #watched = false;
  #inputPeak = 0;
  #watchFrames = 0;
  #step = 1000 / (FADE_MS * sampleRate);

  constructor({ processorOptions: { rateHz, chunkMs } }) {
    super();
    this.#resampler = new Resampler(sampleRate, rateHz);
    this.#frames = Math.round((rateHz * chunkMs) / 1000);
    this.#chunk = new Int16Array(this.#frames);
    this.port.onmessage = ({ data: { open, end, watched } }) => {
      if (end) this.#ended = true;
      else [this.#open, this.#watched] = [open, watched === true];
    };
  }

  process([[input]]) {
    if (this.#ended) return false;
    if (this.#watched) this.#watch(input ?? []);
    if (!input || (!this.#open && this.#gain === 0)) return true;
    for (let i = 0; i < input.length; i += 1) this.#take(input[i], i);
    if (this.#gain === 0) this.#flush();
    return true;
  }

  /** Without a device, browsers pass no input or zeros. */
  #watch(input) {
    for (let i = 0; i < input.length; i += 1) this.#inputPeak = Math.max(this.#inputPeak, Math.abs(input[i]));
    this.#watchFrames += 128;
    if (this.#watchFrames < (WATCH_MS * sampleRate) / 1000) return;
    this.port.postMessage({ inputPeak: this.#inputPeak });
    this.#inputPeak = 0;
    this.#watchFrames = 0;
  }

  #take(sample, i) {
    const gain = this.#gain + (this.#open ? this.#step : -this.#step);
    this.#gain = Math.max(0, Math.min(1, gain));
    this.#resampler.feed(sample * this.#gain);
    while (this.#resampler.due) this.#put(this.#resampler.take(), i);
  }

  #put(sample, i) {
    if (this.#fill === 0) this.#firstMs = cardMs(currentFrame + i - this.#resampler.delayFrames);
    const value = Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
    this.#peak = Math.max(this.#peak, Math.abs(value) / 32768);
    this.#chunk[this.#fill] = value;
    this.#fill += 1;
    if (this.#fill === this.#frames) this.#flush();
  }

  #flush() {
    if (this.#fill === 0) return;
    const samples = this.#chunk.slice(0, this.#fill);
    const message = { samples, firstMs: this.#firstMs, nowMs: cardMs(currentFrame + 128), peak: this.#peak };
    this.port.postMessage(message, [samples.buffer]);
    this.#fill = 0;
    this.#peak = 0;
  }
}

function cardMs(frame) {
  return (frame * 1000) / sampleRate;
}

registerProcessor('palabre-microphone', MicrophoneProcessor);
