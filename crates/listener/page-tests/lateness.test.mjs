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

/** A line that is late by so much every ten seconds, and then for so long no more. */
function better(lateMs, secondsSince) {
  const lateness = new Lateness();
  const nowMs = hear(lateness, 0, 300, (ms) => (ms % 10000 === 200 ? lateMs : 0));
  hear(lateness, nowMs, secondsSince, () => 0);
  return lateness.neededMs;
}

test('what a line of long standing does in one second of thirty is held back', () => {
  assert.ok(better(90, 0) > 90, `${better(90, 0)}`);
  assert.ok(better(90, 65) > 90, `${better(90, 65)}`);
});

test('what is rarer is held back as far as the player can not bridge it, unless it happened once in two minutes', () => {
  const far = better(150, 90);
  assert.ok(far > 100 && far < 120, `${far}`);
  assert.ok(better(45, 90) < 30, `${better(45, 90)}`);
  assert.ok(better(150, 125) < 30, `${better(150, 125)}`);
});
