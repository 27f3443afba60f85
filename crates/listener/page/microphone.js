/**
 * The microphone's half on the page: asks for it, says in one word why there is none, and hands on its chunks with the
 * wall-clock time of their capture. Whether a chunk reaches the room is uplink.js's business.
 *
 * It is never opened by itself: `setMuted(false)` comes from a click only.
 */

import { ClockMap } from './clock-map.js';
import { openMicrophone, processing } from './devices.js';
import { VoiceGate } from './voice-gate.js';

const CLOSED_MS = 100;
const PROBLEMS = { NotAllowedError: 'refused', SecurityError: 'refused', NotReadableError: 'busy', AbortError: 'busy' };

/**
 * @typedef {'off' | 'asking' | 'on' | 'refused' | 'missing' | 'busy'} MicrophoneState
 * @typedef {{onChunk: (chunk: {samples: Int16Array, wallMs: number}) => void,
 *   onPeak: (peak: number) => void, onState: (state: MicrophoneState) => void, onFault: (what: string) => void}} MicrophoneHandlers
 */

/** One person's microphone. */
export class Microphone {
  #handlers;
  #context = null;
  #format = null;
  #autoGainControl = true;
  #media = null;
  #nodes = [];
  #clock = new ClockMap();
  #gate = new VoiceGate(24000);
  #muted = true;
  #wanted = false;
  /** @type {MicrophoneState} */
  state = 'off';

  /** @param {MicrophoneHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
  }

  /** Asks for the microphone; what came of it is told by `onState`. */
  async ask() {
    this.#wanted = true;
    this.#become('asking');
    try {
      const media = await openMicrophone(!this.#autoGainControl);
      if (this.#wanted) this.#got(media);
      else media.getTracks().forEach((track) => track.stop());
    } catch (error) {
      this.#handlers.onFault(`microphone: ${error.name}`);
      this.#become(PROBLEMS[error.name] ?? 'missing');
    }
  }

  /** Lets go of the microphone. */
  stop() {
    this.#wanted = false;
    this.#unwire();
    this.#media?.getTracks().forEach((track) => track.stop());
    this.#media = null;
    this.#become('off');
  }

  /**
   * @param {AudioContext} context with the worklet loaded; may come again with a new one
   */
  attach(context) {
    const rebuilt = this.#context !== null && this.state !== 'asking';
    this.#context = context;
    // The device that went may be the very one we hold, and a new default is what the person plugged in.
    if (rebuilt && this.#wanted) this.#again();
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

  /** @param {boolean} levelling whether the room brings voices to one loudness: two who do the same would fight */
  setLevelling(levelling) {
    if (this.#autoGainControl === !levelling) return;
    this.#autoGainControl = !levelling;
    // A browser that can't change it now does what the room does twice, until it is asked again.
    const [track] = this.#media?.getAudioTracks() ?? [];
    track?.applyConstraints(processing(levelling)).catch(() => {});
  }

  /** @param {boolean} muted */
  setMuted(muted) {
    this.#muted = muted;
    this.#applyMute();
  }

  /** @param {'open' | 'voice' | 'talk'} mode when what the microphone hears is said */
  setMode(mode) {
    this.#gate.mode = mode;
    this.#gate.reset();
  }

  /** @param {boolean} held whether the person holds the key to talk */
  hold(held) {
    this.#gate.held = held;
  }

  /** @returns {boolean} whether what the microphone hears now is said, as far as the mode goes */
  get gateIsOpen() {
    return this.#gate.isOpen;
  }

  /** Another device or another processing was chosen. */
  renew() {
    if (this.#wanted && this.state !== 'asking') this.#again();
  }

  #got(media) {
    this.#media = media;
    const [track] = media.getAudioTracks();
    track.onended = () => {
      if (this.#media !== media) return;
      this.#handlers.onFault('microphone: it was taken away');
      this.#again();
    };
    this.#become('on');
    this.#wire();
  }

  #again() {
    this.#unwire();
    this.#media?.getTracks().forEach((track) => track.stop());
    this.#media = null;
    this.ask();
  }

  #wire() {
    this.#unwire();
    if (!this.#context || !this.#format || !this.#media) return;
    const source = new MediaStreamAudioSourceNode(this.#context, { mediaStream: this.#media });
    const node = new AudioWorkletNode(this.#context, 'palabre-microphone', {
      channelCount: 1,
      channelCountMode: 'explicit',
      outputChannelCount: [1],
      processorOptions: this.#format,
    });
    node.port.onmessage = ({ data }) => this.#chunk(data);
    node.onprocessorerror = () => this.#handlers.onFault('microphone: its worklet failed');
    // Its output is silence; some browsers run only what leads to the destination.
    source.connect(node).connect(this.#context.destination);
    this.#nodes = [source, node];
    this.#clock = new ClockMap();
    this.#applyMute();
  }

  #unwire() {
    for (const node of this.#nodes) node.disconnect();
    const [, node] = this.#nodes;
    if (node) {
      node.port.onmessage = null;
      // A worklet that isn't told runs on for nobody, until its context closes.
      node.port.postMessage({ end: true });
    }
    this.#nodes = [];
  }

  /** The worklet's gate closes without a click; the track is disabled as well, so that a mute is one in the browser too. */
  #applyMute() {
    this.#gate.reset();
    this.#nodes[1]?.port.postMessage({ open: !this.#muted });
    if (!this.#muted) this.#enable(true);
    else setTimeout(() => this.#enable(!this.#muted), CLOSED_MS);
  }

  #enable(enabled) {
    this.#media?.getAudioTracks().forEach((track) => { track.enabled = enabled; });
  }

  #chunk({ samples, firstMs, nowMs, peak }) {
    this.#clock.observe(nowMs, performance.timeOrigin + performance.now());
    // The last chunk on its way when the gate closed is no sign of life.
    this.#handlers.onPeak(this.#muted ? 0 : peak);
    for (const chunk of this.#gate.push({ samples, wallMs: this.#clock.wallMs(firstMs) })) this.#handlers.onChunk(chunk);
  }

  #become(state) {
    if (state === this.state) return;
    this.state = state;
    this.#handlers.onState(state);
  }
}
