/**
 * Turns chunks that arrive unevenly into continuous sound without clicks. Pure, so that tests can run it with a generated network; the
 * only clock is the number of samples that the sound card has requested.
 *
 * A spurt is the sound from the first chunk after silence until the ring runs dry. It starts one margin after its first chunk arrived, so
 * that each following chunk may be late by the margin. If the first chunk is short, the spurt starts later by the missing length. If a
 * chunk is later than the margin, a few periods of the sound are repeated; then the sound fades out. If the stream announced
 * the end of the spurt, the end is not an underrun.
 */

import { BufferDepth } from './buffer-depth.js';
import { Resampler } from '../base/resampler.js';
import { Ring } from './ring.js';
import { bestRepeat, bestJoin } from './splice.js';

const RING_MS = 2500;
const FADE_MS = 5;
/** Surplus (ms of sound in the ring above the margin) above which the surplus is cut at once. */
const LATE_MS = 400;
const LATE_FADE_MS = 20;
/** A surplus above `aboveMs` for `waitMs` without a pause is reduced by splices until `doneMs` are left. */
const FAR = { aboveMs: 40, waitMs: 1500, doneMs: 5 };
/** Minimum and maximum length of a splice, its cross-fade, and the interval between splices. */
const SPLICE = { minMs: 3, maxMs: 24, fadeMs: 10, everyMs: 80 };
/**
 * Concealment of a late chunk: minimum and maximum length of one repetition, length of the compared sound, and maximum of all
 * repetitions in a row. Longer repetition would hum.
 */
const STRETCH = { minMs: 10, maxMs: 30, likeMs: 10, inARowMs: 80 };
/** Time after the start, and after a loss, in which a surplus above SETTLE_ABOVE_MS is cut at once. */
const SETTLE_MS = 5000;
const SETTLE_ABOVE_MS = 20;
/** Time after the start in which lateness is attributed to the page and not to the network. */
const BEGINNING_MS = 500;
/** Minimum surplus that is cut out of quiet sound. */
const CUT_ABOVE_MS = 10;
/** Length of the blocks of sound whose level is compared with QUIET. */
const BLOCK_MS = 10;
/** A block is quiet if its RMS level is below `always`, or below both `never` and `share` times the recent loudness. */
const QUIET = { always: 0.003, never: 0.01, share: 0.1 };

/** The player of one stream at one rate. */
export class PlayerCore {
  #ring;
  #depth = new BufferDepth();
  #resampler;
  #framesPerMs;
  #contextFramesPerMs;
  #chunkMs;
  #state = 'idle';
  #primeMs = 0;
  #gain = 0;
  #ended = false;
  #settleMs = SETTLE_MS;
  #flushed = 0;
  #loudness = 0;
  #clockMs = 0;
  #farMs = 0;
  #splicing = false;
  #sinceSpliceMs = 0;
  #heardMs = 0;
  #stretchedMs = 0;
  #depthSum = { ms: 0, looks: 0 };
  #counts = { underruns: 0, cuts: 0, splices: 0, cutMs: 0, stretches: 0, stretchMs: 0 };

  /** @param {{streamRateHz: number, contextRateHz: number, chunkMs: number}} format */
  constructor({ streamRateHz, contextRateHz, chunkMs }) {
    this.#framesPerMs = streamRateHz / 1000;
    this.#contextFramesPerMs = contextRateHz / 1000;
    this.#chunkMs = chunkMs;
    this.#ring = new Ring(RING_MS * this.#framesPerMs);
    this.#resampler = new Resampler(streamRateHz, contextRateHz);
  }

