/**
 * The injected stream: an endless page in a hidden frame whose scripts hand us records.
 *
 * The listener's document calls `parent.palabre(self, text)` for each record. Here its frames are opened, renewed and
 * closed, and a stream that died is found out: no browser reports the end of such a page, so 5 s without any record are
 * its end. When records stay away for longer than this line ever makes them (pulse.js), or something else of the same
 * listener's breaks off, a second frame is opened beside the first on suspicion: if the first was only late, nothing is
 * lost by it. What a record means is the business of whoever passes `onRecord`.
 */

import { Backoff } from './backoff.js';
import { Pulse } from './pulse.js';
import { parseRecord } from './records.js';
import { Renewal } from './renewal.js';

const DEAD_AFTER_MS = 5000;
const CHECK_MS = 400;
const AGAIN_MS = 50;
const HINT_AGAIN_MS = 2000;
const MOVED_AGAIN_MS = 3000;
const MOVED_WAIT_MS = 100;
/** How many records the next frame may say before the one before it has said what it still has to say: some 300 ms. */
const MOST_HELD = 9;

/**
 * @typedef {{onRecord: (record: import('./records.js').StreamRecord) => void, onMoved: () => void,
 *   onState: (state: 'connecting' | 'live' | 'lost') => void}} StreamHandlers
 */

/** One participant's stream, from `start` to `stop`. */
export class Stream {
  #handlers;
  #renewal;
  #backoff = new Backoff();
  #pulse = new Pulse();
  #checks = 0;
  #retry = 0;
  #heardMs = 0;
  #heardWallMs = 0;
  #liveSinceMs = 0;
  #movedMs = -Infinity;
  #hintMs = -Infinity;
  #overdue = false;
  #suspected = false;
  #state = 'stopped';
  #silent = true;
  /** Which list of people was told; a stream whose listener has the same one says only their states. */
  #tag = '';
  /** What happened since `start`, for the details panel. */
  counts = { records: 0, chunks: 0, lost: 0, bad: 0, opened: 0, renewals: 0, reconnects: 0, bytes: 0 };

  /**
   * @param {StreamHandlers} handlers
   * @param {number} [renewCost] when a frame is renewed, see renewal.js
   */
  constructor(handlers, renewCost) {
    this.#handlers = handlers;
    this.#renewal = new Renewal(renewCost);
  }

