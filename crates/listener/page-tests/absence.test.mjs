import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Absence } from '../page/room/absence.js';

/** Returns the seconds at which the absence is noticed, if the page runs and gets records while these functions return true. */
function noticed(runs, hears, seconds = 400) {
  const absence = new Absence();
  const at = [];
  for (let s = 0; s < seconds; s += 1) {
    if (!runs(s)) continue;
    if (absence.noticed(1e12 + 1000 * s)) at.push(s);
    if (hears(s)) absence.heard(1e12 + 1000 * s);
  }
  return at;
}

test('participant was away after two minutes without the server, once, and again after another two minutes', () => {
  const always = () => true;
  assert.deepEqual(noticed(always, always), []);
  assert.deepEqual(noticed(always, (s) => s < 10 || s > 127), []);
  assert.deepEqual(noticed(always, (s) => s < 10 || (s > 200 && s < 210)), [129, 329]);
});

test('participant was away when the computer slept for 90 s, but not when a hidden page ran once a minute', () => {
  const awake = (s) => s < 50 || s >= 140;
  assert.deepEqual(noticed(awake, awake), [140]);
  assert.deepEqual(noticed((s) => s % 60 === 0, () => true), []);
});

test('clock that is set back is no absence', () => {
  const absence = new Absence();
  absence.heard(1e12);
  assert.equal(absence.noticed(1e12 - 1e9), false);
  assert.equal(absence.noticed(1e12 - 1e9 + 1000), false);
});
