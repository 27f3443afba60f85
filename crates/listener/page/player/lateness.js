/**
 * Learns from the chunks themselves how unevenly the network delivers. Pure: time is an argument, on the sound card's clock.
 *
 * A chunk's lateness is its delay minus the delay of the quickest chunk of the last 5 to 10 s. The largest lateness of each second is
 * kept for 2 minutes, in a bin. The buffer must hold the lateness that only one bin in thirty exceeds. The player conceals rarer
 * lateness by repeating up to 50 ms of sound; if longer lateness occurred twice, the buffer holds the part above 50 ms. Longer lateness
 * that occurred only once may be heard. In the first minutes only the newer half of the bins is used, because chunks are often late
 * while the page starts.
 *
 * If the sound card or the server stood still, all later chunks are late by the same time. The network can't be the cause of that. So when
 * chunks are steadily late, the quickest chunk is measured anew, and this lateness doesn't change the margin.
 */

/** Minimum time for which the quickest chunk is remembered; the maximum is twice this time. */
const BASE_MS = 5000;
const BIN_MS = 1000;
/** Number of bins that are kept, each with the largest lateness of one second. */
const BINS = 120;
/** Chunks later than this count as an outage and don't change the margin. */
const OUTAGE_MS = 450;
/** Added to the margin: the sound card's own jitter and the fade at the end of the ring. */
const SAFE_MS = 8;
/** One bin in this many may exceed the margin. */
const SELDOM_BINS = 30;
/** Lateness that the player conceals. */
const CONCEALED_MS = 50;
/** Lateness up to this limit is added to the margin even if it occurred only once. */
const CHEAP_MS = 40;
/** Replaces CHEAP_MS in the first seconds, while there are fewer than LEARNT_BINS bins. */
const CHEAP_AT_FIRST_MS = 100;
const MIN_MARGIN_MS = 12;
const START_MARGIN_MS = 25;
/** Number of bins from which on the lateness of the line counts as known. */
const LEARNT_BINS = 10;
const MIN_BINS = 5;
/** Chunks are steadily late if for `forMs` each is late by at least `aboveMs`, and their lateness differs by less than `spreadMs`. */
const STEADY = { aboveMs: 100, forMs: 500, spreadMs: 40 };

/** The lateness of one stream's chunks. */
export class LatenessTracker {
  #positionMs = 0;
  #older = Infinity;
  #newer = Infinity;
  #turnMs = -Infinity;
  #bins = [];
  #seen = 0;
  #binMs = -Infinity;
  #outage = false;
  /** The last chunks that all may be steadily late: the time of the first, the extremes of their delay, and their lateness. */
  #late = null;
  #neededMs = START_MARGIN_MS;

  /** Measures the quickest chunk anew, because the next chunk doesn't continue the previous one. */
  restart() {
    this.#settle();
    this.#positionMs = 0;
    this.#older = Infinity;
    this.#newer = Infinity;
    this.#turnMs = -Infinity;
  }

  /**
   * @param {number} nowMs on the sound card's clock
   * @param {number} lengthMs of the chunk that has arrived
   * @param {boolean} counts whether the network caused the chunk's lateness
   * @returns {number} the chunk's lateness in ms
   */
  arrived(nowMs, lengthMs, counts) {
    this.#positionMs += lengthMs;
    const took = nowMs - this.#positionMs;
    if (nowMs - this.#turnMs > BASE_MS) {
      this.#older = this.#newer;
      this.#newer = took;
      this.#turnMs = nowMs;
    }
    this.#newer = Math.min(this.#newer, took);
    const lateMs = took - Math.min(this.#older, this.#newer);
    if (lateMs < STEADY.aboveMs) {
      this.#settle();
      if (counts) this.#remember(nowMs, lateMs);
      return lateMs;
    }
    return this.#suspect(nowMs, took, lateMs, counts);
  }

  /** @returns {boolean} whether it isn't known yet if the last chunk was late because of the network or because a clock stood still */
  get isInDoubt() {
    return this.#late !== null;
  }

  /** @returns {number} the margin in ms that this line needs */
  get neededMs() {
    return this.#neededMs;
  }

  /** @returns {number} the second largest lateness of the last two minutes, in ms */
  get jitterMs() {
    return this.#sorted[1] ?? 0;
  }

  /** The bins, largest first. */
  get #sorted() {
    return [...this.#bins].sort((a, b) => b - a);
  }

  /** Notes a chunk that may be steadily late, and returns its lateness: 0 or little more if it is. */
  #suspect(nowMs, took, lateMs, counts) {
    const { least = took, most = took } = this.#late ?? {};
    if (Math.max(most, took) - Math.min(least, took) >= STEADY.spreadMs) this.#settle();
    this.#late ??= { sinceMs: nowMs, least: took, most: took, lateness: [] };
    const late = this.#late;
    late.least = Math.min(late.least, took);
    late.most = Math.max(late.most, took);
    if (counts) late.lateness.push([nowMs, lateMs]);
    if (nowMs - late.sinceMs < STEADY.forMs) return lateMs;
    this.#late = null;
    this.#older = Infinity;
    this.#newer = late.least;
    this.#turnMs = nowMs;
    return took - late.least;
  }

  /** Attributes the lateness of the last chunks to the network. */
  #settle() {
    for (const [nowMs, lateMs] of this.#late?.lateness ?? []) this.#remember(nowMs, lateMs);
    this.#late = null;
  }

  #remember(nowMs, lateMs) {
    // Chunks that queued up during an outage are late because of the outage, and count as part of it.
    this.#outage = lateMs > (this.#outage ? this.#neededMs : OUTAGE_MS);
    if (this.#outage) return;
    if (nowMs - this.#binMs > BIN_MS) {
      this.#bins.push(0);
      this.#seen += 1;
      if (this.#bins.length > Math.min(BINS, Math.max(MIN_BINS, this.#seen / 2))) this.#bins.shift();
      this.#binMs = nowMs;
    }
    const last = this.#bins.length - 1;
    this.#bins[last] = Math.max(this.#bins[last], lateMs);
    const worst = this.#sorted;
    const learnt = this.#seen > LEARNT_BINS;
    const cheap = worst[0] <= (learnt ? CHEAP_MS : CHEAP_AT_FIRST_MS);
    const exceeded = Math.max(cheap ? 0 : 1, Math.floor(worst.length / SELDOM_BINS));
    const heldMs = Math.max(worst[exceeded] ?? 0, (worst[1] ?? 0) - CONCEALED_MS);
    this.#neededMs = Math.max(learnt ? MIN_MARGIN_MS : START_MARGIN_MS, SAFE_MS + heldMs);
  }
}
