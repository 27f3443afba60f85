import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Lag } from '../page/uplink/lag.js';

/** Sends a chunk every 40 ms for this time; the listener acknowledges every third chunk `delayMs(number)` later. Returns the largest lag. */
function largest(lag, { fromMs, forMs, delayMs }) {
  const events = [];
  for (let number = fromMs / 40; number < (fromMs + forMs) / 40; number += 1) {
    events.push({ atMs: 40 * number + 40, act: () => lag.sent(number, 40 * number) });
    if (number % 3 === 0) events.push({ atMs: 40 * number + 40 + delayMs(number), act: (nowMs) => lag.acknowledged(number, nowMs) });
  }
  events.sort((a, b) => a.atMs - b.atMs);
  return Math.max(...events.map(({ atMs, act }) => { act(atMs); return lag.lateMs(atMs); }));
}

test('line that carries the sound has no lag, whatever its delay is', () => {
  for (const delay of [1, 60, 400, 2000]) {
    assert.equal(largest(new Lag(), { fromMs: 0, forMs: 4000, delayMs: () => delay }), 0, `${delay} ms`);
  }
});

test('stall is seen while it lasts', () => {
  const lag = new Lag();
  largest(lag, { fromMs: 0, forMs: 3000, delayMs: () => 60 });
  lag.sent(75, 3000);
  assert.equal(lag.lateMs(3150), 0);
  assert.ok(lag.lateMs(3800) > 400, `${lag.lateMs(3800)}`);
});

test('line that is too slow has a growing lag', () => {
  const lag = new Lag();
  largest(lag, { fromMs: 0, forMs: 3000, delayMs: () => 60 });
  const late = largest(lag, { fromMs: 3000, forMs: 2000, delayMs: (number) => 60 + 20 * (number - 75) });
  assert.ok(late > 500, `${late}`);
});

test('listener without acknowledgements has no lag', () => {
  const lag = new Lag();
  for (let number = 0; number < 5000; number += 1) lag.sent(number, 40 * number);
  assert.equal(lag.lateMs(1e9), 0);
});

test('number that was never sent is ignored', () => {
  const lag = new Lag();
  lag.sent(0, 0);
  lag.acknowledged(7, 50);
  assert.equal(lag.lateMs(1e6), 0);
});
