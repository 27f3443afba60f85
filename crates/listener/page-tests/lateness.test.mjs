import assert from 'node:assert/strict';
import test from 'node:test';
import { LatenessTracker } from '../page/player/lateness.js';

const CHUNK_MS = 40;

/** Feeds `seconds` of chunks, each late by `lateMs(ms)`, and returns the time of the end. */
function hear(lateness, fromMs, seconds, lateMs) {
  for (let ms = 0; ms < seconds * 1000; ms += CHUNK_MS) lateness.arrived(fromMs + ms + lateMs(ms), CHUNK_MS, true);
  return fromMs + seconds * 1000;
}

test('lateness while the page starts is forgotten within seconds', () => {
  const lateness = new LatenessTracker();
  const nowMs = hear(lateness, 0, 4, (ms) => (ms % 400 === 200 ? 90 : 0));
  assert.ok(lateness.neededMs > 90, `${lateness.neededMs}`);
  hear(lateness, nowMs, 8, () => 0);
  assert.ok(lateness.neededMs < 30, `${lateness.neededMs}`);
});

/** Returns the margin `secondsSince` seconds after a line has become punctual that delayed a chunk by `lateMs` every ten seconds. */
function better(lateMs, secondsSince) {
  const lateness = new LatenessTracker();
  const nowMs = hear(lateness, 0, 300, (ms) => (ms % 10000 === 200 ? lateMs : 0));
  hear(lateness, nowMs, secondsSince, () => 0);
  return lateness.neededMs;
}

test('margin of a known line covers the lateness of one second in thirty', () => {
  assert.ok(better(90, 0) > 90, `${better(90, 0)}`);
  assert.ok(better(90, 65) > 90, `${better(90, 65)}`);
});

test('margin covers rarer lateness as far as it can not be concealed, unless it occurred only once in two minutes', () => {
  const far = better(150, 90);
  assert.ok(far > 100 && far < 120, `${far}`);
  assert.ok(better(45, 90) < 30, `${better(45, 90)}`);
  assert.ok(better(150, 125) < 30, `${better(150, 125)}`);
});

test('pause of the sound card or the server is no lateness of the line', () => {
  for (const pauseMs of [150, 350, 440, 600, 3000]) {
    const lateness = new LatenessTracker();
    const jitterMs = (ms) => (ms * 13) % 10;
    const nowMs = hear(lateness, 0, 20, jitterMs);
    const late = [];
    for (let ms = 0; ms < 10_000; ms += CHUNK_MS) {
      late.push(lateness.arrived(nowMs + ms + pauseMs + jitterMs(ms), CHUNK_MS, true));
      assert.ok(lateness.neededMs < 30, `${lateness.neededMs} after a pause of ${pauseMs} ms`);
      assert.equal(lateness.isInDoubt, ms < 500 && late.at(-1) > 100);
    }
    assert.ok(late.slice(14).every((lateMs) => lateMs < 20), `${pauseMs} ms: ${late.slice(0, 20)}`);
  }
});

test('lateness that varies is that of the line', () => {
  const lateness = new LatenessTracker();
  const nowMs = hear(lateness, 0, 20, () => 0);
  hear(lateness, nowMs, 4, (ms) => 150 + ((ms * 7) % 120));
  assert.ok(lateness.neededMs > 200, `${lateness.neededMs}`);
});
