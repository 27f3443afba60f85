/**
 * The player's half on the page: hands chunks to the worklet and sets the volume. The sound itself is made in
 * player-core.js, on the audio thread; no timer is in its path.
 */

const VOLUME_RAMP_S = 0.02;

/** Plays one stream through whatever context there is. */
export class Player {
  #context = null;
  #node = null;
  #gain = null;
  #format = null;
  #volume = 1;
  #stale = false;
  #report = {};
  #onFault;

  /** @param {(what: string) => void} onFault */
  constructor(onFault) {
    this.#onFault = onFault;
  }

  /**
   * @param {AudioContext} context with the worklet loaded; may come again with a new one
   * @param {AudioNode} output where its sound goes
   */
  attach(context, output) {
    this.#leave();
    this.#context = context;
    this.#gain = new GainNode(context, { gain: this.#volume });
    this.#gain.connect(output);
    if (this.#format) this.#build();
  }

  /**
   * @param {number} rateHz of the room
   * @param {number} chunkMs of the stream
   */
  setFormat(rateHz, chunkMs) {
    const same = this.#format && this.#format.streamRateHz === rateHz && this.#format.chunkMs === chunkMs;
    this.#format = { streamRateHz: rateHz, chunkMs };
    if (!same && this.#context) this.#build();
  }

  /** @param {{samples: Int16Array<ArrayBuffer>, gap: boolean, lost: boolean, rateHz: number}} chunk */
  sound({ samples, gap, lost, rateHz }) {
    if (this.#format?.streamRateHz !== rateHz) this.setFormat(rateHz, this.#format?.chunkMs ?? 40);
    if (!this.#listening()) return;
    this.#node.port.postMessage({ samples, gap, lost }, [samples.buffer]);
  }

  /** The room fell silent. */
  silence() {
    if (this.#listening()) this.#node.port.postMessage({ silence: true });
  }

  /** @param {number} volume 0 to 1 */
  setVolume(volume) {
    this.#volume = volume;
    this.#gain?.gain.setTargetAtTime(volume, this.#context.currentTime, VOLUME_RAMP_S);
  }

  /** @returns {object} the worklet's last report, with the device's own share of the delay */
  get report() {
    const context = this.#context;
    const outputMs = context ? 1000 * (outputLatencyS(context) + (context.baseLatency || 0)) : 0;
    return { ...this.#report, outputMs, contextRate: context?.sampleRate ?? 0, streamRate: this.#format?.streamRateHz ?? 0 };
  }

  /** Nothing is queued for a sound card that stands still: it would all come at once when it moves again. */
  #listening() {
    if (!this.#node || this.#context.state !== 'running') {
      this.#stale = true;
      return false;
    }
    if (this.#stale) this.#node.port.postMessage({ reset: true });
    this.#stale = false;
    return true;
  }

  #build() {
    this.#leave();
    this.#node = new AudioWorkletNode(this.#context, 'palabre-player', {
      numberOfInputs: 0,
      outputChannelCount: [1],
      processorOptions: { ...this.#format, sweeps: isFirefox() },
    });
    this.#node.port.onmessage = ({ data }) => { this.#report = data; };
    this.#node.onprocessorerror = () => this.#onFault('player: its worklet failed');
    this.#node.connect(this.#gain);
  }

  /** A worklet that isn't told runs on for nobody, until its context closes. */
  #leave() {
    if (!this.#node) return;
    this.#node.disconnect();
    this.#node.port.onmessage = null;
    this.#node.port.postMessage({ end: true });
    this.#node = null;
  }
}

/**
 * Firefox (ESR 153) asks the sound server while it holds a lock that its audio thread may be waiting for, and the sound
 * server may be waiting for that thread: now and then the tab then stands still for ever. So Firefox isn't asked.
 */
function outputLatencyS(context) {
  return isFirefox() ? 0 : context.outputLatency || 0;
}

function isFirefox() {
  return navigator.userAgent.includes('Firefox/');
}
