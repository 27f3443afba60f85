/**
 * Folder stream/: receives the injected stream and parses its records. May import base/, audio/ and codec/.
 *
 * The stream is an endless document in a hidden iframe; its scripts call `parent.palabre(self, text)` for each record. This file opens,
 * renews and closes the iframes, and detects a dead stream. No browser reports the end of such a document, so 5 s without a record
 * count as its end. When a record is overdue (stall.js), or another connection to the same listener broke, a second iframe is opened
 * beside the first: if the first iframe was only late, nothing is lost.
 */

import { Backoff } from '../base/backoff.js';
import { pageId } from '../base/page-id.js';
import { PCM } from '../codec/formats.js';
import { FrameTracker } from './frames.js';
import { parseRecord } from './records.js';
import { StallDetector } from './stall.js';

/** Time without a record after which the stream counts as ended. */
const DEAD_AFTER_MS = 5000;
/** Time without a record after which the stream counts as unstable; in silence, with a record every 2 s, the time is longer (stall.js). */
const UNSTABLE_AFTER_MS = 2000;
/** Maximum interval between checks for overdue records. */
const CHECK_MS = 400;
/** Minimum interval between checks for overdue records. */
const MIN_CHECK_MS = 50;
/** Minimum interval between second iframes that are opened because another connection broke. */
const SUSPECT_INTERVAL_MS = 2000;
/** After a handover, `moved` within this time means that the request reached the previous process again. */
const MOVED_AGAIN_MS = 3000;
/** Delay before the request for the stream is repeated after it reached the previous process. */
const MOVED_WAIT_MS = 100;
/** Maximum number of records that the candidate's iframe holds back while the leader isn't finished: about 300 ms. */
const MAX_HELD = 9;

/** Number of streams of a compressed format in a row that end without a record, after which the page asks only for PCM. */
const MAX_REFUSED = 3;

/**
 * @typedef {{onRecord: (record: import('./records.js').StreamRecord) => void, onMoved: (last: boolean) => void, onNewProcess?: () => void,
 *   onState: (state: 'connecting' | 'live' | 'unstable' | 'lost') => void}} StreamHandlers
 *   onMoved: another process answers from now on; last: this process has ended already, so this is not a handover;
 *   onRecord: a record of sound also has `format`, the name of its format; `old`, whether another iframe has already brought this sound; and
 *   `overlapMs`, the length of the part at its start that another iframe has already brought. Old records of sound in a new format are passed on, so
 *   that a decoder can be prepared;
 *   onNewProcess: a stream has begun whose process may be a new one, called before its records
 */

/** One participant's stream, from `start` to `stop`. */
export class Stream {
  #handlers;
  #frames;
  #backoff = new Backoff();
  #stall = new StallDetector();
  #checks = 0;
  #retry = 0;
  #heardMs = 0;
  #heardWallMs = 0;
  #liveSinceMs = 0;
  #movedMs = -Infinity;
  #suspectMs = -Infinity;
  #overdue = false;
  #suspected = false;
  #state = 'stopped';
  #silent = true;
  /** Tag of the list of participants that the page has; a listener with the same list sends only the participants' states. */
  #tag = '';
  /** The wanted format. */
  #format = PCM;
  /** Whether PCM is requested until the next `hello`, because the last request for another format failed. */
  #isPlain = false;
  #refused = 0;
  /** SEQ of the last record of sound or silence that was passed on. */
  #soundSeq = 0;
  /** Name of the format of the last sound that was passed on. */
  #soundFormat = '';
  /** ID of this page. If there are too many streams, the listener ends only a stream of the page that opens a further stream. */
  page = pageId();
  /** Totals since `start`, for the details panel. */
  counts = { records: 0, chunks: 0, lost: 0, bad: 0, opened: 0, renewals: 0, reconnects: 0, bytes: 0 };

  /**
   * @param {StreamHandlers} handlers
   * @param {number} [renewCost] maximum cost of a frame, see frames.js
   */
  constructor(handlers, renewCost) {
    this.#handlers = handlers;
    this.#frames = new FrameTracker(renewCost);
  }

