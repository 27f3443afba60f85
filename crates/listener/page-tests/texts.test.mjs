import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settle } from './browser.mjs';

const { ReceivedTexts, TextQueue } = await import('../page/room/texts.js');

/** Returns a queue whose texts get the given answers in turn; then, and without an answer, they are accepted. */
function queue(answers = []) {
  const posts = [];
  const states = [];
  const clock = { nowMs: 0 };
  const post = async (text, id) => {
    posts.push(`${id} ${text}`);
    return answers.shift() ?? { status: 204 };
  };
  const texts = new TextQueue(post, (id, state) => states.push(`${id} ${state}`), () => clock.nowMs);
  return { texts, posts, states, clock };
}

test('texts are sent one after another, in order', async () => {
  const { texts, posts, states } = queue();
  for (const id of ['1', '2', '3']) texts.add('x', id);
  assert.deepEqual([posts, states], [['1 x'], ['1 sending', '2 sending', '3 sending']]);
  await settle();
  assert.deepEqual(posts, ['1 x', '2 x', '3 x']);
  assert.deepEqual(states.slice(3), ['1 sent', '2 sent', '3 sent']);
});

test('text above the rate limit is sent again with the same ID after the time that the listener gives', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { texts, posts, states } = queue([{ status: 204 }, { status: 429, retryAfterMs: 2000 }]);
  for (const id of ['1', '2', '3']) texts.add('x', id);
  await settle();
  t.mock.timers.tick(1999);
  await settle();
  assert.deepEqual(posts, ['1 x', '2 x']);
  t.mock.timers.tick(1);
  await settle();
  assert.deepEqual(posts, ['1 x', '2 x', '2 x', '3 x']);
  assert.deepEqual(states.slice(3), ['1 sent', '2 sent', '3 sent']);
});

test('text without an answer is sent again with the same ID, at once when the connection is back', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { texts, posts, states } = queue(Array(9).fill({}).concat({ status: 503 }));
  texts.add('x', '1');
  for (let i = 0; i < 8; i += 1) {
    await settle();
    t.mock.timers.tick(10000);
  }
  await settle();
  assert.equal(posts.length, 9);
  texts.wake();
  await settle();
  assert.equal(posts.length, 10);
  texts.wake();
  await settle();
  assert.deepEqual([posts.length, states], [11, ['1 sending', '1 sent']]);
  assert.ok(posts.every((post) => post === '1 x'));
});

test('text that cannot be sent fails after five minutes, or at once if it is refused, and the next one is sent', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { texts, states, clock } = queue([{}, { status: 409 }]);
  for (const id of ['1', '2', '3']) texts.add('x', id);
  await settle();
  clock.nowMs = 300001;
  t.mock.timers.tick(10000);
  await settle();
  assert.deepEqual(states.slice(3), ['1 failed', '2 failed', '3 failed']);
  texts.add('x', '2');
  texts.add('x', '3');
  await settle();
  assert.deepEqual(states.slice(6), ['2 sending', '3 sending', '2 failed', '3 sent']);
});

test('text that has arrived in the stream is not sent again', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { texts, posts } = queue([{}, {}]);
  texts.add('x', '1');
  texts.add('x', '2');
  await settle();
  t.mock.timers.tick(0);
  await settle();
  texts.remove('1');
  await settle();
  assert.deepEqual(posts, ['1 x', '1 x', '2 x']);
});

test('queue has a maximum length, and forgets its texts when the user leaves', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { texts, posts, states } = queue([{}]);
  for (let i = 0; !texts.isFull; i += 1) texts.add('x', String(i));
  assert.equal(states.length, 20);
  texts.clear();
  t.mock.timers.tick(10000);
  await settle();
  assert.deepEqual([posts.length, states.length, texts.isFull], [1, 20, false]);
  texts.add('x', 'later');
  await settle();
  assert.equal(posts.at(-1), 'later x');
});

test('text that is received again is recognised by its sender and its ID', () => {
  const received = new ReceivedTexts();
  const isNew = (from, id) => received.isNew(from, id);
  assert.deepEqual([isNew('bob', '1'), isNew('bob', '1'), isNew('carol', '1'), isNew('bob', '2')], [true, false, true, true]);
  assert.deepEqual([isNew('bob', undefined), isNew('bob', undefined)], [true, true]);
  for (let i = 0; i < 500; i += 1) isNew('dora', String(i));
  assert.equal(isNew('dora', '450'), false);
});
