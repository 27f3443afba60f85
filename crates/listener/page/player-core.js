/**
 * From chunks that come unevenly to sound that never stops with a click. Runs in the player's worklet; pure, so that
 * the tests can run it with a generated network.
 *
 * A spurt is sound from the first chunk after silence to the ring's running dry. It starts one margin after its first
 * chunk arrived, so that every later chunk may be late by that margin. One that is later yet is waited for by saying a
 * period or some again, which nobody hears if it is short; if it is long the sound fades. The end of a spurt that the
 * stream announced is no underrun. It is no clock: all it knows of time is how many frames the sound card asked for.
 */

import { Depth } from './depth.js';
import { Resampler } from './resampler.js';
import { Ring } from './ring.js';
import { bestAgain, bestJoin } from './splice.js';

const RING_MS = 2500;
const FADE_MS = 5;
/** More than this behind is the past: it is cut at once. */
const LATE_MS = 400;
const LATE_FADE_MS = 20;
/** More than this behind is too much for a conversation; so long a pause is waited for before the sound is hurried. */
const FAR = { aboveMs: 40, patienceMs: 1500, doneMs: 5 };
/** A hurried sound loses a period or some, so often. */
const SPLICE = { leastMs: 3, mostMs: 24, fadeMs: 10, everyMs: 80 };
/** What is said again while a chunk is late, at a time and in a row; longer it would hum. It is looked for `likeMs` back. */
const STRETCH = { leastMs: 10, mostMs: 30, likeMs: 10, inARowMs: 80 };
const SETTLE_MS = 5000;
const BEGINNING_MS = 500;
const SETTLE_ABOVE_MS = 20;
const CUT_ABOVE_MS = 10;
const BLOCK_MS = 10;
/** Levels (RMS) under which a block may be left out: always, never, and relative to how loud it was lately. */
const QUIET = { always: 0.003, never: 0.01, share: 0.1 };

