import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Backoff } from '../page/base/backoff.js';
import { parseRecord } from '../page/stream/records.js';
import { StallDetector } from '../page/stream/stall.js';
import { FrameTracker } from '../page/stream/frames.js';
import { SendQueue } from '../page/uplink/send-queue.js';
import { readWav, writeWav } from '../page/base/wav.js';

const document = readFileSync(new URL('../../../docs/injected-stream.md', import.meta.url), 'utf8');
const example = (title) => document.match(new RegExp(`\`\`\`${title}\n(.*)\n\`\`\``))[1];
const base64 = (value) => Buffer.from(JSON.stringify(value)).toString('base64');
const dataOf = (record) => record.match(/^<b>(.*)<\/b><script>p\(\)<\/script>$/)[1];

test('documented records are parsed', () => {
  assert.deepEqual(parseRecord(dataOf(example('html record'))), { kind: 'silence', seq: 1700000000123, levels: null });
  const sound = parseRecord(dataOf(example('html sound')));
  assert.deepEqual({ ...sound, samples: [...sound.samples] }, { kind: 'sound', seq: 1700000000163, gap: true, rateHz: 24000, samples: [1], levels: null });
  assert.deepEqual(parseRecord('2,5,//8AAAAV').levels, [[65535, 0], [0, 21]]);
  const { people } = JSON.parse(example('json room'));
  const room = { kind: 'room', seq: 5, people, recording: false, noMixer: false, machines: [], states: [[1, 7]], tag: '' };
  assert.deepEqual(parseRecord(`3,5,${base64({ people })},AAEH`), room);
  assert.ok(parseRecord(`3,5,${base64(JSON.parse(example('json recorded room')))},//8A`).recording);
  assert.ok(parseRecord(`3,5,${base64(JSON.parse(example('json room without a mixer')))},//8A`).noMixer);
  const shared = parseRecord(`3,5,${base64(JSON.parse(example('json room with other machines')))},//8A`);
  assert.deepEqual(shared.machines, [{ name: 'lyon', cutOff: true }, { name: 'paris', cutOff: false }]);
  assert.deepEqual(parseRecord(dataOf(example('html hello'))), { kind: 'hello', seq: 1700000000100, me: JSON.parse(example('json me')) });
  const states = [[65535, 1], [1, 7 + 16]];
  const tag = dataOf(example('html room')).split(',').at(-1);
  assert.match(tag, /^[0-9a-f]{16}$/);
  assert.deepEqual(parseRecord(dataOf(example('html room'))), { kind: 'room', seq: 1700000000101, people, recording: false, noMixer: false, machines: [], states, tag });
  assert.deepEqual(parseRecord(dataOf(example('html moved'))), { kind: 'moved', seq: 1700000000200, last: false });
});

test('anything that is not exactly a record is rejected', () => {
  const bad = ['', ',', '10,1,', '9,1,', '1', '1,x,0,,', '1,5,0,AAAA,', '1,5,0,***,', '2,5,e30', '2,-5,', '3,5,e30=', '3,5,bnVsbA==',
    '0,5,', '__proto__,5,', 'constructor,5,', `3,5,${base64({ people: [{ name: 1, display: 'x' }] })},//8A`, `3,5,${base64({ people: [], machines: [{}] })},//8A`,
    `3,5,${base64({ people: [] })},//8A,x&y`, '2,5,' + 'A'.repeat(500000)];
  const read = bad.filter((text) => parseRecord(text) !== null);
  assert.deepEqual(read, []);
});

test('WAV round trip is exact', () => {
  const wav = readWav(new Uint8Array(writeWav([Int16Array.of(1, -2), Int16Array.of(32767, -32768)], 16000)));
  assert.deepEqual([wav.rateHz, ...wav.samples], [16000, 1, -2, 32767, -32768]);
});

