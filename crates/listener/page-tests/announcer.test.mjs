import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Announcer } from '../page/view/announcer.js';

/** Returns what is announced for each state `[microphone, nowMs, connection?, recorded?]`. */
function announcements(announcer, states) {
  return states.map(([microphone, nowMs, connection = 'live', recorded = false]) =>
    announcer.look({ connection, recorded, microphone }, nowMs).keys?.join(' '));
}

test('connection and recording are announced once each', () => {
  const states = [['asking', 0, 'connecting'], ['asking', 10, 'live'], ['on', 20], ['on', 30, 'live', true], ['muted', 40, 'live', true], ['on', 50, 'lost']];
  assert.deepEqual(announcements(new Announcer(), states), ['connecting', 'live', undefined, 'live recorded', undefined, 'lost']);
});

test('microphone that can not be heard is announced at once, its recovery after it has lasted', () => {
  const states = [['on', 0], ['operator', 10], ['on', 20], ['operator', 60], ['on', 100], ['on', 599], ['on', 600], ['on', 2000]];
  const expected = ['live', 'live micOperator', undefined, undefined, undefined, undefined, 'live micOn', undefined];
  assert.deepEqual(announcements(new Announcer(), states), expected);
});

test('microphone taken back is announced when it is heard, not while it connects', () => {
  const states = [['on', 0], ['taken', 10], ['waiting', 20], ['waiting', 900], ['on', 1000], ['on', 1500]];
  assert.deepEqual(announcements(new Announcer(), states), ['live', 'live micTaken', undefined, undefined, undefined, 'live micOn']);
});

test('problem is announced with a new recording although its state is gone for a moment', () => {
  const states = [['operator', 0], ['on', 10, 'live', true], ['operator', 30, 'live', true]];
  assert.deepEqual(announcements(new Announcer(), states), ['live micOperator', 'live recorded micOperator', undefined]);
});

test('time until the next look is returned', () => {
  const announcer = new Announcer();
  announcements(announcer, [['on', 0], ['held', 10]]);
  assert.equal(announcer.look({ connection: 'live', recorded: false, microphone: 'on' }, 100).againMs, 500);
  assert.equal(announcer.look({ connection: 'live', recorded: false, microphone: 'on' }, 600).againMs, 0);
});

test('state that the user caused is not announced again', () => {
  const announcer = new Announcer();
  announcements(announcer, [['on', 0], ['operator', 10]]);
  announcer.announced('muted');
  assert.deepEqual(announcements(announcer, [['muted', 20], ['muted', 2000]]), [undefined, undefined]);
  announcer.announced('waiting');
  assert.deepEqual(announcements(announcer, [['waiting', 2010], ['on', 2020], ['on', 2600]]), [undefined, undefined, 'live micOn']);
});

test('leaving ends announcements, and rejoining starts them again', () => {
  const states = [['operator', 0], ['off', 10, ''], ['asking', 20, 'connecting'], ['on', 30]];
  assert.deepEqual(announcements(new Announcer(), states), ['live micOperator', '', 'connecting', 'live']);
});

test('machines that are cut off are announced once, and again when others are, and the recovery', () => {
  const announcer = new Announcer();
  const said = ['', 'paris', 'paris', 'paris, lyon', ''].map((cutOff, i) =>
    announcer.look({ connection: 'live', recorded: false, cutOff, microphone: 'on' }, 10 * i).keys?.join(' '));
  assert.deepEqual(said, ['live', 'live cutOff', undefined, 'live cutOff', 'live']);
});
