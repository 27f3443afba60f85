import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readAdpcm } from '../page/base/adpcm.js';
import { packetMs, readPackets, writePackets } from '../page/base/packets.js';
import { parseRecord } from '../page/stream/records.js';

const base64 = (bytes) => Buffer.from(bytes).toString('base64');
/** A packet of 20 ms of silence (CELT). */
const SILENCE = Uint8Array.of(0xf8, 0xff, 0xfe);

test('duration of a packet follows its first byte', () => {
  const ms = (...bytes) => packetMs(Uint8Array.from(bytes));
  assert.deepEqual([ms(0xf8), ms(0x08), ms(0x18), ms(0x60), ms(0x80), ms(0xf9), ms(0xfb, 3)], [20, 20, 60, 10, 2.5, 40, 60]);
  assert.deepEqual([ms(0x1b, 3), ms(0xfb), ms(0xfb, 7)], [0, 0, 0], 'at most 120 ms');
});

test('list of packets survives a round trip, and invalid lists are rejected', () => {
  const long = new Uint8Array(1275).fill(0xf8);
  assert.deepEqual(readPackets(writePackets([SILENCE, long])), [SILENCE, long]);
  assert.equal(writePackets([SILENCE], 16).length, 21);
  const bad = [[1], [0, 0], [3, 0, 0xf8, 0xff], [1, 0, 0xfb], [...writePackets(Array(101).fill(SILENCE))], [...writePackets([new Uint8Array(1276).fill(0xf8)])]];
  for (const bytes of bad) assert.throws(() => readPackets(Uint8Array.from(bytes)), TypeError);
});

test('records of Opus are parsed', () => {
  const list = base64(writePackets([SILENCE, SILENCE]));
  const packets = [SILENCE, SILENCE];
  assert.deepEqual(parseRecord(`10,5,1,2,${list},//8A`), { kind: 'opus', seq: 5, gap: true, preroll: 2, packets, levels: [[65535, 0]] });
  assert.deepEqual(parseRecord(`10,5,0,0,${list},`), { kind: 'opus', seq: 5, gap: false, preroll: 0, packets, levels: null });
  assert.deepEqual(parseRecord(`2,5,,${list}`), { kind: 'silence', seq: 5, packets, levels: null });
  for (const bad of [`10,5,0,3,${list},`, `10,5,0,-1,${list},`, `10,5,0,,${list},`, '10,5,0,0,,', '10,5,0,0,AAAA,', '2,5,,AAAA']) assert.equal(parseRecord(bad), null, bad);
});

/** Returns a WAV in IMA ADPCM with one block. */
function adpcm({ frames, block, tag = 0x11, blockBytes = block.length }) {
  const view = new DataView(new ArrayBuffer(60 + block.length));
  const text = (at, value) => [...value].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, 'RIFF');
  text(8, 'WAVEfmt ');
  view.setUint32(16, 20, true);
  view.setUint16(20, tag, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, 24000, true);
  view.setUint16(32, blockBytes, true);
  view.setUint16(34, 4, true);
  text(40, 'fact');
  view.setUint32(48, frames, true);
  text(52, 'data');
  block.forEach((byte, i) => view.setUint8(60 + i, byte));
  return new Uint8Array(view.buffer);
}

test('WAV in IMA ADPCM is decoded', () => {
  // The ADPCM block of this test: first sample −2, step 7. Its codes are 7, 15, 0, 8: +11 with step 7, −30 with step 16, then +4 with step 34 and
  // −3 with step 31.
  const block = [0xfe, 0xff, 0, 0, 0xf7, 0x80, 0, 0];
  const { rateHz, samples } = readAdpcm(adpcm({ frames: 5, block }));
  assert.deepEqual([rateHz, ...samples], [24000, -2, 9, -21, -17, -20]);
  const record = parseRecord(`1,5,0,${base64(adpcm({ frames: 5, block }))},`);
  assert.deepEqual([record.kind, ...record.samples], ['sound', ...samples]);
});

test('invalid WAVs in ADPCM are rejected', () => {
  const block = [0, 0, 0, 0, 0, 0, 0, 0];
  const bad = [
    { frames: 10, block }, { frames: 480001, block }, { frames: 5, block, tag: 2 }, { frames: 5, block, blockBytes: 4 }, { frames: 5, block, blockBytes: 9 },
  ];
  assert.deepEqual(bad.map((given) => readAdpcm(adpcm(given))).filter((read) => read !== null), []);
  assert.equal(readAdpcm(new Uint8Array(59)), null);
});
