/**
 * Folder microphone/: opens the microphone and cuts it into chunks with capture times; also the test of sound and microphone before
 * joining. May import base/ and audio/. microphone-worklet.js runs on the audio thread.
 *
 * This file opens the microphone, reports why there is none, and passes on its chunks with the wall-clock time of their capture.
 * It never unmutes by itself: only a click calls `setMuted(false)`.
 */

import { isOn, openMicrophone, processing } from '../audio/devices.js';
import { ClockMap } from './clock-map.js';
import { VoiceGate } from './voice-gate.js';
import { SilenceProbe } from './silence-probe.js';
import { MicrophoneWatch } from './watch.js';

/** The module that every AudioContext must load before `attach`. */
export const microphoneWorklet = new URL('microphone-worklet.js', import.meta.url);

/** Delay between the worklet's fade and disabling the track. */
const DISABLE_AFTER_MS = 100;
const PROBLEMS = { NotAllowedError: 'refused', SecurityError: 'refused', NotReadableError: 'busy', AbortError: 'busy' };

/** @param {string} errorName of a failed getUserMedia; @returns {'refused' | 'busy' | 'missing'} */
export function problemOf(errorName) {
  return PROBLEMS[errorName] ?? 'missing';
}

/**
 * @typedef {'off' | 'asking' | 'on' | 'refused' | 'missing' | 'busy'} MicrophoneState
 * @typedef {{onChunk: (chunk: {samples: Int16Array, wallMs: number}) => void,
 *   onPeak: (peak: number) => void, onState: (state: MicrophoneState) => void, onFault: (what: string) => void,
 *   onSystemMute: (muted: boolean) => void, onWatch: (watch: {silent: boolean, talking: boolean}) => void}} MicrophoneHandlers
 *   onSystemMute: the system or a switch of the device has muted or unmuted the open microphone;
 *   onWatch: see MicrophoneWatch and SilenceProbe
 */

/** The participant's microphone. */
export class Microphone {
  #handlers;
  #context = null;
  #format = null;
  #autoGainControl = true;
  #media = null;
  #nodes = [];
  #clock = new ClockMap();
  #gate = new VoiceGate(24000);
  #watch = new MicrophoneWatch();
  #probe = new SilenceProbe((media, onPeak) => this.#measure(media, onPeak));
  #muted = true;
  #wanted = false;
  /** @type {MicrophoneState} */
  state = 'off';

