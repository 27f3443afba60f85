import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import './browser.mjs';
import { FormatChoice } from '../page/codec/format-choice.js';
import { OpusEncoder } from '../page/codec/opus-encoder.js';

let nowMs = 0;
mock.method(performance, 'now', () => nowMs);

/** An encoder whose results arrive only when `deliver` is called. */
class SlowEncoder {
  static current;
  state = 'unconfigured';
  waiting = 0;

  constructor({ output }) {
    this.output = output;
    SlowEncoder.current = this;
  }

  static async isConfigSupported() {
    return { supported: true };
  }

  configure() {
    this.state = 'configured';
  }

  encode() {
    this.waiting += 1;
  }

  async flush() {
    this.deliver();
  }

  deliver() {
    for (; this.waiting > 0; this.waiting -= 1) this.output({ byteLength: 3, copyTo: (packet) => packet.set([0xf8, 0xff, 0xfe]) });
  }

  close() {
    this.state = 'closed';
  }
}

globalThis.AudioEncoder = SlowEncoder;
globalThis.AudioData = class { close() {} };

/** Returns an encoder for chunks of 40 ms at 16 kHz, and what it has told. */
function start() {
  const heard = { frames: 0, errors: [] };
  const encoder = new OpusEncoder({ rateHz: 16_000, kbps: 24 }, {
    onPackets: ({ frames }) => { heard.frames += frames; },
    onError: (why) => heard.errors.push(why),
  });
  const push = (count, intervalMs) => {
    for (let i = 0; i < count; i += 1) {
      encoder.push({ samples: new Int16Array(640), wallMs: nowMs });
      nowMs += intervalMs;
    }
  };
  return { heard, push };
}

test('chunks that come at once after a pause of the page are encoded', () => {
  const { heard, push } = start();
  push(10, 40);
  nowMs += 10_000;
  push(250, 0);
  SlowEncoder.current.deliver();
  push(10, 40);
  SlowEncoder.current.deliver();
  assert.deepEqual(heard.errors, []);
  assert.ok(heard.frames > 269 * 640, `${heard.frames}`);
});

test('encoder that gives no results for seconds has failed', () => {
  const { heard, push } = start();
  push(90, 40);
  assert.deepEqual(heard.errors, []);
  push(30, 40);
  assert.deepEqual(heard.errors, ['Error: no result']);
});

test('uplink tries Opus again a minute after a failure of the encoder, then after two minutes', async () => {
  const uplink = [];
  const choice = new FormatChoice({ quality: 'save', fixedKbps: 24 }, { onStream: () => {}, onUplink: (kbps) => uplink.push(kbps) });
  choice.setServer({ codec: 'auto' });
  while (uplink.length === 0) await new Promise((done) => { setImmediate(done); });
  const later = (ms) => { nowMs += ms; choice.look(); };
  choice.encoderFailed();
  later(59_000);
  assert.deepEqual(uplink, [24, 0]);
  later(1000);
  choice.encoderFailed();
  later(119_000);
  assert.deepEqual(uplink, [24, 0, 24, 0]);
  later(1000);
  assert.deepEqual(uplink, [24, 0, 24, 0, 24]);
});
