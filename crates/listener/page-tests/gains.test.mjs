/** Tests of page/room/gains.js: a simulated listener has a list of gains, and may refuse changes. */

import { test } from 'node:test';
import assert from 'node:assert/strict';

const listener = { lines: '', refuses: false, isDown: false, posts: 0 };
globalThis.location = new URL('https://localhost/');
globalThis.localStorage = { getItem: () => null, setItem() {}, removeItem() {} };
globalThis.fetch = async (_url, { method = 'GET', body } = {}) => {
  if (listener.isDown) throw new TypeError('down');
  if (method === 'GET') return { ok: true, status: 200, text: async () => listener.lines };
  listener.posts += 1;
  if (!listener.refuses) listener.lines = body;
  return { ok: !listener.refuses, status: listener.refuses ? 400 : 204, headers: new Headers() };
};
const { Gains } = await import('../page/room/gains.js');

function start(context, lines) {
  Object.assign(listener, { lines, refuses: false, isDown: false, posts: 0 });
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const changes = [];
  return { gains: new Gains((name) => changes.push(name)), changes };
}

/** Lets the simulated time pass in steps, with the answers of the requests in between. */
async function pass(context, ms) {
  for (let left = ms; left > 0; left -= 100) {
    context.mock.timers.tick(100);
    for (let i = 0; i < 20; i += 1) await Promise.resolve();
  }
}

test('change that the listener refuses five times is shown as it is there', async (context) => {
  const { gains } = start(context, 'bob\tmute\n');
  await gains.restore();
  assert.ok(gains.isMuted('bob'));
  listener.refuses = true;
  gains.mute('carol', true);
  assert.ok(gains.isMuted('carol'));
  await pass(context, 20000);
  assert.deepEqual([listener.posts, gains.isMuted('carol'), gains.isMuted('bob')], [5, false, true]);
});

test('change before the listener has told its gains does not erase them', async (context) => {
  const { gains } = start(context, 'bob\tmute\n');
  listener.isDown = true;
  await gains.restore();
  gains.setVolume('carol', 50);
  await pass(context, 1000);
  listener.isDown = false;
  gains.setVolume('carol', 60);
  await pass(context, 1000);
  assert.ok(gains.isMuted('bob') && listener.lines.includes('bob\tmute'), listener.lines);
});

test('gains that the room directory has lost are sent again, and no others', async (context) => {
  const { gains, changes } = start(context, 'bob\tmute\n');
  await gains.restore();
  await pass(context, 1000);
  assert.deepEqual([listener.posts, changes], [0, [undefined]]);
  listener.lines = '';
  await gains.restore();
  await pass(context, 1000);
  assert.deepEqual([listener.posts, listener.lines], [1, 'bob\tmute\n']);
  gains.mute('bob', false);
  assert.deepEqual(changes.slice(1), ['bob']);
});

test('change that could not be sent because the line was down is sent when the stream works again', async (context) => {
  const { gains } = start(context, 'bob\tmute\n');
  await gains.restore();
  listener.isDown = true;
  gains.mute('carol', true);
  await pass(context, 60000);
  assert.ok(gains.isMuted('carol'));
  listener.isDown = false;
  await gains.restore();
  await pass(context, 1000);
  assert.deepEqual([gains.isMuted('carol'), listener.lines], [true, 'bob\tmute\ncarol\tmute\n']);
});

test('changes before the listener has told its gains are kept and sent', async (context) => {
  const { gains } = start(context, 'bob\tmute\ndave\t-6.0\nerin\tmute\n');
  listener.isDown = true;
  gains.mute('carol', true);
  gains.mute('bob', false);
  gains.setVolume('dave', 100);
  await pass(context, 1000);
  listener.isDown = false;
  await gains.restore();
  assert.deepEqual(['bob', 'carol', 'erin'].map((name) => gains.isMuted(name)), [false, true, true]);
  await pass(context, 1000);
  assert.equal(listener.lines, 'carol\tmute\nerin\tmute\n');
  // The listener has accepted that carol and erin are muted. So these changes no longer override a change that another page makes now.
  listener.lines = 'erin\tmute\n';
  gains.forget();
  await gains.restore();
  assert.ok(!gains.isMuted('carol') && gains.isMuted('erin'));
});

test('change that the user makes while a refused one is undone is kept', async (context) => {
  const { gains } = start(context, '');
  await gains.restore();
  listener.refuses = true;
  gains.mute('carol', true);
  await pass(context, 8200);
  assert.equal(listener.posts, 4);
  const { fetch } = globalThis;
  globalThis.fetch = async (url, options) => {
    const answer = await fetch(url, options);
    if (!options?.method) gains.mute('bob', true);
    return answer;
  };
  await pass(context, 2200);
  globalThis.fetch = fetch;
  listener.refuses = false;
  await pass(context, 1000);
  assert.ok(gains.isMuted('bob') && listener.lines.includes('bob\tmute'), listener.lines);
});
