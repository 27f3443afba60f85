/**
 * One stay in the room, from the click that joins to the one that leaves: stream, player, microphone and uplink wired
 * together. What it knows is in `state`; whoever shows it is told by `onChange`.
 *
 * It keeps one promise above all: a muted microphone is opened by the person and by nothing else.
 */

import { AudioHouse } from './audio.js';
import { letSleep, stayAwake } from './awake.js';
import { Showing } from './desk.js';
import { chosen } from './devices.js';
import { FallbackPlayer } from './fallback-player.js';
import { Microphone } from './microphone.js';
import { Player } from './player.js';
import { Stream } from './stream.js';
import { Uplink } from './uplink.js';

/**
 * @typedef {{onChange: () => void, onPeak: (peak: number) => void, onMe: (me: object) => void,
 *   onRoom: (record: object) => void, onStates: (marks: object[]) => void, onLevels: (marks: object[]) => void,
 *   onMessage: (message: {from: string, text: string}) => void, onFault: (what: string) => void}} SessionHandlers
 *   onFault: something went wrong that is mended by itself or told otherwise, for whoever is asked for help
 */

/** What the stream's sound is made of: samples of 16 bits, as they are. */
const CODEC = 'PCM 16';

/** @returns {boolean} whether the sound can be made as it should; else one can listen only, and a second later */
export function hasWorklets() {
  return 'AudioWorkletNode' in window;
}

/** A stay in the room. */
export class Session {
  #handlers;
  #player;
  #audio;
  #microphone;
  #uplink;
  #stream;
  #showing = new Showing();
  #listenOnly;
  state = { connection: 'connecting', audible: true, microphone: 'off', uplink: 'off', muted: true, hand: false, mode: 'open', held: false };

