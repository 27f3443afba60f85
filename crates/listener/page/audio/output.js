/**
 * Routes a context's sound to the system default or to the chosen loudspeaker.
 *
 * In Chromium the context itself can choose its device. Elsewhere (Firefox, Safari) only a media element can: the sound then goes
 * through an `<audio>` element. That costs another buffer, so it is used only if a loudspeaker was chosen. If the chosen device is
 * gone, the browser's default is used.
 */

/** @returns {boolean} whether this browser can choose a loudspeaker */
export function outputsCanBeChosen() {
  return contextCanChoose() || elementCanChoose();
}

/** The output of one context. */
export class Output {
  #context;
  #element = null;
  #deviceId;
  #onChange;

  /**
   * Call in a click handler, as for the constructor of AudioContext.
   * @param {AudioContext} context
   * @param {string} deviceId empty for the system default
   * @param {() => void} [onChange] `plays` may have changed
   */
  constructor(context, deviceId, onChange = () => {}) {
    this.#context = context;
    this.#onChange = onChange;
    this.#deviceId = deviceId;
    this.node = context.destination;
    if (!deviceId) return;
    if (contextCanChoose()) this.choose(deviceId);
    else if (elementCanChoose()) this.#useElement();
  }

  /**
   * @param {string} deviceId empty for the system default
   * @returns {boolean} false if the sound needs a new `Output` for that device
   */
  choose(deviceId) {
    if (contextCanChoose()) {
      if (deviceId || this.#context.sinkId) this.#context.setSinkId(deviceId).catch(() => {});
      return true;
    }
    // Firefox knows loudspeakers only after the microphone permission was granted, so the first setSinkId may have failed.
    if (deviceId === this.#deviceId) this.#element?.setSinkId(deviceId).catch(() => {});
    return deviceId === this.#deviceId || !elementCanChoose();
  }

  /** @returns {boolean} false while the `<audio>` element, if there is one, is paused */
  get plays() {
    return !this.#element?.paused;
  }

  /** Starts the `<audio>` element again after the browser paused it or refused to play it. */
  wake() {
    if (!this.plays) this.#element.play().catch(() => {});
  }

  /** Releases the `<audio>` element. The caller closes the context. */
  close() {
    this.#element?.pause();
    if (this.#element) this.#element.srcObject = null;
    this.#element = null;
  }

  #useElement() {
    this.node = new MediaStreamAudioDestinationNode(this.#context, { channelCount: 1 });
    this.#element = new Audio();
    this.#element.srcObject = this.node.stream;
    this.#element.setSinkId(this.#deviceId).catch(() => {});
    for (const event of ['pause', 'playing']) this.#element.addEventListener(event, () => this.#onChange());
    // If the browser refuses to play, the element stays paused, and `plays` is false.
    this.#element.play().catch(() => this.#onChange());
  }
}

function elementCanChoose() {
  return typeof AudioContext !== 'undefined' && 'setSinkId' in HTMLMediaElement.prototype;
}

function contextCanChoose() {
  return typeof AudioContext !== 'undefined' && 'setSinkId' in AudioContext.prototype;
}