  /** @param {MicrophoneHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
  }

  /** Opens the microphone; `onState` reports the result. */
  async ask() {
    this.#wanted = true;
    this.#setState('asking');
    try {
      const media = await openMicrophone(!this.#autoGainControl);
      if (this.#wanted) this.#opened(media);
      else media.getTracks().forEach((track) => track.stop());
    } catch (error) {
      if (!this.#wanted) return;
      this.#handlers.onFault(`microphone: ${error.name}`);
      this.#setState(problemOf(error.name));
    }
  }

  /** Releases the microphone. The answer to a permission prompt that is still open is ignored. */
  stop() {
    this.#wanted = false;
    this.#unwire();
    this.#release();
    this.#setState('off');
  }

  /** @param {AudioContext} context with the worklet loaded; replaces the previous one */
  attach(context) {
    const rebuilt = this.#context !== null && this.state !== 'asking';
    this.#context = context;
    // The page makes a new context after devices have changed: the open microphone may be gone, or there may be a new default microphone.
    if (rebuilt && this.#wanted) this.#reopen();
    else this.#wire();
  }

  /**
   * @param {number} rateHz of the room
   * @param {number} chunkMs
   */
  setFormat(rateHz, chunkMs) {
    const same = this.#format && this.#format.rateHz === rateHz && this.#format.chunkMs === chunkMs;
    this.#format = { rateHz, chunkMs };
    if (same) return;
    this.#gate = Object.assign(new VoiceGate(rateHz), { mode: this.#gate.mode, held: this.#gate.held });
    this.#wire();
  }

  /** @param {boolean} levelling whether the mixer levels voices; the browser's own gain control is then turned off */
  setLevelling(levelling) {
    if (this.#autoGainControl === !levelling) return;
    this.#autoGainControl = !levelling;
    // Some browsers can't change the gain control of an open track; they change it when the microphone is opened again.
    const [track] = this.#media?.getAudioTracks() ?? [];
    track?.applyConstraints(processing(levelling)).catch(() => {});
  }

  /** @param {boolean} muted */
  setMuted(muted) {
    this.#muted = muted;
    if (muted) this.#gate.held = false;
    this.#applyMute();
  }

  /** @param {'open' | 'voice' | 'talk'} mode always on, voice activation or push to talk */
  setMode(mode) {
    this.#gate.mode = mode;
    this.#gate.reset();
  }

  /** @param {boolean} held whether the key or button of push to talk is held */
  hold(held) {
    this.#gate.held = held && !this.#muted;
    if (held && this.#muted) this.#watch.talked(performance.now());
  }

  /** Opens the microphone again, because another device or processing was chosen. */
  renew() {
    if (this.#wanted && this.state !== 'asking') this.#reopen();
  }

  #opened(media) {
    this.#media = media;
    const [track] = media.getAudioTracks();
    track.onended = () => {
      if (this.#media !== media) return;
      this.#handlers.onFault('microphone: the device ended the track');
      this.#reopen();
    };
    // The browser delivers silence, or nothing, until the system unmutes the track.
    track.onmute = () => this.#noteSystemMute(media);
    track.onunmute = track.onmute;
    this.#noteSystemMute(media);
    this.#setState('on');
    this.#watch.reset();
    this.#wire();
  }

  #noteSystemMute(media) {
    if (this.#media === media) this.#handlers.onSystemMute(this.#isMutedBySystem);
  }

  get #isMutedBySystem() {
    return this.#media?.getAudioTracks()[0].muted ?? false;
  }

  #reopen() {
    this.#unwire();
    this.#release();
    this.ask();
  }

  #release() {
    this.#media?.getTracks().forEach((track) => track.stop());
    this.#media = null;
  }

  #wire() {
    this.#unwire();
    if (!this.#context || !this.#format || !this.#media) return;
    this.#nodes = this.#connect(this.#media, (data) => this.#chunk(data));
    this.#clock = new ClockMap();
    this.#applyMute();
  }

  /** Connects a worklet to a microphone. @returns {AudioNode[]} source and worklet */
  #connect(mediaStream, onMessage) {
    const source = new MediaStreamAudioSourceNode(this.#context, { mediaStream });
    const node = new AudioWorkletNode(this.#context, 'palabre-microphone', {
      channelCount: 1,
      channelCountMode: 'explicit',
      outputChannelCount: [1],
      processorOptions: this.#format,
    });
    node.port.onmessage = ({ data }) => onMessage(data);
    node.onprocessorerror = () => this.#handlers.onFault('microphone: the worklet failed');
    // The node's output is silent. It is connected because some browsers run only nodes that lead to the destination.
    source.connect(node).connect(this.#context.destination);
    return [source, node];
  }

  /** Measures the level of a microphone whose sound is not sent. @returns {() => void} ends the measurement */
  #measure(media, onPeak) {
    const nodes = this.#connect(media, ({ inputPeak }) => onPeak(inputPeak));
    nodes[1].port.postMessage({ open: false, watched: true });
    return () => disconnect(nodes);
  }

  #unwire() {
    this.#probe.end();
    disconnect(this.#nodes);
    this.#nodes = [];
  }

  /**
   * Mutes or unmutes: the worklet fades without a click. After a fade-out the track is disabled, so that the browser shows the mute, unless
   * the user wants to be warned about talking while muted: a disabled track delivers no sound to detect that.
   */
  #applyMute() {
    this.#gate.reset();
    this.#watch.reset();
    this.#probe.end();
    this.#handlers.onWatch({ silent: false, talking: false });
    this.#nodes[1]?.port.postMessage({ open: !this.#muted, watched: true });
    if (!this.#muted) this.#enable(true);
    else setTimeout(() => this.#enable(!this.#muted || isOn('warn')), DISABLE_AFTER_MS);
  }

  /** Applies a change of the setting `warn`, if the user has muted the microphone: the warning about talking while muted needs an enabled track. */
  applyWarning() {
    if (this.#muted) this.#enable(isOn('warn'));
  }

  #enable(enabled) {
    this.#media?.getAudioTracks().forEach((track) => { track.enabled = enabled; });
  }

  #chunk({ samples, firstMs, nowMs, peak, inputPeak }) {
    if (inputPeak !== undefined) {
      this.#watchLevel(inputPeak);
      return;
    }
    this.#clock.observe(nowMs, performance.timeOrigin + performance.now());
    // The last chunk before a mute may arrive after the mute.
    this.#handlers.onPeak(this.#muted ? 0 : peak);
    for (const chunk of this.#gate.push({ samples, wallMs: this.#clock.wallMs(firstMs) })) this.#handlers.onChunk(chunk);
  }

  #watchLevel(peak) {
    // While the loudspeaker plays, echo cancellation adds noise to the zeros of a microphone that the system has muted.
    const heardPeak = this.#isMutedBySystem ? 0 : peak;
    const nowMs = performance.now();
    const { silent, faint, talking } = this.#watch.heard(heardPeak, this.#muted, this.#gate.mode === 'talk', nowMs);
    if (!faint) this.#probe.heard();
    else if (!silent) this.#probe.look(this.#media.getAudioTracks()[0], nowMs);
    this.#handlers.onWatch({ silent: silent || this.#probe.silent, talking });
  }

  #setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.#handlers.onState(state);
  }
}

function disconnect(nodes) {
  for (const node of nodes) node.disconnect();
  const [, node] = nodes;
  if (!node) return;
  node.port.onmessage = null;
  // Without the message `end`, the worklet runs until its context closes.
  node.port.postMessage({ end: true });
}