  /** Opens the first frame. Only after the page's load event, which an endless frame would hold back for ever. */
  start() {
    window.palabre = (win, text) => this.#receive(win, text);
    this.#check();
    window.addEventListener('online', this.#tryNow);
    this.#say('connecting');
    this.#open();
  }

  /** Closes everything. */
  stop() {
    delete window.palabre;
    clearTimeout(this.#checks);
    clearTimeout(this.#retry);
    window.removeEventListener('online', this.#tryNow);
    this.#close(this.#renewal.leader);
    this.#close(this.#renewal.candidate);
    this.#state = 'stopped';
  }

  /** Something else of the same listener's has broken off: its process may be gone, and with it this stream. */
  suspect() {
    const nowMs = performance.now();
    if (this.#state === 'stopped' || nowMs - this.#hintMs < HINT_AGAIN_MS) return;
    this.#hintMs = nowMs;
    this.#doubt();
  }

  /** @returns {number} unsuccessful tries in a row */
  get tries() {
    return this.#backoff.tries;
  }

  #tryNow = () => {
    if (this.#state !== 'lost' || this.#renewal.candidate) return;
    this.#backoff.reset();
    clearTimeout(this.#retry);
    this.#retry = 0;
    this.#open();
  };

  #open() {
    const { leader, lastSeq } = this.#renewal;
    const overlaps = leader !== null && !leader.moved && !this.#suspected;
    const element = document.createElement('iframe');
    element.className = 'wire';
    element.hidden = true;
    element.title = 'Palabre';
    // The address of a stream that is only renewed is always the same: Chromium keeps nearly a kB for each script of each address.
    const asked = [lastSeq > 0 && !overlaps && `from=${lastSeq}`, this.#tag && `people=${this.#tag}`].filter(Boolean).join('&');
    element.src = asked ? `listen?${asked}` : 'listen';
    const frame = { element, openedMs: performance.now(), moved: false, done: false, torn: false, overlaps, held: [], firstSeq: Infinity };
    this.counts.opened += 1;
    // A page that never ends never loads: if it does, it is an error page or the connection was closed.
    element.addEventListener('load', () => this.#ended(frame));
    element.addEventListener('error', () => this.#ended(frame));
    this.#close(this.#renewal.candidate);
    this.#renewal.candidate = frame;
    document.body.append(element);
  }

  #close(frame) {
    if (!frame) return;
    this.#renewal.forget(frame);
    frame.element.remove();
  }

  #receive(win, text) {
    const { leader, candidate } = this.#renewal;
    const frame = [leader, candidate].find((f) => f && f.element.contentWindow === win);
    if (!frame) return;
    if (this.#mustWait(frame)) this.#hold(frame, text);
    else this.#hear(frame, text);
  }

  /**
   * Nothing of the next frame is taken before the one before it has said what it still has to say, or that would be lost: its
   * last, where another process comes after it, or what the next one begins with, where both say the same.
   */
  #mustWait(frame) {
    const { leader, candidate } = this.#renewal;
    if (!leader || frame !== candidate || this.#suspected) return false;
    return leader.moved ? !leader.done : frame.overlaps;
  }

  #hold(frame, text) {
    const record = parseRecord(text);
    if (record?.kind === 'moved') {
      this.#close(frame);
      if (!this.#retry) this.#openIn(MOVED_WAIT_MS);
      return;
    }
    frame.held.push(text);
    if (record?.kind === 'sound') frame.firstSeq = Math.min(frame.firstSeq, record.seq);
    if (frame.overlaps && record?.kind === 'silence') this.#release(true);
    else if (frame.held.length > MOST_HELD) this.#release(false);
    else this.#meet();
  }

  #meet() {
    const { candidate, lastSeq } = this.#renewal;
    if (candidate?.overlaps && candidate.firstSeq <= lastSeq) this.#release(true);
  }

  /** @param {boolean} whole whether nothing is missing between the two */
  #release(whole) {
    const { candidate } = this.#renewal;
    if (!candidate) return;
    const { held } = candidate;
    candidate.held = [];
    candidate.torn = !whole;
    for (const text of held) this.#hear(candidate, text);
  }

  #hear(frame, text) {
    const { retired } = this.#renewal.spoke(frame, text.length);
    if (retired !== undefined) this.#promoted(retired);
    this.#suspected = false;
    this.#overdue = false;
    this.#heardMs = performance.now();
    this.#heardWallMs = Date.now();
    this.counts.records += 1;
    this.counts.bytes += text.length;
    this.#take(frame, text);
    this.#pulse.heard(this.#heardMs, this.#silent);
    this.#meet();
    if (this.#renewal.due) this.#open();
  }

  #promoted(retired) {
    if (retired && this.#suspected) this.counts.reconnects += 1;
    else if (retired) this.counts.renewals += 1;
    if (!retired || this.#suspected) this.#pulse.restart();
    this.#close(retired);
    this.#liveSinceMs = performance.now();
    this.#say('live');
  }

  #take(frame, text) {
    const record = parseRecord(text);
    if (!record) {
      this.counts.bad += 1;
      return;
    }
    // Two streams overlap while one takes over from the other: what counts but once has its number.
    const counted = record.kind === 'sound' || record.kind === 'silence' || record.kind === 'message';
    if (counted && !this.#renewal.isNews(record.seq)) {
      frame.torn = false;
      return;
    }
    if (record.kind === 'sound') this.#count(record, frame);
    if (record.kind === 'silence') this.#silent = true;
    if (record.kind === 'room') this.#tag = record.tag;
    if (record.kind === 'moved') this.#follow(frame, record.last);
    else this.#handlers.onRecord(record);
  }

  /**
   * The next stream first; the old one goes on until it has said its last. A request may still reach the old process on a
   * connection that the browser kept; then it is told to move again, and asks with a little more patience.
   */
  #follow(frame, last) {
    const isNews = !frame.moved;
    frame.moved = true;
    frame.done ||= last;
    if (isNews) this.#handlers.onMoved();
    if (!isNews && (this.#renewal.candidate || this.#retry)) {
      if (frame.done) this.#release(true);
      return;
    }
    const nowMs = performance.now();
    const waitMs = nowMs - this.#movedMs < MOVED_AGAIN_MS ? MOVED_WAIT_MS : 0;
    this.#movedMs = nowMs;
    if (waitMs === 0) this.#open();
    else if (!this.#retry) this.#openIn(waitMs);
  }

  #count(record, frame) {
    this.counts.chunks += 1;
    record.gap ||= frame.torn;
    frame.torn = false;
    // The first chunk after a silence is marked too, and nothing is missing there.
    record.lost = record.gap && !this.#silent;
    if (record.lost) this.counts.lost += 1;
    this.#silent = false;
  }

  /** No timer is in the sound's path; this one only finds out what died. */
  #check() {
    const { leader, candidate } = this.#renewal;
    const unheardMs = this.#unheardMs;
    const leftMs = this.#pulse.limitMs - unheardMs;
    this.#checks = setTimeout(() => this.#check(), Math.min(CHECK_MS, Math.max(AGAIN_MS, leftMs)));
    if (candidate && performance.now() - candidate.openedMs > DEAD_AFTER_MS) this.#ended(candidate);
    if (leader && unheardMs > DEAD_AFTER_MS) this.#ended(leader);
    if (!leader) return;
    // A page that was kept from running looks at the clock before it looks at what has come meanwhile: so it looks twice.
    if (leftMs < 0 && this.#overdue) this.#doubt();
    if (leftMs >= 0) this.#backoff.lived(performance.now() - this.#liveSinceMs);
    this.#overdue = leftMs < 0;
  }

  /** On some systems the page's own clock stands while the machine sleeps, and the other one may be set. */
  get #unheardMs() {
    return Math.max(performance.now() - this.#heardMs, Date.now() - this.#heardWallMs);
  }

  #doubt() {
    if (!this.#renewal.leader || this.#suspected) return;
    this.#suspected = true;
    if (this.#renewal.candidate) this.#release(false);
    else if (!this.#retry) this.#open();
  }

  #ended(frame) {
    const { leader, candidate } = this.#renewal;
    if (frame !== leader && frame !== candidate) return;
    this.#close(frame);
    // The suspicion was right: the listener doesn't answer the second frame either.
    if (leader && frame === candidate && this.#suspected) this.#close(leader);
    if (frame === leader) this.#release(false);
    if (leader && !this.#renewal.leader) this.#say('lost');
    if (!this.#renewal.candidate && !this.#retry) this.#retryLater();
  }

  #retryLater() {
    this.counts.reconnects += 1;
    this.#openIn(this.#backoff.next());
    if (this.tries > 1 && !this.#renewal.leader) this.#say('lost');
  }

  #openIn(waitMs) {
    this.#retry = setTimeout(() => {
      this.#retry = 0;
      this.#open();
    }, waitMs);
  }

  #say(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#handlers.onState(state);
  }
}
