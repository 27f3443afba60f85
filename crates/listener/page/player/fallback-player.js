/**
 * The player for browsers without AudioWorklet: two `<audio>` elements that play `data:` URIs of one second in turn. It has the same
 * methods as player.js, and `start`, `stop` and `wake` like audio/context.js.
 *
 * Each second of sound is collected before it is played, and there is a short gap before the next one. Shorter URIs don't work: an element
 * takes longer to start than such a URI lasts.
 */

import { writeWav } from '../base/wav.js';

/** Length of one `data:` URI. */
const PIECE_MS = 1000;
/** Maximum number of `data:` URIs that wait to be played. */
const MAX_WAITING = 2;

/** Plays one stream through two elements in turn. */
export class FallbackPlayer {
  #elements = [];
  #onState;
  #rateHz = 24000;
  #chunks = [];
  #frames = 0;
  #waiting = [];
  #playing = -1;
  #volume = 1;
  #counts = { played: 0, underruns: 0, cuts: 0 };

  /** @param {(audible: boolean) => void} onState whether the browser plays the sound */
  constructor(onState) {
    this.#onState = onState;
  }

  /** Creates the elements. Call in a click handler: a browser lets an element play later if it has played in a click. */
  start() {
    this.#elements = [0, 1].map((index) => this.#makeElement(index));
    this.wake();
  }

  /** Stops the sound and removes the elements. */
  stop() {
    for (const element of this.#elements) element.remove();
    this.#elements = [];
    this.silence();
    this.#waiting = [];
  }

  /** Starts elements that the browser refused to play. Call in a click handler. */
  wake() {
    const idle = this.#elements.filter((_, index) => index !== this.#playing);
    for (const element of idle) {
      element.src = uriOf([new Int16Array(1)], this.#rateHz);
      this.#play(element);
    }
  }

  /** @param {number} rateHz of the room */
  setFormat(rateHz) {
    this.#rateHz = rateHz;
  }

  /** The length of the chunks doesn't matter. */
  setChunkMs() {}

  /** @param {{samples: Int16Array<ArrayBuffer>, rateHz: number}} chunk */
  sound({ samples, rateHz }) {
    if (rateHz !== this.#rateHz) this.silence();
    this.#rateHz = rateHz;
    this.#chunks.push(samples);
    this.#frames += samples.length;
    if (this.#frames * 1000 >= PIECE_MS * rateHz) this.silence();
  }

  /** Plays the sound collected so far, because the room fell silent. */
  silence() {
    if (this.#frames === 0) return;
    this.#waiting.push({ uri: uriOf(this.#chunks, this.#rateHz), ms: (this.#frames * 1000) / this.#rateHz });
    this.#chunks = [];
    this.#frames = 0;
    while (this.#waiting.length > MAX_WAITING) {
      this.#waiting.shift();
      this.#counts.cuts += 1;
    }
    if (this.#playing < 0) this.#next(0);
  }

  /** @param {number} volume 0 to 1 */
  setVolume(volume) {
    this.#volume = volume;
    for (const element of this.#elements) element.volume = volume;
  }

  /** @returns {object} the figures that are known without a worklet */
  get report() {
    const collectedMs = (this.#frames * 1000) / this.#rateHz;
    const depthMs = this.#waiting.reduce((sum, piece) => sum + piece.ms, collectedMs);
    return { ...this.#counts, depthMs, outputMs: 0, contextRate: 0, streamRate: this.#rateHz };
  }

  #makeElement(index) {
    const element = document.createElement('audio');
    element.volume = this.#volume;
    element.addEventListener('ended', () => { if (index === this.#playing) this.#next(1 - index); });
    element.addEventListener('error', () => { if (index === this.#playing) this.#next(1 - index); });
    document.body.append(element);
    return element;
  }

  #next(index) {
    const piece = this.#waiting.shift();
    const element = this.#elements[index];
    this.#playing = piece && element ? index : -1;
    if (this.#playing < 0) {
      this.#counts.underruns += 1;
      return;
    }
    this.#counts.played += 1;
    element.src = piece.uri;
    this.#play(element);
  }

  #play(element) {
    element.play().then(() => this.#onState(true), ({ name }) => {
      // `play` fails with AbortError if newer sound replaced the sound of this element.
      if (name === 'AbortError') return;
      this.#playing = -1;
      if (name === 'NotAllowedError') this.#onState(false);
    });
  }
}

function uriOf(chunks, rateHz) {
  const bytes = new Uint8Array(writeWav(chunks, rateHz));
  let text = '';
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return `data:audio/wav;base64,${btoa(text)}`;
}
