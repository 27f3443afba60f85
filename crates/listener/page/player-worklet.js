/**
 * The player on the audio thread: messages in, sound out. All it decides is decided in player-core.js.
 *
 * Messages: {samples, gap, lost}, {silence}, {reset}, {end}. Twice a second it posts its report.
 */

import { PlayerCore } from './player-core.js';
import { Sweeper } from './sweeper.js';

const REPORT_MS = 500;

class PlayerProcessor extends AudioWorkletProcessor {
  #core;
  #sweeper;
  #unreported = 0;
  #ended = false;

  constructor({ processorOptions }) {
    super();
    this.#core = new PlayerCore({ ...processorOptions, contextRateHz: sampleRate });
    if (processorOptions.sweeps) this.#sweeper = new Sweeper(sampleRate);
    this.port.onmessage = ({ data }) => this.#take(data);
  }

  process(_inputs, [[out]]) {
    if (this.#ended) return false;
    if (!out) return true;
    this.#core.render(out);
    this.#sweeper?.rendered(out.length);
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
    else if (message.reset) this.#core.reset();
    else if (message.end) this.#ended = true;
  }

  /** A chunk's memory is given back at once: on this thread a browser may collect garbage long after. */
  #sound({ samples, gap, lost }) {
    this.#core.push(samples, gap, lost);
    samples.buffer.transfer?.(0);
  }
}

registerProcessor('palabre-player', PlayerProcessor);
