import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ladder, StreamDelay, isLoopback, isThrifty } from '../page/codec/ladder.js';

const wish = (more) => ({ quality: 'auto', codec: 'auto', loopback: false, thrifty: false, ...more });
const at = (more, nowMs = 0) => new Ladder().choose(wish(more), nowMs);

test('choice begins with PCM, or with Opus where data are to be saved', () => {
  const begins = [{}, { thrifty: true }, { quality: 'save' }, { quality: 'full', thrifty: true }, { loopback: true, thrifty: true }, { loopback: true, quality: 'save' }];
  assert.deepEqual(begins.map((more) => at(more)), [0, 24, 24, 0, 0, 24]);
  const always = [{}, { loopback: true }, { quality: 'full' }, { quality: 'save' }];
  assert.deepEqual(always.map((more) => at({ ...more, codec: 'opus' })), [24, 24, 32, 24]);
  assert.deepEqual(begins.map((more) => at({ ...more, codec: undefined })), [0, 0, 0, 0, 0, 0]);
});

/** Returns the rungs after `events`, a list of times at which the line is 201 ms behind; looks once a second. */
function rungs(events, untilMs, more) {
  const ladder = new Ladder();
  const list = [];
  for (let nowMs = 0; nowMs <= untilMs; nowMs += 500) {
    if (events.includes(nowMs)) ladder.behind(201, nowMs);
    const kbps = ladder.choose(wish(more), nowMs);
    if (kbps !== list.at(-1)?.[1]) list.push([nowMs, kbps]);
  }
  return list;
}

test('line that is behind twice in ten seconds leads one rung down, and a minute of calm one up', () => {
  assert.deepEqual(rungs([5000, 16000], 20000), [[0, 0]], 'too far apart');
  assert.deepEqual(rungs([5000, 5500], 20000), [[0, 0]], 'the same event');
  assert.deepEqual(rungs([5000, 14000], 80000), [[0, 0], [14000, 32], [74000, 0]]);
  assert.deepEqual(rungs([1000, 2000], 20000), [[0, 0]], 'while the page starts');
  assert.deepEqual(rungs([5000, 6000, 10000, 11000, 15000, 16000, 20000, 21000], 30000), [[0, 0], [6000, 32], [11000, 24], [16000, 16]]);
});

test('rung that fails again is tried later', () => {
  const list = rungs([5000, 6000, 70000, 71000], 400000);
  assert.deepEqual(list, [[0, 0], [6000, 32], [66000, 0], [71000, 32], [191000, 0]]);
});

test('line that must save data gets no PCM after a calm time', () => {
  assert.deepEqual(rungs([], 300000, { thrifty: true }), [[0, 24], [60000, 32]]);
  assert.deepEqual(rungs([5000, 6000], 300000, { quality: 'save' }), [[0, 24], [6000, 16], [66000, 24]]);
});

test('fixed bit rate never changes', () => {
  assert.deepEqual(rungs([5000, 6000, 10000, 11000], 300000, { fixedKbps: 32, loopback: true }), [[0, 32]]);
  assert.deepEqual(rungs([5000, 6000, 10000, 11000], 300000, { fixedKbps: 0, thrifty: true }), [[0, 0]]);
});

test('changed setting begins anew', () => {
  const ladder = new Ladder();
  assert.deepEqual(['auto', 'save', 'full', 'auto'].map((quality) => ladder.choose(wish({ quality }), 0)), [0, 24, 0, 0]);
});

test('delay of a stream is measured against its quickest record', () => {
  const delay = new StreamDelay();
  assert.equal(delay.behindMs(1_000_000, 500), 0);
  assert.equal(delay.behindMs(1_000_040, 800), 260);
  assert.equal(delay.behindMs(1_000_080, 580), 0);
  assert.equal(delay.behindMs(50, 600), 0, 'after a restart of the server');
  for (let nowMs = 1000; nowMs < 100_000; nowMs += 1000) delay.behindMs(nowMs - 300, nowMs);
  assert.equal(delay.behindMs(99_700, 100_050), 50, 'a line that became slower for good');
});

test('addresses of this computer and lines that save data are recognised', () => {
  assert.deepEqual(['localhost', 'a.localhost', '127.0.0.1', '[::1]'].filter((name) => !isLoopback(name)), []);
  assert.deepEqual(['127.example.org', 'localhost.example.org', '192.0.2.1', ''].filter(isLoopback), []);
  assert.deepEqual([{}, { saveData: true }, { type: 'cellular' }, { type: 'wifi' }].map((line) => isThrifty(line)), [false, true, true, false]);
});
