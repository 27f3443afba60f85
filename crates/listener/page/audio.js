/**
 * The one AudioContext of the page, at the device's own rate, shared by player and microphone.
 *
 * It is made in the click that joins and made again when the device changes or the context dies. Nothing ever waits
 * for `resume()`, which may stay unanswered for ever (no sound card, no gesture); the state is reported instead.
 */

const SETTLE_MS = 500;
const STALL_MS = 4000;

/**
 * @typedef {{onContext: (context: AudioContext) => void, onState: (running: boolean) => void}} AudioHandlers
 *   onContext: a new context is ready with its worklets loaded
 */

/** Keeps a living AudioContext from `start` to `stop`. */
export class AudioHouse {
  #handlers;
  #context = null;
  #devices = '';
  #settle = 0;
  #watch = 0;
  #seen = { cardS: -1 };

  /** @param {AudioHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
  }

  /** @returns {AudioContext | null} */
  get context() {
    return this.#context;
  }

  /** Only in a click: a context made elsewhere may stay mute. */
  start() {
    // iOS otherwise plays a call through the ringer's path, or stops when the ringer is off.
    if (navigator.audioSession) navigator.audioSession.type = 'play-and-record';
    navigator.mediaDevices?.addEventListener('devicechange', this.#devicesChanged);
    this.#watch = setInterval(() => this.#lookForStall(), STALL_MS);
    this.#signature().then((devices) => { this.#devices = devices; });
    this.#build();
  }

  /** Gives the device back. */
  stop() {
    navigator.mediaDevices?.removeEventListener('devicechange', this.#devicesChanged);
    clearInterval(this.#watch);
    clearTimeout(this.#settle);
    this.#drop();
  }

  /** The person tapped: whatever kept the context silent may let it go now. */
  wake() {
    if (!this.#context || this.#context.state === 'closed') this.#build();
    else this.#context.resume().catch(() => {});
  }

  async #build() {
    this.#drop();
    const context = new AudioContext({ latencyHint: 'interactive' });
    this.#context = context;
    this.#seen = { cardS: -1 };
    context.onstatechange = () => this.#stateChanged(context);
    context.onerror = () => this.#rebuildSoon();
    context.resume().catch(() => {});
    await Promise.all(['player', 'microphone'].map((name) => (
      context.audioWorklet.addModule(new URL(`${name}-worklet.js`, import.meta.url)))));
    if (context !== this.#context) return;
    this.#handlers.onContext(context);
    setTimeout(() => this.#stateChanged(context), SETTLE_MS);
  }

  #drop() {
    const context = this.#context;
    this.#context = null;
    if (context && context.state !== 'closed') context.close().catch(() => {});
  }

  #stateChanged(context) {
    if (context !== this.#context) return;
    if (context.state === 'closed') this.#rebuildSoon();
    this.#handlers.onState(context.state === 'running');
  }

  #rebuildSoon() {
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => this.#build(), SETTLE_MS);
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
    if (context.currentTime === this.#seen.cardS) this.#rebuildSoon();
    this.#seen = { cardS: context.currentTime };
  }
}
