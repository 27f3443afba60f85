/**
 * Folder room/: one stay in the room, and what is known about the other participants. May import base/, audio/, codec/, stream/, player/,
 * microphone/ and uplink/.
 *
 * This file connects stream, player, microphone and uplink from the click that joins to the click that leaves. `state` holds what the
 * page shows; `onChange` tells that it changed. Only the user unmutes the microphone.
 */

import { ContextOwner, hasWorklets } from '../audio/context.js';
import { chosen } from '../audio/devices.js';
import { FormatChoice } from '../codec/format-choice.js';
import { PCM, chunkMsOf } from '../codec/formats.js';
import { SoundDecoder } from '../codec/sound-decoder.js';
import { Microphone, microphoneWorklet } from '../microphone/microphone.js';
import { FallbackPlayer } from '../player/fallback-player.js';
import { Player, playerWorklet } from '../player/player.js';
import { Stream } from '../stream/stream.js';
import { Uplink } from '../uplink/uplink.js';
import { Absence } from './absence.js';
import { BitRate } from './bit-rate.js';
import { PresenceReporter } from './presence.js';
import { holdLocks, releaseLocks } from './locks.js';
import { streamIsRefused } from './requests.js';

/**
 * @typedef {{onChange: () => void, onLive?: () => void, onPeak: (peak: number) => void, onMe: (me: object) => void,
 *   onRoom: (record: object) => void, onStates: (marks: object[]) => void, onLevels: (marks: object[]) => void,
 *   onTexts: (texts: import('../stream/records.js').Text[]) => void, onFault: (what: string) => void, onOtherTab: () => void,
 *   onRemoved: () => void}} SessionHandlers
 *   onFault: a fault from which the page recovers by itself, for support;
 *   onOtherTab: the participant has joined in another tab of this browser, so this tab must leave;
 *   onRemoved: the operator has removed the participant
 */

/** Maximum delay between a change of the hand by this page's user and the records that show it. */
const ECHO_MS = 3000;
/**
 * Time without the raised hand in the stream after which this page lowers its own hand. After a supervisor or a listener was killed,
 * the stream may lack the hand for a moment, until the page or the listener has reported it again.
 */
const LOWER_AFTER_MS = 5000;
/** Interval between checks whether the participant was away. */
const ABSENCE_CHECK_MS = 1000;
/** Length of a record's markup in the stream. */
const MARKUP_BYTES = 30;

/** One stay in the room. */
export class Session {
  #handlers;
  #player;
  #audio;
  #microphone;
  #uplink;
  #stream;
  #presence;
  #decoder;
  #choice;
  #chunkMs = 0;
  /** Name of the format of the sound that was played last. */
  #codec = PCM.name;
  #rates = { in: new BitRate(), out: new BitRate() };
  #absence = new Absence();
  #seen = null;
  #lowerTimer = 0;
  /** When the user has last raised and lowered the hand here. */
  #handMs = { true: -Infinity, false: -Infinity };
  /** Whether the user has raised or lowered the hand here. Otherwise another page of the participant may do so, and this page follows. */
  #isHandOurs = false;
  #absenceChecks = 0;
  #room;
  /** Whether the listener has ended, and the room of the next listener is not known yet. */
  #between = false;
  #listenOnly;
  #left = false;
  state = { connection: 'connecting', audible: true, microphone: 'off', systemMuted: false, silent: false, talkingMuted: false, mutedBecause: '', uplink: 'off', muted: true, hand: false, weak: false, mode: 'open', held: false };

