/**
 * Where the sound goes: the browser's own choice, or the loudspeaker that the person has chosen.
 *
 * A context of Chromium can be told. Elsewhere (Firefox, Safari) only an element can: there the sound goes through an
 * `<audio>` element, which costs another buffer, and so only to a loudspeaker that was chosen. A device that is gone is no
 * fault: the sound then goes where the browser wants it.
 */

/** @returns {boolean} whether this browser lets one choose where the sound goes */
export function outputsCanBeChosen() {
  return contextsCan() || elementsCan();
}

/** Where one context's sound goes. */
export class Output {
  #context;
  #element = null;
  #deviceId;
  #onChange;

  /**
   * In a click, as the context itself.
   * @param {AudioContext} context
   * @param {string} deviceId empty for the browser's own choice
   * @param {() => void} [onChange] `plays` may have changed
   */
  constructor(context, deviceId, onChange = () => {}) {
    this.#context = context;
    this.#onChange = onChange;
    this.#deviceId = deviceId;
    this.node = context.destination;
    if (!deviceId) return;
    if (contextsCan()) this.choose(deviceId);
    else if (elementsCan()) this.#lead();
  }

  /**
   * @param {string} deviceId empty for the browser's own choice
   * @returns {boolean} false if the sound must be connected to an output of its own for that
   */
  choose(deviceId) {
    if (contextsCan()) {
      if (deviceId || this.#context.sinkId) this.#context.setSinkId(deviceId).catch(() => {});
      return true;
    }
    // Firefox knows a loudspeaker only once the microphone was given: so the same is asked for again.
    if (deviceId === this.#deviceId) this.#element?.setSinkId(deviceId).catch(() => {});
    return deviceId === this.#deviceId || !elementsCan();
  }

  /** @returns {boolean} whether what is connected to it is heard, as far as that is the element's business */
  get plays() {
    return !this.#element?.paused;
  }

  /** The person tapped, or the context runs again: an element that was stopped or refused may play now. */
  wake() {
    if (!this.plays) this.#element.play().catch(() => {});
  }

  /** Gives the element back; the context is its owner's. */
  close() {
    this.#element?.pause();
    if (this.#element) this.#element.srcObject = null;
    this.#element = null;
  }

  #lead() {
    this.node = new MediaStreamAudioDestinationNode(this.#context, { channelCount: 1 });
    this.#element = new Audio();
    this.#element.srcObject = this.node.stream;
    this.#element.setSinkId(this.#deviceId).catch(() => {});
    for (const event of ['pause', 'playing']) this.#element.addEventListener(event, () => this.#onChange());
    // A refusal shows in `plays`: that is looked at, and the person is asked for a tap.
    this.#element.play().catch(() => this.#onChange());
  }
}

function elementsCan() {
  return typeof AudioContext !== 'undefined' && 'setSinkId' in HTMLMediaElement.prototype;
}

function contextsCan() {
  return typeof AudioContext !== 'undefined' && 'setSinkId' in AudioContext.prototype;
}
