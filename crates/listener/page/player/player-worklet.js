/**
 * The player's AudioWorklet: messages in, sound out. player-core.js makes all decisions.
 *
 * Messages in: {samples, gap, lost}, {silence}, {chunkMs}, {reset}, {end}. Out: the core's report, twice a second. A page that was opened before an
 * upgrade may load a newer version of this file, so the messages must stay compatible.
 */

import { PlayerCore } from './player-core.js';
import { GcTrigger } from './gc-trigger.js';

const REPORT_MS = 500;

class PlayerProcessor extends AudioWorkletProcessor {
  #core;
  #gcTrigger;
  #unreported = 0;
  #ended = false;

  constructor({ processorOptions }) {
    super();
    this.#core = new PlayerCore({ ...processorOptions, contextRateHz: sampleRate });
    if (processorOptions.sweeps) this.#gcTrigger = new GcTrigger(sampleRate);
    this.port.onmessage = ({ data }) => this.#take(data);
  }

  process(_inputs, [[out]]) {
    if (this.#ended) return false;
    if (!out) return true;
    this.#core.render(out);
    this.#gcTrigger?.rendered(out.length);
    this.#unreported += out.length;
    if (this.#unreported * 1000 > REPORT_MS * sampleRate) {
      this.#unreported = 0;
      this.port.postMessage(this.#core.report);
    }
    return true;
  }

  #take(message) {
    if (message.samples) this.#sound(message);
    else if (message.silence) this.#core.silence();
    else if (message.chunkMs) this.#core.setChunkMs(message.chunkMs);
    else if (message.reset) this.#core.reset();
    else if (message.end) this.#ended = true;
  }

  /** Gives a chunk to the player core and releases its memory at once: on the audio thread a browser may collect garbage much later. */
  #sound({ samples, gap, lost }) {
    this.#core.push(samples, gap, lost);
    samples.buffer.transfer?.(0);
  }
}

registerProcessor('palabre-player', PlayerProcessor);