  /**
   * @param {object} me as from GET me
   * @param {{muted: boolean, volume: number, postOnly: boolean, renewCost?: number}} options
   * @param {SessionHandlers} handlers
   */
  constructor(me, { muted, volume, postOnly, renewCost }, handlers) {
    this.#handlers = handlers;
    this.#listenOnly = me.listen_only === true;
    this.state.muted = muted;
    const onState = (audible) => this.#change({ audible });
    const { onFault } = handlers;
    if (hasWorklets()) {
      this.#player = new Player(onFault);
      this.#audio = new AudioHouse({ onContext: (context, output) => this.#gotContext(context, output), onState, onFault });
    } else {
      this.#listenOnly = true;
      this.#player = new FallbackPlayer(onState);
      this.#audio = this.#player;
    }
    this.#player.setVolume(volume);
    this.#microphone = new Microphone({
      onChunk: (chunk) => this.#uplink.send(chunk),
      onPeak: handlers.onPeak,
      onState: (microphone) => this.#microphoneChanged(microphone),
      onFault,
    });
    this.#uplink = new Uplink({
      onState: (uplink) => this.#change({ uplink }),
      onBroken: () => this.#stream.suspect(),
      reachable: () => this.state.connection === 'live',
      onFault,
    }, postOnly);
    this.#stream = new Stream({
      onRecord: (record) => this.#take(record),
      onMoved: () => this.#uplink.move(),
      onState: (connection) => this.#connectionChanged(connection),
    }, renewCost);
    this.#audio.setOutput?.(chosen('output'));
    this.#setFormat(me);
    this.#microphone.setMuted(muted);
  }

  /** Only in a click. Nothing here waits for anything. */
  join() {
    this.#audio.start(this.#listenOnly ? 'playback' : 'play-and-record');
    this.#stream.start();
    if (!this.#listenOnly) this.#microphone.ask();
    stayAwake();
  }

  /** Gives everything back. */
  leave() {
    this.#uplink.stop();
    this.#microphone.stop();
    this.#stream.stop();
    this.#showing.stop();
    this.#audio.stop();
    letSleep();
  }

  /** @param {boolean} muted what the person chose */
  setMuted(muted) {
    this.#microphone.setMuted(muted);
    this.#change({ muted });
  }

  /** @param {boolean} hand whether the others are to see a raised hand */
  setHand(hand) {
    this.#change({ hand });
  }

  /** @param {'open' | 'voice' | 'talk'} mode when the microphone speaks */
  setMode(mode) {
    this.#microphone.setMode(mode);
    this.#change({ mode, held: false });
  }

  /**
   * @param {boolean} held whether the person holds the key or the button to talk
   * @returns {boolean} whether that means anything now
   */
  hold(held) {
    if (held && (this.state.mode !== 'talk' || this.state.muted)) return false;
    this.#microphone.hold(held);
    this.#change({ held });
    return true;
  }

  /** Another microphone, or another processing, was chosen. */
  renewMicrophone() {
    this.#microphone.renew();
  }

  /** Another loudspeaker was chosen. */
  renewOutput() {
    this.#audio.setOutput?.(chosen('output'));
  }

  /** @param {number} volume 0 to 1 */
  setVolume(volume) {
    this.#player.setVolume(volume);
  }

  /** The person wants the sound that the browser holds back. */
  wake() {
    this.#audio.wake();
  }

  /** The person wants to be asked for the microphone again. */
  askAgain() {
    this.#microphone.ask();
  }

  /** The person wants the microphone back from another page. */
  takeBack() {
    this.#uplink.start();
  }

  /**
   * @returns {object} see `window.palabreState`. `delayMs` is how long sound takes from its arrival here to the sound
   *   card's output: `depthMs` waiting in the ring on average, `filterMs` in the resampler, `outputMs` in the device
   */
  get diagnostics() {
    const { depthMs = 0, lowMs = 0, marginMs = 0, jitterMs = 0, surplusMs = 0, filterMs = 0, speed = 1 } = this.#player.report;
    const { underruns = 0, cuts = 0, splices = 0, cutMs = 0, stretches = 0, stretchMs = 0 } = this.#player.report;
    const { played = 0, outputMs, contextRate, streamRate } = this.#player.report;
    const { chunks, lost, bad, opened, renewals, reconnects } = this.#stream.counts;
    return {
      ...this.state,
      delayMs: depthMs + filterMs + outputMs,
      codec: CODEC,
      depthMs, lowMs, marginMs, jitterMs, surplusMs, filterMs, outputMs, speed, contextRate, streamRate,
      underruns, cuts, splices, cutMs, stretches, stretchMs,
      bytes: this.#stream.counts.bytes,
      chunks, lost, bad, opened, renewals, reconnects,
      playerKind: hasWorklets() ? 'worklet' : 'audio', played,
      uplinkKind: this.#uplink.kind,
      sent: this.#uplink.counts.sent,
      dropped: this.#uplink.dropped,
      uplinkReconnects: this.#uplink.counts.reconnects,
    };
  }

  /** What the others see of this person. */
  get #shown() {
    const { hand, muted, microphone } = this.state;
    const without = ['off', 'refused', 'missing', 'busy'].includes(microphone);
    return { hand, microphone: without ? 'none' : muted ? 'muted' : 'open' };
  }

  #gotContext(context, output) {
    this.#player.attach(context, output);
    this.#microphone.attach(context);
  }

  #setFormat({ rate_hz: rateHz, chunk_ms: chunkMs, levelling }) {
    this.#player.setFormat(rateHz, chunkMs);
    this.#microphone.setFormat(rateHz, chunkMs);
    this.#microphone.setLevelling(levelling === true);
    this.#uplink.setRate(rateHz);
  }

  #take(record) {
    const { onLevels, onMe, onMessage, onRoom, onStates } = this.#handlers;
    if (record.levels) onLevels(record.levels);
    if (record.kind === 'sound') this.#player.sound(record);
    else if (record.kind === 'silence') this.#player.silence();
    else if (record.kind === 'room') onRoom(record);
    else if (record.kind === 'states') onStates(record.states);
    else if (record.kind === 'message') onMessage(record);
    else if (record.kind === 'hello') {
      this.#setFormat(record.me);
      onMe(record.me);
    }
  }

  #microphoneChanged(microphone) {
    if (microphone === 'on') {
      this.#uplink.start();
      this.renewOutput();
    }
    this.#change({ microphone });
  }

  #connectionChanged(connection) {
    const cameBack = connection === 'live' && this.state.connection === 'lost';
    this.#change({ connection });
    if (connection === 'lost') this.#handlers.onFault('stream: lost');
    if (connection === 'live') this.#showing.again();
    if (cameBack) this.#uplink.reconsider();
  }

  #change(part) {
    Object.assign(this.state, part);
    if (this.state.connection === 'live') this.#showing.show(this.#shown);
    this.#handlers.onChange();
  }
}
