import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Resampler } from '../page/base/resampler.js';

function convert(resampler, input) {
  const out = [];
  for (const sample of input) {
    resampler.feed(sample);
    while (resampler.due) out.push(resampler.take());
  }
  return out;
}

function tone(rateHz, hz, frames) {
  return Float32Array.from({ length: frames }, (_, i) => 0.5 * Math.sin((2 * Math.PI * hz * i) / rateHz));
}

/** Fits a sine of `hz` by least squares; the rest is noise and distortion. */
function snrDb(signal, rateHz, hz) {
  const w = (2 * Math.PI * hz) / rateHz;
  let [ss, cc, sc, xs, xc] = [0, 0, 0, 0, 0];
  signal.forEach((x, i) => {
    const s = Math.sin(w * i);
    const c = Math.cos(w * i);
    ss += s * s; cc += c * c; sc += s * c; xs += x * s; xc += x * c;
  });
  const det = ss * cc - sc * sc;
  const a = (xs * cc - xc * sc) / det;
  const b = (xc * ss - xs * sc) / det;
  let noise = 0;
  let power = 0;
  signal.forEach((x, i) => {
    const fit = a * Math.sin(w * i) + b * Math.cos(w * i);
    noise += (x - fit) ** 2;
    power += fit ** 2;
  });
  return 10 * Math.log10(power / noise);
}

const pairs = [
  [24000, 48000], [24000, 44100], [24000, 96000], [24000, 192000], [16000, 44100], [16000, 48000], [16000, 96000], [48000, 44100], [48000, 96000],
  [48000, 24000], [48000, 16000], [44100, 24000], [44100, 16000], [96000, 16000], [96000, 24000], [96000, 48000],
];

for (const [inHz, outHz] of pairs) {
  test(`tones of 1 and 5 kHz keep 80 dB from ${inHz} to ${outHz} Hz`, () => {
    for (const hz of [1000, 5000]) {
      const out = convert(new Resampler(inHz, outHz), tone(inHz, hz, inHz)).slice(outHz / 4, outHz / 2);
      assert.ok(snrDb(out, outHz, hz) >= 80, `${hz} Hz: ${snrDb(out, outHz, hz)} dB`);
    }
  });
}

test('tone keeps 80 dB at a speed of 1.001', () => {
  const resampler = new Resampler(24000, 48000);
  resampler.setSpeed(1.001);
  const out = convert(resampler, tone(24000, 1000, 24000)).slice(12000, 24000);
  assert.ok(snrDb(out, 48000, 1001) >= 80, `${snrDb(out, 48000, 1001)} dB`);
});

test('frequencies above the lower rate are removed without aliasing', () => {
  const out = convert(new Resampler(48000, 24000), tone(48000, 14000, 48000)).slice(6000, 12000);
  const rms = Math.sqrt(out.reduce((sum, x) => sum + x * x, 0) / out.length);
  assert.ok(20 * Math.log10(rms / 0.3535) < -75, `${20 * Math.log10(rms / 0.3535)} dB`);
});

test('equal rates are bit-exact, also after a change of speed', () => {
  const resampler = new Resampler(48000, 48000);
  const input = tone(48000, 997, 48000);
  const straight = convert(resampler, input);
  assert.deepEqual(straight.slice(32, 40000), Array.from(input.slice(0, 39968)));
  resampler.setSpeed(1.001);
  convert(resampler, input.slice(0, 4321));
  resampler.setSpeed(1);
  const again = convert(resampler, input).slice(2000, 3000);
  const shift = input.findIndex((_, i) => input[i] === again[0] && input[i + 1] === again[1]);
  assert.deepEqual(again, Array.from(input.slice(shift, shift + 1000)));
});

test('number of frames is right over a minute', () => {
  const out = convert(new Resampler(44100, 24000), new Float32Array(44100 * 60));
  assert.ok(Math.abs(out.length - 24000 * 60) <= 1, `${out.length}`);
});
