/**
 * The one AudioContext of the page, at the device's own rate, shared by player and microphone.
 *
 * It is made in the click that joins and made again when the device changes or the context dies. Nothing ever waits
 * for `resume()`, which may stay unanswered for ever (no sound card, no gesture); the state is reported instead.
 */

import { Output } from './output.js';

const SETTLE_MS = 500;
const STALL_MS = 4000;

/**
 * @typedef {{onContext: (context: AudioContext, output: AudioNode) => void, onState: (running: boolean) => void,
 *   onFault: (what: string) => void}} AudioHandlers
 *   onContext: a new context is ready with its worklets loaded; what is to be heard is connected to `output`
 */

/** Keeps a living AudioContext from `start` to `stop`. */
export class AudioHouse {
  #handlers;
  #context = null;
  #devices = '';
  #settle = 0;
  #watch = 0;
  #seen = { cardS: -1 };
  #failures = 0;
  #output = null;
  #outputId = '';

  /** @param {AudioHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
  }

  /** @returns {AudioContext | null} */
  get context() {
    return this.#context;
  }

  /**
   * Only in a click: a context made elsewhere may stay mute.
   * @param {'playback' | 'play-and-record'} use
   */
  start(use) {
    // iOS otherwise plays a call through the ringer's path, or stops when the ringer is off.
    if (navigator.audioSession) navigator.audioSession.type = use;
    navigator.mediaDevices?.addEventListener('devicechange', this.#devicesChanged);
    document.addEventListener('visibilitychange', this.#mayRunAgain);
    this.#watch = setInterval(() => this.#lookForStall(), STALL_MS);
    this.#signature().then((devices) => { this.#devices = devices; });
    this.#build();
  }

  /** Gives the device back. */
  stop() {
    navigator.mediaDevices?.removeEventListener('devicechange', this.#devicesChanged);
    document.removeEventListener('visibilitychange', this.#mayRunAgain);
    if (navigator.audioSession) navigator.audioSession.type = 'auto';
    clearInterval(this.#watch);
    clearTimeout(this.#settle);
    this.#drop();
  }

  /** The person tapped: whatever kept the context silent may let it go now. */
  wake() {
    if (!this.#context || this.#context.state === 'closed') this.#build();
    else this.#context.resume().catch(() => {});
    this.#output?.wake();
  }

  /** @param {string} deviceId where the sound goes, empty for the browser's own choice; nothing where that can't be chosen */
  setOutput(deviceId) {
    this.#outputId = deviceId;
    // Until the microphone is given some browsers name no device, and none could be missed.
    this.#signature().then((devices) => { this.#devices ||= devices; });
    if (this.#output && !this.#output.choose(deviceId)) this.#build();
  }

  async #build() {
    this.#drop();
    const context = new AudioContext({ latencyHint: 'interactive' });
    this.#context = context;
    this.#seen = { cardS: -1 };
    context.onstatechange = () => this.#stateChanged(context);
    context.onerror = () => this.#failed('sound: the device failed');
    context.resume().catch(() => {});
    const output = new Output(context, this.#outputId, () => this.#stateChanged(context));
    this.#output = output;
    const loaded = await loadWorklets(context);
    if (context !== this.#context) return;
    // The listener may just be restarting.
    this.#failures = loaded ? 0 : this.#failures + 1;
    if (!loaded) {
      this.#failed('sound: the worklets could not be loaded');
      return;
    }
    this.#handlers.onContext(context, output.node);
    setTimeout(() => this.#stateChanged(context), SETTLE_MS);
  }

  #drop() {
    const context = this.#context;
    this.#context = null;
    this.#output?.close();
    this.#output = null;
    if (context && context.state !== 'closed') context.close().catch(() => {});
  }

  #stateChanged(context) {
    if (context !== this.#context) return;
    if (context.state === 'closed') this.#failed('sound: the browser has closed it');
    // A telephone call on iOS interrupts it and leaves it suspended; nobody else starts it again.
    if (context.state === 'suspended') context.resume().catch(() => {});
    this.#handlers.onState(this.#isHeard);
  }

  #mayRunAgain = () => {
    if (document.visibilityState === 'visible' && this.#context && !this.#isHeard) this.wake();
  };

  /** Only while there is a context, and so an output. */
  get #isHeard() {
    return this.#context.state === 'running' && this.#output.plays;
  }

  #failed(what) {
    this.#handlers.onFault(what);
    this.#rebuildSoon();
  }

  #rebuildSoon() {
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => this.#build(), SETTLE_MS * 2 ** Math.min(this.#failures, 4));
  }

  #devicesChanged = async () => {
    const devices = await this.#signature();
    // Browsers also fire this when the permission is given and the labels appear; only real changes count.
    if (this.#devices && devices !== this.#devices) this.#rebuildSoon();
    this.#devices = devices;
  };

  async #signature() {
    const devices = await navigator.mediaDevices?.enumerateDevices().catch(() => []) ?? [];
    const known = devices.filter((d) => d.deviceId !== '');
    return known.map((d) => `${d.kind} ${d.deviceId} ${d.groupId}`).sort().join('\n');
  }

  /** A context that says it runs while its clock stands has lost its device. */
  #lookForStall() {
    const context = this.#context;
    if (!context || context.state !== 'running') return;
    if (context.currentTime === this.#seen.cardS) this.#failed('sound: the device stands still');
    this.#seen = { cardS: context.currentTime };
  }
}

/** Whether they are there: a module that can't be fetched now may be fetched later. */
async function loadWorklets(context) {
  const load = (name) => context.audioWorklet.addModule(new URL(`${name}-worklet.js`, import.meta.url));
  return Promise.all(['player', 'microphone'].map(load)).then(() => true, () => false);
}
