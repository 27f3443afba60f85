import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';

const CONTEXT_HZ = 48000;
const STREAM_HZ = 24000;
const CHUNK_MS = 40;
const QUANTUM = 128;

// The Node.js of Debian 12 lacks ArrayBuffer.prototype.transfer, so this test defines it.
ArrayBuffer.prototype.transfer ??= function transfer() {
  return structuredClone(this, { transfer: [this] });
};

// This test stands in for the globals of an AudioWorklet. Its MessagePort is a real one.
const PORTS = new MessageChannel();
const registered = new Map();
let nextPort = PORTS.port1;
globalThis.sampleRate = CONTEXT_HZ;
globalThis.AudioWorkletProcessor = class {
  port = nextPort;
};
globalThis.registerProcessor = (name, Processor) => registered.set(name, Processor);
globalThis.currentFrame = 0;
await import('../page/player/player-worklet.js');
await import('../page/microphone/microphone-worklet.js');

test('player worklet releases the memory of each chunk, plays it and reports', async (context) => {
  context.after(() => PORTS.port2.close());
  const Processor = registered.get('palabre-player');
  const processor = new Processor({ processorOptions: { streamRateHz: STREAM_HZ, chunkMs: CHUNK_MS } });
  const chunks = [];
  const reports = [];
  PORTS.port2.on('message', (report) => reports.push(report));
  PORTS.port1.on('message', ({ samples }) => chunks.push(samples));
  for (let n = 0; n < 20; n += 1) {
    const samples = new Int16Array((STREAM_HZ * CHUNK_MS) / 1000).fill(8192);
    PORTS.port2.postMessage({ samples, gap: n === 0, lost: false }, [samples.buffer]);
  }
  while (chunks.length < 20) await once(PORTS.port1, 'message');
  assert.deepEqual(chunks.map(({ byteLength }) => byteLength), Array(20).fill(0), 'memory is released');

  const heard = [];
  while (reports.length === 0) {
    const out = new Float32Array(QUANTUM);
    processor.process([], [[out]]);
    heard.push(Math.max(...out));
    await new Promise(setImmediate);
  }
  assert.ok(Math.max(...heard) > 0.2, 'the tone is played');
  assert.equal(reports[0].underruns, 0);
});

test('player worklet allocates a large block each minute only if asked to', () => {
  const Processor = registered.get('palabre-player');
  const allocationsOf = (minutes, sweeps) => {
    const asked = [];
    const { ArrayBuffer: Real } = globalThis;
    globalThis.ArrayBuffer = class {
      constructor(bytes) {
        asked.push(bytes);
        throw new RangeError('memory is scarce');
      }
    };
    try {
      const processor = new Processor({ processorOptions: { streamRateHz: STREAM_HZ, chunkMs: CHUNK_MS, sweeps } });
      const out = new Float32Array(QUANTUM);
      for (let n = 0; n * QUANTUM < minutes * 60 * CONTEXT_HZ; n += 1) assert.ok(processor.process([], [[out]]));
    } finally {
      globalThis.ArrayBuffer = Real;
    }
    return asked;
  };
  assert.deepEqual(allocationsOf(3, true), Array(3).fill(64 * 1024 * 1024));
  assert.deepEqual(allocationsOf(3, false), []);
});

test('worklet ends on request', async (context) => {
  for (const [name, outputs] of [['palabre-player', [[new Float32Array(QUANTUM)]]], ['palabre-microphone', []]]) {
    const { port1, port2 } = new MessageChannel();
    context.after(() => port2.close());
    nextPort = port1;
    const Processor = registered.get(name);
    const processor = new Processor({ processorOptions: { streamRateHz: STREAM_HZ, rateHz: STREAM_HZ, chunkMs: CHUNK_MS } });
    const renders = () => processor.process([[new Float32Array(QUANTUM)]], outputs);
    assert.equal(renders(), true, name);
    port2.postMessage({ end: true });
    await once(port1, 'message');
    assert.equal(renders(), false, name);
  }
});
