/**
 * Folder audio/: the AudioContext, the output device, and the lists of devices. May import base/.
 *
 * This file owns the page's one AudioContext, at the device's own rate, shared by player and microphone. It creates the context in the
 * click that joins, and creates a new one when the device changes or the context fails. It never waits for `resume()`, which may
 * stay pending for ever without a sound card or a user gesture; it reports the state instead.
 */

import { Output } from './output.js';

/** Delay before a new context is created, so that several events of one device change cause only one. Doubles after failed loads. */
const SETTLE_MS = 500;
const MAX_DOUBLINGS = 4;
/** Interval between checks that the AudioContext's clock advances. */
const STALL_MS = 4000;

/**
 * @typedef {{onContext: (context: AudioContext, output: AudioNode) => void, onState: (audible: boolean) => void,
 *   onFault: (what: string) => void}} AudioHandlers
 *   onContext: a new context is ready and its worklets are loaded; connect nodes that play sound to `output`
 */

/** @returns {boolean} whether the browser has AudioWorklet; without it the page can only listen */
export function hasWorklets() {
  return 'AudioWorkletNode' in window;
}

/** Keeps a working AudioContext from `start` to `stop`. */
export class ContextOwner {
  #worklets;
  #handlers;
  #running = false;
  #context = null;
  #devices = '';
  #settle = 0;
  #watch = 0;
  #lastClockS = -1;
  #failures = 0;
  #output = null;
  #outputId = '';

  /**
   * @param {URL[]} worklets modules to load into each context
   * @param {AudioHandlers} handlers
   */
  constructor(worklets, handlers) {
    this.#worklets = worklets;
    this.#handlers = handlers;
  }

  /**
   * Call only in a click: browsers may keep a context that was created elsewhere silent.
   * @param {'playback' | 'play-and-record'} use
   */
  start(use) {
    this.#running = true;
    // Without a session type, iOS plays the sound as a phone call, or mutes the sound when the ringer switch is off.
    if (navigator.audioSession) navigator.audioSession.type = use;
    navigator.mediaDevices?.addEventListener('devicechange', this.#devicesChanged);
    document.addEventListener('visibilitychange', this.#becameVisible);
    this.#watch = setInterval(() => this.#checkClock(), STALL_MS);
    this.#listDevices().then((devices) => { this.#devices = devices; });
    this.#build();
  }

  /** Closes the context and releases the sound device. Pending timers and loads create no new context afterwards. */
  stop() {
    this.#running = false;
    navigator.mediaDevices?.removeEventListener('devicechange', this.#devicesChanged);
    document.removeEventListener('visibilitychange', this.#becameVisible);
    if (navigator.audioSession) navigator.audioSession.type = 'auto';
    clearInterval(this.#watch);
    clearTimeout(this.#settle);
    this.#close();
  }

  /** Resumes a context that the browser suspended. Call in a click handler. */
  wake() {
    if (!this.#running) return;
    if (!this.#context || this.#context.state === 'closed') this.#build();
    else this.#context.resume().catch(() => {});
    this.#output?.wake();
  }

  /** @param {string} deviceId of the loudspeaker, empty for the system default; ignored where the browser offers no choice */
  setOutput(deviceId) {
    this.#outputId = deviceId;
    // Some browsers list devices only after the microphone permission was granted.
    this.#listDevices().then((devices) => { this.#devices ||= devices; });
    if (this.#output && !this.#output.choose(deviceId)) this.#build();
  }

  async #build() {
    this.#close();
    const context = new AudioContext({ latencyHint: 'interactive' });
    this.#context = context;
    this.#lastClockS = -1;
    context.onstatechange = () => this.#stateChanged(context);
    context.onerror = () => { if (context === this.#context) this.#failed('sound: the device failed'); };
    context.resume().catch(() => {});
    const output = new Output(context, this.#outputId, () => this.#stateChanged(context));
    this.#output = output;
    const loaded = await loadWorklets(context, this.#worklets);
    if (context !== this.#context) return;
    this.#failures = loaded ? 0 : this.#failures + 1;
    if (!loaded) {
      this.#failed('sound: unable to load the worklets');
      return;
    }
    this.#handlers.onContext(context, output.node);
    setTimeout(() => this.#stateChanged(context), SETTLE_MS);
  }

  #close() {
    const context = this.#context;
    this.#context = null;
    this.#output?.close();
    this.#output = null;
    if (context && context.state !== 'closed') context.close().catch(() => {});
  }

  #stateChanged(context) {
    if (context !== this.#context) return;
    if (context.state === 'closed') this.#failed('sound: closed by the browser');
    // After a phone call, iOS leaves the context suspended.
    if (context.state === 'suspended') context.resume().catch(() => {});
    this.#handlers.onState(this.#audible);
  }

  #becameVisible = () => {
    if (document.visibilityState === 'visible' && this.#context && !this.#audible) this.wake();
  };

  /** Returns whether the context runs and its output plays. Call only while there is a context. */
  get #audible() {
    return this.#context.state === 'running' && this.#output.plays;
  }

  #failed(what) {
    this.#handlers.onFault(what);
    this.#rebuildSoon();
  }

  #rebuildSoon() {
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => this.#build(), SETTLE_MS * 2 ** Math.min(this.#failures, MAX_DOUBLINGS));
  }

  #devicesChanged = async () => {
    const devices = await this.#listDevices();
    if (!this.#running) return;
    // Browsers also fire `devicechange` when the permission is granted and the labels appear.
    if (this.#devices && devices !== this.#devices) this.#rebuildSoon();
    this.#devices = devices;
  };

  /** Returns one string that changes when a device comes or goes. */
  async #listDevices() {
    const devices = await navigator.mediaDevices?.enumerateDevices().catch(() => []) ?? [];
    const known = devices.filter((d) => d.deviceId !== '');
    return known.map((d) => `${d.kind} ${d.deviceId} ${d.groupId}`).sort().join('\n');
  }

  /** Creates a new context if the clock of the present one stands still although its state is `running`: it has lost its device. */
  #checkClock() {
    const context = this.#context;
    if (!context || context.state !== 'running') return;
    if (context.currentTime === this.#lastClockS) this.#failed('sound: the device stands still');
    this.#lastClockS = context.currentTime;
  }
}

/** Returns whether all modules loaded. A failed load may succeed later: the listener may be restarting. */
async function loadWorklets(context, urls) {
  return Promise.all(urls.map((url) => context.audioWorklet.addModule(url))).then(() => true, () => false);
}