  /** Opens the first iframe. Call after the page's load event, which an endless iframe would delay for ever. */
  start() {
    window.palabre = (win, text) => this.#receive(win, text);
    this.#check();
    window.addEventListener('online', this.tryNow);
    this.#setState('connecting');
    this.#open();
  }

  /** Closes everything. No handler is called afterwards. */
  stop() {
    delete window.palabre;
    clearTimeout(this.#checks);
    clearTimeout(this.#retry);
    window.removeEventListener('online', this.tryNow);
    this.#close(this.#frames.leader);
    this.#close(this.#frames.candidate);
    this.#state = 'stopped';
  }

  /** Suspects the stream, because another connection to the same listener broke: the listener's process may have ended. */
  suspect() {
    const nowMs = performance.now();
    if (this.#state === 'stopped' || nowMs - this.#suspectMs < SUSPECT_INTERVAL_MS) return;
    this.#suspectMs = nowMs;
    this.#openSecond();
  }

  /** Changes the format: opens a stream of it beside the leader, as for a renewal. @param {import('../codec/formats.js').Format} format */
  setFormat(format) {
    this.#format = format;
    if (this.#frames.leader && this.#isDue) this.#open();
  }

  /**
   * Replaces the stream at once, because the page can't decode its sound.
   * @param {import('../codec/formats.js').Format} format of the new stream
   * @param {number} seq of the last record whose sound was decoded
   */
  replace(format, seq) {
    this.#format = format;
    const { leader } = this.#frames;
    if (!leader || this.#state === 'stopped') return;
    leader.isBroken = true;
    if (seq > 0) this.#frames.lastSeq = Math.min(this.#frames.lastSeq, seq);
    this.#soundSeq = this.#frames.lastSeq;
    clearTimeout(this.#retry);
    this.#retry = 0;
    this.#open();
  }

  /** @returns {number} failed attempts in a row */
  get tries() {
    return this.#backoff.tries;
  }

  /** Tries at once to open a lost stream. */
  tryNow = () => {
    if (this.#state !== 'lost' || this.#frames.candidate) return;
    this.#backoff.reset();
    clearTimeout(this.#retry);
    this.#retry = 0;
    this.#open();
  };

  #open() {
    const { leader, lastSeq } = this.#frames;
    const overlaps = leader !== null && !leader.moved && !leader.isBroken && !this.#suspected;
    const format = this.#wanted;
    const element = document.createElement('iframe');
    element.className = 'wire';
    element.hidden = true;
    element.title = 'Palabre';
    // The address of a renewed stream has no `from`, so that it stays the same: Chromium keeps nearly 1 kB for each script at each address.
    const query = [`page=${this.page}`, lastSeq > 0 && !overlaps && `from=${lastSeq}`, this.#tag && `people=${this.#tag}`, format.query].filter(Boolean);
    element.src = `listen?${query.join('&')}`;
    const frame = {
      element, openedMs: performance.now(), afterSeq: lastSeq, moved: false, done: false, torn: false, overlaps, held: [], firstSeq: Infinity,
      format, spoke: false, isBroken: false, isHeard: false, oldSeq: 0,
    };
    this.counts.opened += 1;
    // An endless document never fires `load`. If `load` fires, the document is an error page or its connection was closed.
    element.addEventListener('load', () => this.#ended(frame));
    element.addEventListener('error', () => this.#ended(frame));
    this.#close(this.#frames.candidate);
    this.#frames.candidate = frame;
    document.body.append(element);
  }

  #close(frame) {
    if (!frame) return;
    this.#frames.forget(frame);
    frame.element.remove();
  }

  #receive(win, text) {
    const { leader, candidate } = this.#frames;
    const frame = [leader, candidate].find((f) => f && f.element.contentWindow === win);
    if (!frame) return;
    if (this.#mustWait(frame)) this.#hold(frame, text);
    else this.#hear(frame, text);
  }

  /**
   * Returns whether an iframe's records must wait. The candidate's records wait until the leader is finished: in a handover until the
   * leader's last record, in a renewal until both have sent the same sound. Processed at once, the candidate's records would make the
   * leader's later records count as old.
   */
  #mustWait(frame) {
    const { leader, candidate } = this.#frames;
    if (!leader || frame !== candidate || leader.isBroken || this.#suspected) return false;
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
    if (isSound(record)) frame.firstSeq = Math.min(frame.firstSeq, record.seq);
    if (frame.overlaps && record?.kind === 'silence') this.#release(true);
    else if (frame.held.length > MAX_HELD) this.#release(false);
    else this.#releaseIfMet();
  }

  #releaseIfMet() {
    const { candidate, lastSeq } = this.#frames;
    if (candidate?.overlaps && candidate.firstSeq <= lastSeq) this.#release(true);
  }

  /** Processes the waiting records. @param {boolean} whole whether no sound is missing between the leader and the candidate */
  #release(whole) {
    const { candidate } = this.#frames;
    if (!candidate) return;
    const { held } = candidate;
    candidate.held = [];
    candidate.torn = !whole;
    for (const text of held) this.#hear(candidate, text);
  }

  #hear(frame, text) {
    const { retired } = this.#frames.spoke(frame, text.length);
    if (retired !== undefined) this.#promoted(frame, retired);
    if (this.#state === 'unstable') this.#setState('live');
    this.#suspected = false;
    this.#overdue = false;
    this.#heardMs = performance.now();
    this.#heardWallMs = Date.now();
    this.counts.records += 1;
    this.counts.bytes += text.length;
    this.#take(frame, text);
    this.#stall.heard(this.#heardMs, this.#silent);
    this.#releaseIfMet();
    if (this.#frames.due || this.#isDue) this.#open();
  }

  /** The format to request now. */
  get #wanted() {
    return this.#isPlain || this.#refused >= MAX_REFUSED ? PCM : this.#format;
  }

  /** Whether the leader has another format than it should have. */
  get #isDue() {
    const { leader, candidate } = this.#frames;
    return leader !== null && !leader.moved && candidate === null && !this.#retry && leader.format.name !== this.#wanted.name;
  }

  #promoted(frame, retired) {
    const renewed = (frame.overlaps && !frame.torn && retired !== null && !retired.moved && !this.#suspected) || retired?.isBroken;
    if (retired && this.#suspected) this.counts.reconnects += 1;
    else if (retired) this.counts.renewals += 1;
    if (!retired || this.#suspected) this.#stall.restart();
    this.#close(retired);
    this.#liveSinceMs = performance.now();
    this.#setState('live');
    if (!renewed) this.#handlers.onNewProcess?.();
  }

  #take(frame, text) {
    const record = parseRecord(text);
    if (!record) {
      this.counts.bad += 1;
      return;
    }
    if (record.kind === 'hello') this.#accepted(frame);
    if (record.kind === 'hello' && this.#frames.greeted(record.seq, frame.afterSeq)) this.#handlers.onNewProcess?.();
    // While two iframes overlap, both receive the same records of sound, silence and messages. Each record is used once.
    const hasSound = isSound(record) || record.kind === 'silence';
    if (hasSound && frame.isBroken) return;
    const isNew = (!hasSound && record.kind !== 'message') || this.#frames.isNew(record.seq);
    if (!isNew) frame.torn = false;
    if (isSound(record)) this.#frame(record, frame, !isNew);
    // A message with an ID may arrive for the first time after records with higher SEQ. If such a message was
    // received before, room/texts.js recognises it by its ID.
    if (!isNew && isSound(record) && record.format !== this.#soundFormat) this.#handlers.onRecord(record);
    if (!isNew && !record.id) return;
    if (isSound(record)) this.#count(record, frame);
    if (record.kind === 'silence') this.#silent = true;
    if (isSound(record)) this.#soundFormat = record.format;
    if (hasSound) this.#soundSeq = record.seq;
    if (record.kind === 'room') this.#tag = record.tag;
    if (record.kind === 'moved') this.#follow(frame, record.last);
    else this.#handlers.onRecord(record);
  }

  #accepted(frame) {
    frame.spoke = true;
    this.#isPlain = false;
    if (frame.format.name !== PCM.name) this.#refused = 0;
  }

  /** Adds to a record of sound what other iframes have already brought of it. */
  #frame(record, frame, old) {
    Object.assign(record, { format: frame.format.name, old, overlapMs: 0 });
    if (!old && !frame.isHeard && frame.oldSeq > 0) record.overlapMs = Math.max(0, this.#soundSeq - frame.oldSeq);
    if (old) frame.oldSeq = record.seq;
    else frame.isHeard = true;
  }

  /**
   * Opens the next process's stream; the old iframe continues until its last record. If the request reached the previous process
   * again, on a connection that the browser kept, that process sends `moved` again and the request is repeated after a short wait.
   */
  #follow(frame, last) {
    const isFirst = !frame.moved;
    frame.moved = true;
    frame.done ||= last;
    if (isFirst) this.#handlers.onMoved(last);
    if (!isFirst && (this.#frames.candidate || this.#retry)) {
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
    // The first chunk after silence has GAP 1 too, but no sound is missing there.
    record.lost = record.gap && !this.#silent;
    if (record.lost) this.counts.lost += 1;
    this.#silent = false;
  }

  /** Detects dead iframes. Runs on a timer; sound never waits for this check. */
  #check() {
    const { leader, candidate } = this.#frames;
    const sinceLastMs = this.#sinceLastMs;
    const leftMs = this.#stall.limitMs - sinceLastMs;
    this.#checks = setTimeout(() => this.#check(), Math.min(CHECK_MS, Math.max(MIN_CHECK_MS, leftMs)));
    if (candidate && performance.now() - candidate.openedMs > DEAD_AFTER_MS) this.#ended(candidate);
    if (leader && sinceLastMs > DEAD_AFTER_MS) this.#ended(leader);
    if (!this.#frames.leader) return;
    // After a suspended page resumes, this timer runs before the records that arrived meanwhile are processed. So only two overdue checks in a row have an effect.
    if (leftMs < 0 && this.#overdue) this.#openSecond();
    if (this.#overdue && leftMs < 0 && sinceLastMs >= UNSTABLE_AFTER_MS) this.#setState('unstable');
    if (leftMs >= 0) this.#backoff.lived(performance.now() - this.#liveSinceMs);
    this.#overdue = leftMs < 0;
  }

  /** Returns the ms since the last record, by the clock that advanced more: `performance.now()` may stop while the computer sleeps. */
  get #sinceLastMs() {
    return Math.max(performance.now() - this.#heardMs, Date.now() - this.#heardWallMs);
  }

  /** Assumes that the leader's stream may be dead. Uses the candidate if one is open, otherwise opens a second iframe. */
  #openSecond() {
    if (!this.#frames.leader || this.#suspected) return;
    this.#suspected = true;
    if (this.#frames.candidate) this.#release(false);
    else if (!this.#retry) this.#open();
  }

  #ended(frame) {
    const { leader, candidate } = this.#frames;
    if (frame !== leader && frame !== candidate) return;
    this.#close(frame);
    if (!frame.spoke && frame.format.name !== PCM.name) {
      this.#isPlain = true;
      this.#refused += 1;
    }
    // The second iframe, opened because the leader was suspected to be dead, got no stream either. So the leader counts as dead.
    if (leader && frame === candidate && this.#suspected) this.#close(leader);
    if (frame === leader) this.#release(false);
    if (leader && !this.#frames.leader) this.#setState('lost');
    if (!this.#frames.candidate && !this.#retry) this.#retryLater();
  }

  #retryLater() {
    this.counts.reconnects += 1;
    this.#openIn(this.#backoff.next());
    if (this.tries > 1 && !this.#frames.leader) this.#setState('lost');
  }

  #openIn(waitMs) {
    this.#retry = setTimeout(() => {
      this.#retry = 0;
      this.#open();
    }, waitMs);
  }

  #setState(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#handlers.onState(state);
  }
}

function isSound(record) {
  return record?.kind === 'sound' || record?.kind === 'opus';
}
