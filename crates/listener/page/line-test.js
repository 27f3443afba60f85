/**
 * The line, tried before joining: a tone to hear, one's own level, one's own voice 2 s later. All of it stays in this
 * browser. It has a context of its own, made in a click and closed with the panel.
 */

import { chosen, openMicrophone } from './devices.js';
import { Output } from './output.js';

const TONE_HZ = 440;
const TONE_S = 1.2;
const BACK_AFTER_S = 2;
const LOOK_MS = 60;
const PROBLEMS = { NotAllowedError: 'refused', SecurityError: 'refused', NotReadableError: 'busy', AbortError: 'busy' };

/** One trial of the line, from `start` to `stop`. */
export class LineTest {
  #onLook;
  #context = null;
  #output = null;
  #media = null;
  #analyser = null;
  #back = null;
  #timer = 0;
  #state = 'off';
  #sinceMs = 0;
  #highest = 0;

  /** @param {(line: {state: string, peak: number, highest: number, listenedMs: number, track: MediaStreamTrack | null}) => void} onLook */
  constructor(onLook) {
    this.#onLook = onLook;
  }

  /** Only in a click. */
  async start() {
    this.stop();
    const context = new AudioContext({ latencyHint: 'interactive' });
    this.#context = context;
    context.resume().catch(() => {});
    this.#output = new Output(context, chosen('output'));
    this.#state = 'asking';
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
    try {
      const media = await openMicrophone();
      if (context !== this.#context) media.getTracks().forEach((track) => track.stop());
      else this.#listen(media);
    } catch (error) {
      if (context === this.#context) this.#state = PROBLEMS[error.name] ?? 'missing';
    }
  }

  /** Gives everything back. */
  stop() {
    clearInterval(this.#timer);
    this.#media?.getTracks().forEach((track) => track.stop());
    this.#output?.close();
    this.#context?.close().catch(() => {});
    this.#output = null;
    this.#context = null;
    this.#media = null;
    this.#analyser = null;
    this.#back = null;
    this.#state = 'off';
  }

  /** Plays a tone for a moment. */
  tone() {
    const context = this.#context;
    if (!context) return;
    const now = context.currentTime;
    const gain = new GainNode(context, { gain: 0 });
    gain.gain.setTargetAtTime(0.15, now, 0.03);
    gain.gain.setTargetAtTime(0, now + TONE_S, 0.05);
    const tone = new OscillatorNode(context, { frequency: TONE_HZ });
    tone.connect(gain).connect(this.#output.node);
    tone.start(now);
    tone.stop(now + TONE_S + 0.5);
  }

  /** @param {boolean} on whether one's own voice comes back after 2 s */
  hearMyself(on) {
    this.#back?.gain.setTargetAtTime(on ? 1 : 0, this.#context.currentTime, 0.02);
  }

  #listen(media) {
    const context = this.#context;
    this.#media = media;
    this.#output.choose(chosen('output'));
    this.#analyser = new AnalyserNode(context, { fftSize: 2048 });
    this.#back = new GainNode(context, { gain: 0 });
    const delay = new DelayNode(context, { maxDelayTime: BACK_AFTER_S, delayTime: BACK_AFTER_S });
    const source = new MediaStreamAudioSourceNode(context, { mediaStream: media });
    source.connect(this.#analyser);
    source.connect(delay).connect(this.#back).connect(this.#output.node);
    this.#state = 'on';
    this.#sinceMs = performance.now();
    this.#highest = 0;
  }

  #look() {
    let peak = 0;
    if (this.#analyser) {
      const samples = new Float32Array(this.#analyser.fftSize);
      this.#analyser.getFloatTimeDomainData(samples);
      for (const sample of samples) peak = Math.max(peak, Math.abs(sample));
    }
    this.#highest = Math.max(this.#highest, peak);
    const listenedMs = this.#state === 'on' ? performance.now() - this.#sinceMs : 0;
    const track = this.#media?.getAudioTracks()[0] ?? null;
    this.#onLook({ state: this.#state, peak, highest: this.#highest, listenedMs, track });
  }
}
