import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';

const CONTEXT_HZ = 48000;
const STREAM_HZ = 24000;
const CHUNK_MS = 40;
const QUANTUM = 128;

// Debian's node is older than this method of the browsers'.
ArrayBuffer.prototype.transfer ??= function transfer() {
  return structuredClone(this, { transfer: [this] });
};

/** What a browser's audio thread has around a worklet; the port is a real one. */
const PORTS = new MessageChannel();
const registered = new Map();
globalThis.sampleRate = CONTEXT_HZ;
globalThis.AudioWorkletProcessor = class {
  port = PORTS.port1;
};
globalThis.registerProcessor = (name, Processor) => registered.set(name, Processor);
await import('../page/player-worklet.js');

test('the audio thread keeps no chunk that it has taken, and tells how it goes', async (context) => {
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
  assert.deepEqual(chunks.map(({ byteLength }) => byteLength), Array(20).fill(0), 'their memory was given back');

  const heard = [];
  while (reports.length === 0) {
    const out = new Float32Array(QUANTUM);
    processor.process([], [[out]]);
    heard.push(Math.max(...out));
    await new Promise(setImmediate);
  }
  assert.ok(Math.max(...heard) > 0.2, 'and it is heard all the same');
  assert.equal(reports[0].underruns, 0);
});
