import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Announcer } from '../page/announcer.js';

/** What is said of each state, `[microphone, nowMs, connection?, recorded?]`. */
function said(announcer, states) {
  return states.map(([microphone, nowMs, connection = 'live', recorded = false]) =>
    announcer.look({ connection, recorded, microphone }, nowMs).keys?.join(' '));
}

test('the connection and a recording are told once each', () => {
  const states = [['asking', 0, 'connecting'], ['asking', 10, 'live'], ['on', 20], ['on', 30, 'live', true], ['muted', 40, 'live', true], ['on', 50, 'lost']];
  assert.deepEqual(said(new Announcer(), states), ['connecting', 'live', undefined, 'live recorded', undefined, 'lost']);
});

test('a microphone that is not heard is told at once, and that it is heard again when that has lasted', () => {
  const states = [['on', 0], ['operator', 10], ['on', 20], ['operator', 60], ['on', 100], ['on', 599], ['on', 600], ['on', 2000]];
  const expected = ['live', 'live micOperator', undefined, undefined, undefined, undefined, 'live micOn', undefined];
  assert.deepEqual(said(new Announcer(), states), expected);
});

test('whoever takes the microphone back is told when it is heard, not while it is being connected', () => {
  const states = [['on', 0], ['taken', 10], ['waiting', 20], ['waiting', 900], ['on', 1000], ['on', 1500]];
  assert.deepEqual(said(new Announcer(), states), ['live', 'live micTaken', undefined, undefined, undefined, 'live micOn']);
});

test('what is wrong is told with a new recording too, though its mark is gone for a moment', () => {
  const states = [['operator', 0], ['on', 10, 'live', true], ['operator', 30, 'live', true]];
  assert.deepEqual(said(new Announcer(), states), ['live micOperator', 'live recorded micOperator', undefined]);
});

test('it says when to look again', () => {
  const announcer = new Announcer();
  said(announcer, [['on', 0], ['held', 10]]);
  assert.equal(announcer.look({ connection: 'live', recorded: false, microphone: 'on' }, 100).againMs, 500);
  assert.equal(announcer.look({ connection: 'live', recorded: false, microphone: 'on' }, 600).againMs, 0);
});

test('what the person was told for what they did is not told again', () => {
  const announcer = new Announcer();
  said(announcer, [['on', 0], ['operator', 10]]);
  announcer.said('muted');
  assert.deepEqual(said(announcer, [['muted', 20], ['muted', 2000]]), [undefined, undefined]);
  announcer.said('waiting');
  assert.deepEqual(said(announcer, [['waiting', 2010], ['on', 2020], ['on', 2600]]), [undefined, undefined, 'live micOn']);
});

test('who leaves is told nothing more, and who comes again all', () => {
  const states = [['operator', 0], ['off', 10, ''], ['asking', 20, 'connecting'], ['on', 30]];
  assert.deepEqual(said(new Announcer(), states), ['live micOperator', '', 'connecting', 'live']);
});