/** The player of one stream at one rate. */
export class PlayerCore {
  #ring;
  #depth = new Depth();
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
  #hurrying = false;
  #sinceSpliceMs = 0;
  #heardMs = 0;
  #stretchedMs = 0;
  #held = { ms: 0, looks: 0 };
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
   * @param {boolean} gap whether it doesn't continue the chunk before it
   * @param {boolean} [lost] whether what is missing before it was sound
   */
  push(samples, gap, lost = false) {
    this.#ended = false;
    if (lost) this.#settleMs = SETTLE_MS;
    const lengthMs = samples.length / this.#framesPerMs;
    if (this.#state === 'idle') this.#prime();
    else if (gap) this.#soften(samples);
    if (gap) this.#depth.restart();
    // What is short is the end of a spurt and came when it was known to be one; what comes first came while the page began.
    const counts = lengthMs > this.#chunkMs - 1 && this.#settleMs < SETTLE_MS - BEGINNING_MS;
    this.#depth.arrived(this.#clockMs, lengthMs, this.#state === 'playing' ? this.#fillMs : NaN, counts);
    if (this.#state === 'playing' && this.#ring.fill + samples.length > this.#ring.size) this.#makeRoom();
    this.#ring.write(samples);
    this.#stretchedMs = Math.max(0, this.#stretchedMs - lengthMs);
  }

  /** The room fell silent: what is in the ring is the end of the spurt. */
  silence() {
    this.#ended = true;
  }

  /** Throws away what is old, for example because the sound card stood still. */
  reset() {
    this.#ring.clear();
    this.#depth.restart();
    this.#state = 'idle';
    this.#settleMs = SETTLE_MS;
  }

  /** @param {Float32Array} out the frames that the sound card wants now */
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

  /** @returns {object} what the details panel shows; `depthMs` is the mean since the last report */
  get report() {
    const { ms, looks } = this.#held;
    this.#held = { ms: 0, looks: 0 };
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

  #prime() {
    this.#state = 'priming';
    this.#primeMs = this.#depth.marginMs;
    this.#gain = 0;
    this.#heardMs = 0;
    this.#stretchedMs = 0;
  }

  #countDown(passedMs) {
    this.#primeMs -= passedMs;
    if (this.#primeMs > 0 && this.#fillMs < this.#startMs) return;
    this.#state = 'playing';
  }

  /** What a spurt begins with, and what remains after a cut: one chunk above the margin. */
  get #startMs() {
    return this.#depth.marginMs + this.#chunkMs;
  }

  #keepDepth(passedMs) {
    const fillMs = this.#fillMs;
    this.#held = { ms: this.#held.ms + fillMs, looks: this.#held.looks + 1 };
    if (!this.#ended) this.#depth.passed(fillMs, passedMs);
    this.#loudness = Math.max(this.#loudness * 0.999, this.#headLevel());
    this.#heardMs += passedMs;
    if (!this.#ring.fading && !this.#stretch(passedMs)) this.#shorten(passedMs);
    this.#resampler.setSpeed(this.#depth.speed);
  }

  /**
   * In silence whatever is too much; at once what is long past, and in the first seconds, in which what comes was held up
   * by the page's own start and nobody minds a jump. Between the two a pause is waited for, and then the sound is hurried.
   */
  #shorten(passedMs) {
    const { surplusMs } = this.#depth;
    this.#farMs = surplusMs > FAR.aboveMs ? this.#farMs + passedMs : 0;
    this.#hurrying = this.#farMs > FAR.patienceMs || (this.#hurrying && surplusMs > FAR.doneMs);
    this.#sinceSpliceMs += passedMs;
    if (surplusMs > (this.#settleMs > 0 ? SETTLE_ABOVE_MS : LATE_MS)) this.#join(surplusMs, LATE_FADE_MS);
    else if (surplusMs > CUT_ABOVE_MS && this.#cutQuiet(surplusMs)) return;
    else if (this.#hurrying && this.#sinceSpliceMs > SPLICE.everyMs) this.#splice(surplusMs);
  }

  #splice(surplusMs) {
    if (!this.#join(Math.min(surplusMs, SPLICE.mostMs), SPLICE.fadeMs)) return;
    this.#sinceSpliceMs = 0;
    this.#counts.splices += 1;
  }

  /** Leaves out so much or a little less, whatever fits best, if that much is there. */
  #join(mostMs, fadeMs) {
    const least = this.#frames(Math.max(SPLICE.leastMs, mostMs - SPLICE.mostMs));
    const fade = this.#frames(fadeMs);
    const most = Math.min(this.#frames(mostMs), this.#ring.fill - 2 * fade);
    if (most <= least) return false;
    const before = new Float32Array(fade);
    const after = new Float32Array(most - least + fade);
    this.#ring.copy(0, before);
    this.#ring.copy(least, after);
    this.#cut(least + bestJoin(before, after), fade);
    return true;
  }

  /** While the next chunk is late what was just heard goes on; says whether that was needed. */
  #stretch(passedMs) {
    if (this.#ended || this.#fillMs > FADE_MS + passedMs + 1) return false;
    const { leastMs, mostMs, likeMs, inARowMs } = STRETCH;
    const fade = this.#frames(FADE_MS);
    if (this.#ring.fill < fade || this.#heardMs < mostMs + likeMs || this.#stretchedMs > inARowMs - leastMs) return false;
    const like = this.#frames(likeMs);
    const most = this.#frames(Math.min(mostMs, inARowMs - this.#stretchedMs));
    const past = new Float32Array(most + like + fade);
    this.#ring.copy(-most - like, past);
    const frames = bestAgain(past, like + fade, this.#frames(leastMs));
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

  /** Cuts as much of the surplus as is quiet from here on, if that is worth a cut; says whether it was. */
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

  /** What a full ring would push out is what is heard just now: so it passes to the newest before that. */
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

  /** The last 5 ms fade out as they are read, since what follows them may come too late; a spurt fades in. */
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
