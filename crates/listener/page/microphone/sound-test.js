/**
 * The test of sound and microphone before joining: plays a tone, measures the level, plays the participant's own voice back after 2 s.
 * No sound leaves the browser. The test has its own AudioContext, created in a click and closed with the panel.
 */

import { chosen, openMicrophone } from '../audio/devices.js';
import { Output } from '../audio/output.js';
import { problemOf } from './microphone.js';

const TONE_HZ = 440;
const TONE_S = 1.2;
const PLAYBACK_DELAY_S = 2;
const METER_INTERVAL_MS = 60;

/** One test of sound and microphone, from `start` to `stop`. */
export class SoundTest {
  #onMeter;
  #context = null;
  #output = null;
  #media = null;
  #analyser = null;
  #playback = null;
  #timer = 0;
  #state = 'off';
  #sinceMs = 0;
  #highest = 0;

  /** @param {(test: {state: string, peak: number, highest: number, listenedMs: number, track: MediaStreamTrack | null}) => void} onMeter */
  constructor(onMeter) {
    this.#onMeter = onMeter;
  }

  /** Call only in a click. */
  async start() {
    this.stop();
    const context = new AudioContext({ latencyHint: 'interactive' });
    this.#context = context;
    context.resume().catch(() => {});
    this.#output = new Output(context, chosen('output'));
    this.#state = 'asking';
    this.#timer = setInterval(() => this.#measure(), METER_INTERVAL_MS);
    try {
      const media = await openMicrophone();
      if (context !== this.#context) media.getTracks().forEach((track) => track.stop());
      else this.#listen(media);
    } catch (error) {
      if (context === this.#context) this.#state = problemOf(error.name);
    }
  }

  /** Releases the microphone and the output device. */
  stop() {
    clearInterval(this.#timer);
    this.#media?.getTracks().forEach((track) => track.stop());
    this.#output?.close();
    this.#context?.close().catch(() => {});
    this.#output = null;
    this.#context = null;
    this.#media = null;
    this.#analyser = null;
    this.#playback = null;
    this.#state = 'off';
  }

  /** Plays a short tone. */
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

  /** @param {boolean} on whether the participant's voice is played back */
  hearMyself(on) {
    this.#playback?.gain.setTargetAtTime(on ? 1 : 0, this.#context.currentTime, 0.02);
  }

  #listen(media) {
    const context = this.#context;
    this.#media = media;
    this.#output.choose(chosen('output'));
    this.#analyser = new AnalyserNode(context, { fftSize: 2048 });
    this.#playback = new GainNode(context, { gain: 0 });
    const delay = new DelayNode(context, { maxDelayTime: PLAYBACK_DELAY_S, delayTime: PLAYBACK_DELAY_S });
    const source = new MediaStreamAudioSourceNode(context, { mediaStream: media });
    source.connect(this.#analyser);
    source.connect(delay).connect(this.#playback).connect(this.#output.node);
    this.#state = 'on';
    this.#sinceMs = performance.now();
    this.#highest = 0;
  }

  #measure() {
    let peak = 0;
    if (this.#analyser) {
      const samples = new Float32Array(this.#analyser.fftSize);
      this.#analyser.getFloatTimeDomainData(samples);
      for (const sample of samples) peak = Math.max(peak, Math.abs(sample));
    }
    this.#highest = Math.max(this.#highest, peak);
    const listenedMs = this.#state === 'on' ? performance.now() - this.#sinceMs : 0;
    const track = this.#media?.getAudioTracks()[0] ?? null;
    this.#onMeter({ state: this.#state, peak, highest: this.#highest, listenedMs, track });
  }
}
