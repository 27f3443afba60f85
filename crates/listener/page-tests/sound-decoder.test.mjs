import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { SoundDecoder } from '../page/codec/sound-decoder.js';

/** A packet of 20 ms; its second byte becomes the value of all samples. */
const packet = (value) => Uint8Array.of(0xf8, value);
const RATE_HZ = 24000;
const FRAME = 480;

/** Decoders that were opened, oldest first. Each turns a packet into 20 ms at 48 kHz when the test calls `run`. */
let decoders;
let open;

class FakeDecoder {
  state = 'unconfigured';
  waiting = [];
  constructor({ output, error }) {
    Object.assign(this, { output, fail: error });
    decoders.push(this);
  }
  configure() { this.state = 'configured'; }
  decode({ data }) {
    if (data[1] === 255) throw new Error('corrupt');
    this.waiting.push(data[1]);
  }
  close() { this.state = 'closed'; }
  run() {
    for (const value of this.waiting.splice(0)) {
      open += 1;
      this.output({
        numberOfFrames: 960, sampleRate: 48000,
        copyTo: (out) => out.fill(value / 32768),
        close: () => { open -= 1; },
      });
    }
  }
}

beforeEach(() => {
  decoders = [];
  open = 0;
  globalThis.AudioDecoder = FakeDecoder;
  globalThis.EncodedAudioChunk = class { constructor({ data }) { this.data = data; } };
});

afterEach(() => assert.equal(open, 0, 'every AudioData is closed'));

/** Returns a decoder and what it passes on: the values of the samples with their counts, and silences. */
function decoding() {
  const heard = [];
  const decoder = new SoundDecoder({
    onSound: ({ samples, gap }) => heard.push(`${gap ? 'gap ' : ''}${runs(samples)}`),
    onSilence: () => heard.push('silence'),
    onFailed: (why, seq) => heard.push(`failed after ${seq}: ${why}`),
  });
  return { decoder, heard };
}

/** Describes samples as values with their counts: `3×480`. Leaves out the values of the first 5 ms, in which a join fades out. */
function runs(samples) {
  const list = [];
  for (const [i, sample] of samples.entries()) {
    const value = i < 120 ? samples[Math.min(120, samples.length - 1)] : sample;
    if (list.at(-1)?.[0] === value) list.at(-1)[1] += 1;
    else list.push([value, 1]);
  }
  return list.map(([value, count]) => `${value}×${count}`).join(' ');
}

const opus = (seq, values, more) => ({ kind: 'opus', seq, gap: false, preroll: 0, packets: values.map(packet), format: 'Opus 24', ...more });
const pcm = (seq, value, more) => ({ kind: 'sound', seq, gap: false, rateHz: RATE_HZ, samples: new Int16Array(2 * FRAME).fill(value), format: 'PCM 16', ...more });
const silence = (seq, more) => ({ kind: 'silence', seq, ...more });
const run = () => decoders.forEach((decoder) => decoder.run());

test('Opus is decimated, the preroll is dropped, and silence comes after the sound before it', () => {
  const { decoder, heard } = decoding();
  decoder.take(opus(1, [1, 2, 3, 4], { gap: true, preroll: 2 }));
  decoder.take(opus(2, [5]));
  decoder.take(silence(3, { packets: [packet(6)] }));
  assert.deepEqual(heard, []);
  run();
  assert.deepEqual(heard, ['gap 3×480 4×480', '5×480', '6×480', 'silence']);
  assert.equal(decoders.length, 1);
});

test('list with a preroll in the middle of the sound starts a new decoder, and the old one finishes first', () => {
  const { decoder, heard } = decoding();
  decoder.take(opus(1, [1]));
  decoder.take(opus(2, [9, 2], { preroll: 1 }));
  decoders[1].run();
  assert.deepEqual(heard, []);
  decoders[0].run();
  assert.deepEqual(heard, ['1×480', '2×480']);
  assert.deepEqual(decoders.map(({ state }) => state), ['closed', 'configured']);
});

test('Opus after PCM leaves out the lookahead, with a decoder that old records have prepared', () => {
  const { decoder, heard } = decoding();
  decoder.take(pcm(1, 1));
  decoder.take(opus(1, [7, 7, 7], { old: true, preroll: 1 }));
  decoder.take(opus(2, [2, 2]));
  decoder.take(opus(3, [3, 3]));
  run();
  assert.equal(decoders.length, 1);
  assert.deepEqual(heard, ['1×960', '2×804', '3×960']);
});

