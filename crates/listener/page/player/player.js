/**
 * Folder player/: plays the stream's chunks without clicks or gaps. May import base/ and audio/. The worklet and what it imports run on
 * the audio thread.
 *
 * This file is the page's side: it sends chunks to the worklet and sets the volume. No timer is in the sound's path.
 */

/** The module that every AudioContext must load before `attach`. */
export const playerWorklet = new URL('player-worklet.js', import.meta.url);

/** Time constant of a volume change. */
const VOLUME_RAMP_S = 0.02;

/** Plays one stream through the current AudioContext. */
export class Player {
  #context = null;
  #node = null;
  #gain = null;
  #format = null;
  #volume = 1;
  #stale = false;
  #chunkMs = 0;
  #report = {};
  #onFault;

  /** @param {(what: string) => void} onFault */
  constructor(onFault) {
    this.#onFault = onFault;
  }

  /**
   * @param {AudioContext} context with the worklet loaded; replaces the previous one
   * @param {AudioNode} output
   */
  attach(context, output) {
    this.#endNode();
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

  /** @param {number} chunkMs length of the chunks from now on; the sound goes on */
  setChunkMs(chunkMs) {
    if (chunkMs === this.#chunkMs) return;
    this.#chunkMs = chunkMs;
    this.#node?.port.postMessage({ chunkMs });
  }

  /** @param {{samples: Int16Array<ArrayBuffer>, gap: boolean, lost: boolean, rateHz: number}} chunk */
  sound({ samples, gap, lost, rateHz }) {
    if (this.#format?.streamRateHz !== rateHz) this.setFormat(rateHz, this.#format?.chunkMs ?? 40);
    if (!this.#ready()) return;
    this.#node.port.postMessage({ samples, gap, lost }, [samples.buffer]);
  }

  /** Tells the worklet that the room fell silent. */
  silence() {
    if (this.#ready()) this.#node.port.postMessage({ silence: true });
  }

  /** @param {number} volume 0 to 1 */
  setVolume(volume) {
    this.#volume = volume;
    this.#gain?.gain.setTargetAtTime(volume, this.#context.currentTime, VOLUME_RAMP_S);
  }

  /** @returns {object} the worklet's last report, and the device's part of the delay */
  get report() {
    const context = this.#context;
    const outputMs = context ? 1000 * (outputLatencyS(context) + (context.baseLatency || 0)) : 0;
    return { ...this.#report, outputMs, contextRate: context?.sampleRate ?? 0, streamRate: this.#format?.streamRateHz ?? 0 };
  }

  /** Returns false while the sound card stands still. Chunks are dropped then: queued, they would be played late when the card runs again. */
  #ready() {
    if (!this.#node || this.#context.state !== 'running') {
      this.#stale = true;
      return false;
    }
    if (this.#stale) this.#node.port.postMessage({ reset: true });
    this.#stale = false;
    return true;
  }

  #build() {
    this.#endNode();
    this.#node = new AudioWorkletNode(this.#context, 'palabre-player', {
      numberOfInputs: 0,
      outputChannelCount: [1],
      processorOptions: { ...this.#format, sweeps: isFirefox() },
    });
    if (this.#chunkMs > 0) this.#node.port.postMessage({ chunkMs: this.#chunkMs });
    this.#node.port.onmessage = ({ data }) => { this.#report = data; };
    this.#node.onprocessorerror = () => this.#onFault('player: the worklet failed');
    this.#node.connect(this.#gain);
  }

  /** Tells the worklet to end. Without this message, the worklet runs until its context closes. */
  #endNode() {
    if (!this.#node) return;
    this.#node.disconnect();
    this.#node.port.onmessage = null;
    this.#node.port.postMessage({ end: true });
    this.#node = null;
  }
}

/**
 * Returns 0 in Firefox. There (ESR 153), reading `outputLatency` waits for the sound server while it holds a lock that the audio thread
 * needs, and now and then the tab hangs for ever.
 */
function outputLatencyS(context) {
  return isFirefox() ? 0 : context.outputLatency || 0;
}

function isFirefox() {
  return navigator.userAgent.includes('Firefox/');
}