  /**
   * @param {object} me as from GET me
   * @param {{muted: boolean, volume: number, postOnly: boolean, quality?: import('../codec/ladder.js').Quality, renewCost?: number, kbps?: number}} options
   * @param {SessionHandlers} handlers
   */
  constructor(me, { muted, volume, postOnly, quality = 'auto', renewCost, kbps }, handlers) {
    this.#handlers = handlers;
    this.#listenOnly = me.listen_only === true;
    this.#room = me.room;
    this.state.muted = muted;
    const onState = (audible) => this.#change({ audible });
    const { onFault } = handlers;
    if (hasWorklets()) {
      this.#player = new Player(onFault);
      const onContext = (context, output) => this.#attach(context, output);
      this.#audio = new ContextOwner([playerWorklet, microphoneWorklet], { onContext, onState, onFault });
    } else {
      this.#listenOnly = true;
      this.#player = new FallbackPlayer(onState);
      this.#audio = this.#player;
    }
    this.#player.setVolume(volume);
    this.#microphone = new Microphone({
      onChunk: (chunk) => this.#send(chunk),
      onPeak: handlers.onPeak,
      onState: (microphone) => this.#microphoneChanged(microphone),
      onSystemMute: (systemMuted) => this.#change({ systemMuted }),
      onWatch: ({ silent, talking }) => this.#watched(silent, talking),
      onFault,
    });
    this.#uplink = new Uplink({
      onState: (uplink) => this.#change({ uplink }),
      onBroken: () => this.#stream.suspect(),
      reachable: () => this.state.connection === 'live',
      onUnsent: (ms) => this.#choice.unsent(ms),
      onEncoderFailed: () => this.#choice.encoderFailed(),
      onFault,
    }, { room: me.room, postOnly });
    this.#stream = new Stream({
      onRecord: (record) => this.#take(record),
      onMoved: (last) => {
        this.#between = last;
        this.#uplink.move();
      },
      onNewProcess: () => this.#presence.tellAgain(),
      onState: (connection) => this.#connectionChanged(connection),
    }, renewCost);
    this.#presence = new PresenceReporter(this.#stream.page);
    this.#decoder = new SoundDecoder({
      onSound: (chunk) => this.#play(chunk),
      onSilence: () => this.#player.silence(),
      onFailed: (why, seq) => this.#decoderFailed(why, seq),
    });
    this.#choice = new FormatChoice({ quality, fixedKbps: kbps }, {
      onStream: (format) => this.#stream.setFormat(format),
      onUplink: (kbps) => this.#uplink.setBitRate(kbps),
    });
    this.#audio.setOutput?.(chosen('output'));
    this.#setFormat(me);
    this.#microphone.setMuted(muted);
    // Without the state 'asking', a screen reader announces a missing microphone before `join` has asked the browser for the microphone.
    if (!this.#listenOnly) this.state.microphone = 'asking';
  }

  /** Call only in a click. Waits for nothing. */
  join() {
    this.#audio.start(this.#listenOnly ? 'playback' : 'play-and-record');
    this.#stream.start();
    if (!this.#listenOnly) this.#microphone.ask();
    holdLocks(() => this.#handlers.onOtherTab());
    this.#absenceChecks = setInterval(() => this.#lookAround(), ABSENCE_CHECK_MS);
  }

  /** Closes all connections and releases the microphone. Pending operations have no effect afterwards and send no requests. */
  leave() {
    this.#left = true;
    clearInterval(this.#absenceChecks);
    this.#presence.stop();
    this.#uplink.stop();
    clearTimeout(this.#lowerTimer);
    this.#microphone.stop();
    this.#stream.stop();
    this.#decoder.stop();
    this.#choice.stop();
    this.#audio.stop();
    releaseLocks();
  }

  /** @param {boolean} muted as the user chose */
  setMuted(muted) {
    this.#microphone.setMuted(muted);
    this.#change({ muted, held: this.state.held && !muted, mutedBecause: '' });
  }

  /** @param {import('../codec/ladder.js').Quality} quality of the sound, as the user chose */
  setQuality(quality) {
    this.#choice.setQuality(quality);
  }

  /** Applies the setting that warns a user who talks while muted. */
  applyWarning() {
    this.#microphone.applyWarning();
  }

  /** @param {boolean} hand whether the other participants see a raised hand */
  setHand(hand) {
    this.#handMs[hand] = performance.now();
    clearTimeout(this.#lowerTimer);
    this.#isHandOurs = true;
    this.#change({ hand });
  }

  /** Shows the other participants whether this participant's connection is weak. @param {boolean} weak */
  setWeak(weak) {
    this.#change({ weak });
  }

  /** @param {'open' | 'voice' | 'talk'} mode always on, voice activation or push to talk */
  setMode(mode) {
    this.#microphone.setMode(mode);
    this.#change({ mode, held: false });
  }

  /**
   * @param {boolean} held whether the key or button of push to talk is held
   * @returns {boolean} whether the microphone mode is push to talk
   */
  hold(held) {
    if (this.state.mode !== 'talk') return false;
    this.#microphone.hold(held);
    this.#change({ held: held && !this.state.muted });
    return true;
  }

  /** Opens the microphone again, because another microphone or processing was chosen. */
  renewMicrophone() {
    this.#microphone.renew();
  }

  /** Applies the chosen loudspeaker. Call when it was chosen, and when the browser may have learnt the list of devices. */
  renewOutput() {
    this.#audio.setOutput?.(chosen('output'));
  }

  /** @param {number} volume 0 to 1 */
  setVolume(volume) {
    this.#player.setVolume(volume);
  }

  /** Resumes sound that the browser suspended. Call in a click handler. */
  wake() {
    this.#audio.wake();
  }

  /** Tries at once to connect again. */
  reconnect() {
    this.#stream.tryNow();
  }

  /** Asks for the microphone again. */
  askAgain() {
    this.#microphone.ask();
  }

  /** @returns {Promise<boolean>} whether the listener refuses this page's stream, because the participant has too many streams */
  isRefused() {
    return streamIsRefused(this.#stream.page);
  }

  /** Takes the microphone back from the participant's other page. */
  takeBack() {
    this.#uplink.start();
  }

  /**
   * @returns {object} see `window.palabreState`. `delayMs` is the delay from a chunk's arrival to the sound card's output: `depthMs`
   *   in the ring on average, `filterMs` in the resampler, `outputMs` in the device
   */
  get diagnostics() {
    const { depthMs = 0, lowMs = 0, marginMs = 0, jitterMs = 0, surplusMs = 0, filterMs = 0, speed = 1 } = this.#player.report;
    const { underruns = 0, cuts = 0, splices = 0, cutMs = 0, stretches = 0, stretchMs = 0 } = this.#player.report;
    const { played = 0, outputMs, contextRate, streamRate } = this.#player.report;
    const { bytes, chunks, lost, bad, opened, renewals, reconnects } = this.#stream.counts;
    return {
      ...this.state,
      delayMs: depthMs + filterMs + outputMs,
      codec: this.#codec,
      uplinkCodec: this.#uplink.format,
      inKbps: this.#rates.in.kbps,
      outKbps: this.#rates.out.kbps,
      depthMs, lowMs, marginMs, jitterMs, surplusMs, filterMs, outputMs, speed, contextRate, streamRate,
      underruns, cuts, splices, cutMs, stretches, stretchMs,
      bytes, chunks, lost, bad, opened, renewals, reconnects,
      playerKind: hasWorklets() ? 'worklet' : 'audio', played,
      uplinkKind: this.#uplink.kind,
      sent: this.#uplink.counts.sent,
      dropped: this.#uplink.dropped,
      uplinkReconnects: this.#uplink.counts.reconnects,
    };
  }

  /**
   * Notes what the other participants see of this one. If the hand changes and this page's user has not just done that, another page of the
   * participant has changed it, and this page follows.
   * @param {{hand: boolean, muted: boolean, listening: boolean}} seen
   */
  seenAs({ hand, muted, listening }) {
    const before = this.#seen;
    this.#seen = { hand, microphone: listening ? 'none' : muted ? 'muted' : 'open' };
    const isEcho = performance.now() - this.#handMs[hand] < ECHO_MS;
    if (hand === this.state.hand) clearTimeout(this.#lowerTimer);
    else if ((before?.hand ?? false) !== hand && !isEcho) {
      if (hand) this.#followHand(hand);
      else this.#lowerTimer = setTimeout(() => this.#followHand(hand), LOWER_AFTER_MS);
    }
  }

  #followHand(hand) {
    this.#isHandOurs = false;
    this.#change({ hand });
  }

  /** Whether another page or a program has the microphone, or had it last. */
  get #isElsewhere() {
    return ['taken', 'free'].includes(this.state.uplink);
  }

  /** Returns the presence that the other participants see. Without `hand`, the hand stays as it is. */
  get #shown() {
    const { weak, muted, systemMuted, silent, microphone, uplink } = this.state;
    const hand = this.#isHandOurs ? this.state.hand : undefined;
    if (uplink === 'taken' && this.#seen) return { hand, microphone: this.#seen.microphone, weak: false };
    if (uplink === 'free') return { hand, microphone: 'muted', weak: false };
    const without = ['off', 'refused', 'missing', 'busy'].includes(microphone);
    const isOpen = !without && !muted && !systemMuted && !silent;
    // Other participants notice a weak connection only while the microphone is open.
    return { hand, microphone: without ? 'none' : isOpen ? 'open' : 'muted', weak: weak && isOpen };
  }

  #attach(context, output) {
    this.#player.attach(context, output);
    this.#microphone.attach(context);
  }

  #setFormat(me) {
    const { rate_hz: rateHz, chunk_ms: chunkMs, levelling } = me;
    this.#chunkMs = chunkMs;
    this.#player.setFormat(rateHz, chunkMs);
    this.#decoder.setRate(rateHz);
    this.#microphone.setFormat(rateHz, chunkMs);
    this.#microphone.setLevelling(levelling === true);
    this.#uplink.setRate(rateHz);
    this.#choice.setServer(me);
  }

  /** Sends a chunk, unless the room may have changed or the participant was away: then the user must unmute first. */
  #send(chunk) {
    const wasAway = this.#checkAbsence();
    if (!wasAway && !this.state.muted && !this.#between) this.#uplink.send(chunk);
  }

  /** Runs once a second. */
  #lookAround() {
    const nowMs = performance.now();
    const { bytes, records } = this.#stream.counts;
    this.#rates.in.note(bytes + MARKUP_BYTES * records, nowMs);
    this.#rates.out.note(this.#uplink.bytes, nowMs);
    this.#choice.look();
    this.#checkAbsence();
  }

  #play(chunk) {
    this.#codec = chunk.format;
    this.#player.setChunkMs(chunkMsOf(chunk.format, this.#chunkMs));
    this.#player.sound(chunk);
  }

  #decoderFailed(why, seq) {
    this.#handlers.onFault(`stream: Opus: ${why}`);
    this.#stream.replace(this.#choice.decoderFailed(), seq);
  }

  #checkAbsence() {
    const wasAway = this.#absence.noticed(Date.now());
    if (wasAway) this.#muteBecause('away');
    return wasAway;
  }

  /**
   * Mutes an open microphone until the user unmutes it, and drops the sound that wasn't sent yet. With push to talk only the talk key opens it.
   * @param {'away' | 'moved'} why
   */
  #muteBecause(why) {
    this.#uplink.discard();
    if (this.state.mode === 'talk') this.hold(false);
    else if (!this.state.muted && !this.#listenOnly) {
      this.setMuted(true);
      this.#change({ mutedBecause: why });
    }
  }

  #greeted(me) {
    this.#handlers.onMe(me);
    if (me.room !== this.#room) this.#muteBecause('moved');
    this.#room = me.room;
    this.#uplink.setRoom(me.room);
    this.#between = false;
    this.#setFormat(me);
    this.#setListenOnly(me.listen_only === true || !hasWorklets());
  }

  #take(record) {
    this.#checkAbsence();
    this.#absence.heard(Date.now());
    const { onLevels, onRoom, onStates, onTexts } = this.#handlers;
    if (record.levels && !record.old) onLevels(record.levels);
    if (['sound', 'opus', 'silence'].includes(record.kind)) this.#takeSound(record);
    else if (record.kind === 'room') onRoom(record);
    else if (record.kind === 'states') onStates(record.states);
    else if (record.kind === 'message') onTexts([record]);
    else if (record.kind === 'messages') onTexts(record.texts);
    else if (record.kind === 'microphone') this.#uplink.seen(record.used);
    else if (record.kind === 'removed') this.#handlers.onRemoved();
    else if (record.kind === 'hello') this.#greeted(record.me);
  }

  #takeSound(record) {
    if (record.kind !== 'silence' && !record.old) this.#choice.heard(record);
    this.#decoder.take(record);
  }

  #watched(silent, talkingMuted) {
    if (silent !== this.state.silent || talkingMuted !== this.state.talkingMuted) this.#change({ silent, talkingMuted });
  }

  /** Releases the microphone if the participant may only listen now. If they may speak again, they open it themselves. */
  #setListenOnly(listenOnly) {
    if (listenOnly && !this.#listenOnly) {
      this.#microphone.stop();
      this.#uplink.stop();
    }
    this.#listenOnly = listenOnly;
  }

  #microphoneChanged(microphone) {
    if (microphone === 'on') {
      // Only the user takes the microphone back: two pages that both reopen their microphones would take it from each other again and again.
      if (!this.#isElsewhere) this.#uplink.start();
      this.renewOutput();
    }
    this.#change({ microphone });
  }

  #connectionChanged(connection) {
    const cameBack = connection === 'live' && this.state.connection === 'lost';
    this.#change({ connection });
    if (connection === 'lost') this.#handlers.onFault('stream: lost');
    if (connection === 'live') this.#handlers.onLive?.();
    if (cameBack) this.#uplink.reconsider();
  }

  #change(part) {
    Object.assign(this.state, part);
    if (this.#left) return;
    if (this.state.connection === 'live') this.#presence.show(this.#shown);
    this.#handlers.onChange();
  }
}