test('PCM after Opus begins with the end of the chunk before it', () => {
  const { decoder, heard } = decoding();
  decoder.take(opus(1, [1, 1]));
  decoder.take(pcm(1, 5, { old: true }));
  decoder.take(pcm(2, 2));
  decoder.take(pcm(3, 3));
  run();
  assert.deepEqual(heard, ['1×960', '5×156 2×960', '3×960']);
  assert.equal(decoders[0].state, 'closed');
});

test('PCM after Opus has a gap if the chunk before it is not known', () => {
  const { decoder, heard } = decoding();
  decoder.take(opus(1, [1, 1]));
  decoder.take(pcm(2, 2));
  run();
  assert.deepEqual(heard, ['1×960', 'gap 2×960']);
});

test('sound that another stream has brought is left out in whole packets', () => {
  const { decoder, heard } = decoding();
  decoder.take(opus(1, [1, 1]));
  decoder.take(opus(0, [8, 8, 8, 8], { old: true, preroll: 2, format: 'Opus 16' }));
  decoder.take(opus(2, [1, 1, 2, 2], { overlapMs: 43, format: 'Opus 16' }));
  run();
  assert.deepEqual(heard, ['1×960', '2×960']);
});

test('renewed stream of the same format goes on with its decoder', () => {
  const { decoder, heard } = decoding();
  decoder.take(opus(1, [1]));
  decoder.take(opus(1, [1], { old: true, preroll: 1 }));
  decoder.take(opus(2, [2]));
  run();
  assert.deepEqual([heard, decoders.length], [['1×480', '2×480'], 1]);
});

test('error names the last sound that was passed on, and PCM goes on with a gap', () => {
  const { decoder, heard } = decoding();
  decoder.take(opus(1, [1]));
  run();
  decoder.take(opus(2, [2]));
  decoders[0].fail(new Error('lost'));
  decoder.take(opus(3, [3]));
  decoder.take(pcm(2, 4));
  assert.deepEqual(heard, ['1×480', 'failed after 1: Error: lost', 'gap 4×960']);
  assert.equal(decoders.length, 1);
});

test('packet that a decoder refuses at once is an error', () => {
  const { decoder, heard } = decoding();
  decoder.take(opus(1, [255]));
  decoder.take(silence(2));
  decoder.take(pcm(3, 4, { gap: true }));
  assert.deepEqual(heard, ['failed after 0: Error: corrupt', 'silence', 'gap 4×960']);
});

test('decoder without results is an error, unless the page was suspended', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { decoder, heard } = decoding();
  decoder.take(opus(1, [1]));
  context.mock.timers.tick(300);
  run();
  context.mock.timers.tick(1000);
  assert.deepEqual(heard, ['1×480']);
  decoder.take(opus(2, [2]));
  context.mock.timers.tick(300);
  context.mock.timers.tick(300);
  assert.deepEqual(heard.slice(1), ['failed after 1: Error: no result']);
});

test('packets that a slow decoder can not take are dropped with a gap', () => {
  const { decoder, heard } = decoding();
  const values = Array(10).fill(1);
  for (let seq = 1; seq <= 20; seq += 1) decoder.take(opus(seq, values));
  assert.equal(decoders[0].waiting.length, 150);
  run();
  decoder.take(opus(21, [2]));
  run();
  assert.deepEqual(heard.slice(-2), ['1×4800', 'gap 2×480']);
  decoder.stop();
});

test('difference between two decoders fades out at the join', () => {
  const heard = [];
  const decoder = new SoundDecoder({ onSound: ({ samples }) => heard.push([...samples]), onSilence() {}, onFailed() {} });
  decoder.take(pcm(1, 1000));
  decoder.take(opus(1, [0], { old: true }));
  decoder.take(opus(2, [0, 0]));
  run();
  const [, joined] = heard;
  assert.ok(joined[0] === 1000 && joined[60] === 500 && joined[120] === 0 && joined.at(-1) === 0);
  assert.ok(joined.every((sample, i) => i === 0 || Math.abs(sample - joined[i - 1]) < 15));
});
