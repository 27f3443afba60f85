import assert from 'node:assert/strict';
import test from 'node:test';
import { Lateness } from '../page/lateness.js';

const CHUNK_MS = 40;

/** Chunks of so many seconds, each late by what `lateMs` says. */
function hear(lateness, fromMs, seconds, lateMs) {
  for (let ms = 0; ms < seconds * 1000; ms += CHUNK_MS) lateness.arrived(fromMs + ms + lateMs(ms), CHUNK_MS, true);
  return fromMs + seconds * 1000;
}

test('what was late while the page began is forgotten within seconds', () => {
  const lateness = new Lateness();
  const nowMs = hear(lateness, 0, 4, (ms) => (ms % 400 === 200 ? 90 : 0));
  assert.ok(lateness.neededMs > 90, `${lateness.neededMs}`);
  hear(lateness, nowMs, 8, () => 0);
  assert.ok(lateness.neededMs < 30, `${lateness.neededMs}`);
});

test('what a line of long standing does twice is held back for two minutes', () => {
  const lateness = new Lateness();
  let nowMs = hear(lateness, 0, 300, (ms) => (ms % 10000 === 200 ? 90 : 0));
  nowMs = hear(lateness, nowMs, 90, () => 0);
  assert.ok(lateness.neededMs > 90, `${lateness.neededMs}`);
  hear(lateness, nowMs, 35, () => 0);
  assert.ok(lateness.neededMs < 30, `${lateness.neededMs}`);
});