test('renewed frame replaces the leader at its first record, and no record counts twice', () => {
  const frames = new FrameTracker();
  const [first, second] = [{}, {}];
  frames.candidate = first;
  assert.deepEqual(frames.spoke(first, 10), { known: true, retired: null });
  assert.ok(frames.isNew(100) && frames.isNew(140) && !frames.isNew(140));
  while (!frames.due) frames.spoke(first, 2600);
  frames.candidate = second;
  assert.ok(!frames.due);
  assert.ok(frames.isNew(180));
  assert.equal(frames.spoke(second, 10).retired, first);
  assert.ok(!frames.isNew(180) && frames.isNew(220));
  assert.ok(!frames.due && !frames.spoke(first, 10).known);
});

/** Returns arrival times of chunks over TCP: each is late by up to `jitterMs`, 1 % of them by up to `stallMs` more. */
function arrivals(seed, { seconds, jitterMs, stallMs }) {
  let state = seed;
  const chance = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) / 2 ** 24;
  };
  let lastMs = 0;
  return Array.from({ length: seconds * 25 }, (_, i) => {
    const stalledMs = chance() < 0.01 ? chance() * stallMs : 0;
    lastMs = Math.max(lastMs, 40 * i + chance() * jitterMs + stalledMs);
    return lastMs;
  });
}

/** Returns how often a pause exceeded the timeout. */
function timeouts(stall, times) {
  let [count, lastMs] = [0, times[0]];
  for (const nowMs of times) {
    if (nowMs - lastMs > stall.limitMs) count += 1;
    stall.heard(nowMs, false);
    lastMs = nowMs;
  }
  return count;
}

test('timeout of a good line is a quarter of a second', () => {
  const stall = new StallDetector();
  assert.equal(timeouts(stall, arrivals(1, { seconds: 10, jitterMs: 20, stallMs: 0 })), 0);
  assert.equal(stall.limitMs, 1200, 'while little is known');
  const good = new StallDetector();
  assert.equal(timeouts(good, arrivals(1, { seconds: 30, jitterMs: 20, stallMs: 0 })), 0);
  assert.equal(good.limitMs, 250);
});

test('stalls of a bad line stay below the timeout', () => {
  for (const stallMs of [200, 500, 1000]) {
    const counts = Array.from({ length: 10 }, (_, i) => timeouts(new StallDetector(), arrivals(i + 1, { seconds: 600, jitterMs: 50, stallMs })));
    assert.deepEqual(counts, Array(10).fill(0), `stalls of up to ${stallMs} ms`);
  }
});

test('timeout is long in silence, and ignores the pause of a dead stream', () => {
  const stall = new StallDetector();
  timeouts(stall, arrivals(1, { seconds: 30, jitterMs: 20, stallMs: 0 }));
  stall.heard(30_000, true);
  assert.ok(stall.limitMs > 3000);
  stall.heard(32_000, true);
  stall.heard(33_000, false);
  stall.restart();
  stall.heard(34_000, false);
  assert.equal(stall.limitMs, 250);
});

test('retry delays grow, and a good connection resets them', () => {
  const backoff = new Backoff();
  const waitsMs = Array.from({ length: 10 }, () => backoff.next());
  assert.deepEqual(waitsMs, [0, 200, 300, 500, 1000, 2000, 4000, 8000, 10000, 10000]);
  backoff.lived(4000);
  assert.equal(backoff.next(), 10000);
  backoff.lived(6000);
  assert.equal(backoff.next(), 0);
});

test('queue to which nothing is added drops chunks after 600 ms', () => {
  const queue = new SendQueue(24000);
  for (let i = 0; i < 3; i += 1) queue.push({ samples: new Int16Array(960), wallMs: 40 * i });
  queue.dropOld(630);
  assert.deepEqual(queue.takeAll().map((chunk) => chunk.number), [1, 2]);
  assert.equal(queue.dropped, 1);
});

test('queue keeps the newest 300 ms and leaves a gap in the numbers', () => {
  const queue = new SendQueue(24000);
  for (let i = 0; i < 12; i += 1) queue.push({ samples: new Int16Array(960), wallMs: 40 * i });
  const chunks = queue.takeAll();
  assert.deepEqual(chunks.map((chunk) => chunk.number), [5, 6, 7, 8, 9, 10, 11]);
  assert.equal(queue.dropped, 5);
  assert.equal(queue.takeAll().length, 0);
});
