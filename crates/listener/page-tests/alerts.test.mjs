import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settle } from './browser.mjs';

const heard = [];
const notified = [];
const stored = {};

class FakeNode {
  constructor(context, { frequency } = {}) { if (frequency) heard.push(frequency); }
  connect() {}
  start() {}
  stop() {}
  addEventListener() {}
}

class FakeNotification {
  static permission = 'default';
  static async requestPermission() { FakeNotification.permission = FakeNotification.answer; return FakeNotification.answer; }
  constructor(title, { body }) { notified.push([title, body]); }
  addEventListener() {}
}

Object.assign(globalThis, {
  GainNode: FakeNode, OscillatorNode: FakeNode, Notification: FakeNotification,
  localStorage: { getItem: (key) => stored[key] ?? null, setItem: (key, value) => { stored[key] = value; } },
});
window.Notification = FakeNotification;
document.documentElement = {};
const { Comings, alertUser, isOn, switchAlert } = await import('../page/view/alerts.js');

test('nothing is heard or shown until its switch is on, and a notification only in another window', async (t) => {
  t.mock.timers.enable({ apis: ['Date'] });
  document.hidden = true;
  for (const kind of ['texts', 'hands', 'joins']) alertUser(kind, 1, 'Bob', 'x');
  FakeNotification.answer = 'granted';
  assert.equal(await switchAlert('texts', true), true);
  assert.deepEqual([isOn('texts'), isOn('hands'), isOn('joins')], [true, false, false]);
  assert.deepEqual([heard, notified], [[], []]);
  alertUser('hands', 1, 'Bob raised a hand');
  alertUser('texts', 1, 'Bob', 'y'.repeat(500));
  await settle();
  assert.deepEqual([heard, notified], [[880, 880], [['Bob', 'y'.repeat(100)]]]);
  document.hidden = false;
  alertUser('texts', 1, 'Bob', 'z');
  await settle();
  assert.deepEqual([heard.length, notified.length], [2, 1], 'the last sound was less than two seconds ago');
  FakeNotification.permission = 'denied';
  assert.equal(await switchAlert('hands', true), false);
  await switchAlert('texts', false);
  assert.equal(isOn('texts'), false);
});

test('a participant who joins or raises a hand is reported once, and none is at the first look', () => {
  const comings = new Comings();
  const person = (name, here, hand = false) => ({ name, label: name.toUpperCase(), here, hand });
  const look = (...people) => comings.look(people).map(({ kind, label }) => `${label} ${kind}`);
  assert.deepEqual(look(person('bob', true, true), person('carol', false)), []);
  assert.deepEqual(look(person('bob', true, true), person('carol', true)), ['CAROL joins']);
  assert.deepEqual(look(person('bob', true, true), person('carol', true, true), person('dora', true)), ['CAROL hands', 'DORA joins']);
  assert.deepEqual(look(person('bob', true), person('carol', false, true), person('dora', true)), []);
  assert.deepEqual(look(person('bob', true, true), person('carol', true, true)), ['BOB hands', 'CAROL joins']);
  comings.clear();
  assert.deepEqual(look(person('bob', true)), []);
});