  /**
   * @param {Int16Array} samples one chunk at the stream's rate
   * @param {boolean} gap whether it doesn't continue the previous chunk
   * @param {boolean} [lost] whether sound is missing before it
   */
  push(samples, gap, lost = false) {
    this.#ended = false;
    if (lost) this.#settleMs = SETTLE_MS;
    const lengthMs = samples.length / this.#framesPerMs;
    if (this.#state === 'idle') this.#prime(lengthMs);
    else if (gap) this.#soften(samples);
    if (gap) this.#depth.restart();
    // The lateness of two kinds of chunks isn't attributed to the network: of a short chunk, which begins or ends a spurt and may be sent at an
    // irregular time, and of the first chunks, which arrive while the page starts.
    const counts = lengthMs > this.#chunkMs - 1 && this.#settleMs < SETTLE_MS - BEGINNING_MS;
    this.#depth.arrived(this.#clockMs, lengthMs, this.#state === 'playing' ? this.#fillMs : NaN, counts);
    if (this.#state === 'playing' && this.#ring.fill + samples.length > this.#ring.size) this.#makeRoom();
    this.#ring.write(samples);
    this.#stretchedMs = Math.max(0, this.#stretchedMs - lengthMs);
  }

  /** @param {number} chunkMs length of the chunks from now on */
  setChunkMs(chunkMs) {
    this.#chunkMs = chunkMs;
  }

  /** Ends the spurt after the sound in the ring, because the room fell silent. */
  silence() {
    this.#ended = true;
  }

  /** Discards everything, for example after the sound card stood still. */
  reset() {
    this.#ring.clear();
    this.#depth.restart();
    this.#state = 'idle';
    this.#settleMs = SETTLE_MS;
  }

  /** @param {Float32Array} out receives the next samples at the context's rate */
  render(out) {
    const passedMs = out.length / this.#contextFramesPerMs;
    this.#clockMs += passedMs;
    this.#settleMs -= passedMs;
    if (this.#state === 'priming') this.#countDown(passedMs);
    if (this.#state === 'playing') this.#keepDepth(passedMs);
    if (this.#state !== 'playing' && this.#flushed > 2 * this.#resampler.taps) out.fill(0);
    else this.#resample(out);
    if (this.#state === 'playing' && this.#ring.fill === 0) this.#ranDry();
  }

  /** @returns {object} figures for the details panel; `depthMs` is the mean since the last report */
  get report() {
    const { ms, looks } = this.#depthSum;
    this.#depthSum = { ms: 0, looks: 0 };
    return {
      state: this.#state,
      depthMs: looks > 0 ? ms / looks : this.#fillMs,
      lowMs: this.#depth.lowMs,
      marginMs: this.#depth.marginMs,
      jitterMs: this.#depth.jitterMs,
      surplusMs: this.#depth.surplusMs,
      filterMs: this.#resampler.delayFrames / this.#framesPerMs,
      speed: this.#depth.speed,
      ...this.#counts,
    };
  }

  get #fillMs() {
    return this.#ring.fill / this.#framesPerMs;
  }

  /** @param {number} lengthMs of the spurt's first chunk; if that chunk is short, the second chunk still arrives one usual length after it */
  #prime(lengthMs) {
    this.#state = 'priming';
    this.#primeMs = this.#depth.marginMs + Math.max(0, this.#chunkMs - lengthMs);
    this.#gain = 0;
    this.#heardMs = 0;
    this.#stretchedMs = 0;
  }

  #countDown(passedMs) {
    this.#primeMs -= passedMs;
    if (this.#primeMs > 0 && this.#fillMs < this.#startMs) return;
    this.#state = 'playing';
  }

  /** Fill of the ring at which a spurt starts, and which remains after a cut: one chunk above the margin. */
  get #startMs() {
    return this.#depth.marginMs + this.#chunkMs;
  }

  #keepDepth(passedMs) {
    const fillMs = this.#fillMs;
    this.#depthSum = { ms: this.#depthSum.ms + fillMs, looks: this.#depthSum.looks + 1 };
    if (!this.#ended) this.#depth.passed(fillMs, passedMs);
    this.#loudness = Math.max(this.#loudness * 0.999, this.#headLevel());
    this.#heardMs += passedMs;
    if (!this.#ring.fading && !this.#stretch(passedMs)) this.#shorten(passedMs);
    this.#resampler.setSpeed(this.#depth.speed);
  }

  /**
   * Reduces the surplus: all of it in quiet sound; at once if it is large, or in the first seconds, when the page's own start delayed the
   * chunks. Otherwise waits for a pause, and then splices.
   */
  #shorten(passedMs) {
    const { surplusMs } = this.#depth;
    this.#farMs = surplusMs > FAR.aboveMs ? this.#farMs + passedMs : 0;
    this.#splicing = this.#farMs > FAR.waitMs || (this.#splicing && surplusMs > FAR.doneMs);
    this.#sinceSpliceMs += passedMs;
    if (surplusMs > (this.#settleMs > 0 ? SETTLE_ABOVE_MS : LATE_MS)) this.#join(surplusMs, LATE_FADE_MS);
    else if (surplusMs > CUT_ABOVE_MS && this.#cutQuiet(surplusMs)) return;
    else if (this.#splicing && this.#sinceSpliceMs > SPLICE.everyMs) this.#splice(surplusMs);
  }

  #splice(surplusMs) {
    if (!this.#join(Math.min(surplusMs, SPLICE.maxMs), SPLICE.fadeMs)) return;
    this.#sinceSpliceMs = 0;
    this.#counts.splices += 1;
  }

  /** Cuts up to `maxMs` of sound where the ends match best; returns false if the ring held too little sound. */
  #join(maxMs, fadeMs) {
    const min = this.#frames(Math.max(SPLICE.minMs, maxMs - SPLICE.maxMs));
    const fade = this.#frames(fadeMs);
    const max = Math.min(this.#frames(maxMs), this.#ring.fill - 2 * fade);
    if (max <= min) return false;
    const before = new Float32Array(fade);
    const after = new Float32Array(max - min + fade);
    this.#ring.copy(0, before);
    this.#ring.copy(min, after);
    this.#cut(min + bestJoin(before, after), fade);
    return true;
  }

  /** Repeats the last sound while the next chunk is late; returns whether sound was repeated. */
  #stretch(passedMs) {
    if (this.#ended || this.#fillMs > FADE_MS + passedMs + 1) return false;
    const { minMs, maxMs, likeMs, inARowMs } = STRETCH;
    const fade = this.#frames(FADE_MS);
    if (this.#ring.fill < fade || this.#heardMs < maxMs + likeMs || this.#stretchedMs > inARowMs - minMs) return false;
    const like = this.#frames(likeMs);
    const max = this.#frames(Math.min(maxMs, inARowMs - this.#stretchedMs));
    const past = new Float32Array(max + like + fade);
    this.#ring.copy(-max - like, past);
    const frames = bestRepeat(past, like + fade, this.#frames(minMs));
    const ms = frames / this.#framesPerMs;
    this.#skip(-frames, fade);
    this.#stretchedMs += ms;
    this.#counts.stretches += 1;
    this.#counts.stretchMs += ms;
    return true;
  }

  #headLevel() {
    const block = this.#frames(BLOCK_MS);
    return this.#ring.fill < block ? 0 : this.#ring.level(0, block);
  }

  /** Cuts surplus out of the quiet sound at the start of the ring; returns false if there was too little quiet sound for a cut. */
  #cutQuiet(surplusMs) {
    const limit = Math.min(QUIET.never, Math.max(QUIET.always, QUIET.share * this.#loudness));
    const block = this.#frames(BLOCK_MS);
    let quiet = 0;
    while (quiet + block <= this.#ring.fill && this.#ring.level(quiet, block) < limit) quiet += block;
    const cutMs = Math.min(surplusMs, quiet / this.#framesPerMs - BLOCK_MS);
    if (cutMs < FADE_MS) return false;
    this.#cut(this.#frames(cutMs), this.#frames(FADE_MS));
    return true;
  }

  /** Cuts to the newest sound before the ring is full: a full ring would overwrite the sound that is being played. */
  #makeRoom() {
    this.#cut(this.#ring.fill - this.#frames(this.#startMs), this.#frames(LATE_FADE_MS));
  }

  #cut(frames, fade) {
    this.#skip(frames, fade);
    this.#counts.cuts += 1;
    this.#counts.cutMs += frames / this.#framesPerMs;
  }

  #skip(frames, fade) {
    this.#ring.skip(frames, fade);
    this.#depth.shortened(frames / this.#framesPerMs);
  }

  #resample(out) {
    const resampler = this.#resampler;
    for (let i = 0; i < out.length; i += 1) {
      while (!resampler.due) resampler.feed(this.#draw());
      out[i] = resampler.take();
    }
  }

  /** Reads one sample of the ring. A spurt fades in; the last 5 ms of the ring fade out, because the next chunk may come too late. */
  #draw() {
    if (this.#state !== 'playing' || this.#ring.fill === 0) {
      this.#flushed += 1;
      return 0;
    }
    this.#flushed = 0;
    const fade = this.#framesPerMs * FADE_MS;
    this.#gain = Math.min(this.#gain + 1 / fade, 1, this.#ring.fill / fade);
    return this.#ring.read() * this.#gain;
  }

  #ranDry() {
    this.#state = 'idle';
    if (this.#ended) return;
    this.#counts.underruns += 1;
    this.#depth.underrun();
  }

  #soften(samples) {
    const fade = this.#frames(FADE_MS);
    this.#ring.fadeTail(fade);
    const n = Math.min(fade, samples.length);
    for (let i = 0; i < n; i += 1) samples[i] = Math.round((samples[i] * i) / n);
  }

  #frames(ms) {
    return Math.round(ms * this.#framesPerMs);
  }
}
