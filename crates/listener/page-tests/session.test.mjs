import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { devices, hello, locks, moved, opened, page, reset, send, settle, shown, sound } from './browser.mjs';

const { ContextOwner } = await import('../page/audio/context.js');
const { Session } = await import('../page/room/session.js');

const ME = { name: 'alice', room: 'main', rate_hz: 24000, chunk_ms: 40 };
const HEADSET = { kind: 'audiooutput', deviceId: 'headset', groupId: 'headset' };

beforeEach(reset);

function session(renewCost) {
  const changes = [];
  const faults = [];
  const tabs = [];
  const texts = [];
  const session = new Session(ME, { muted: false, volume: 1, postOnly: false, renewCost }, {
    onChange: () => changes.push(session.state),
    onFault: (what) => faults.push(what),
    onOtherTab: () => tabs.push('other'),
    onPeak() {}, onMe() {}, onRoom() {}, onStates() {}, onLevels() {}, onTexts: (some) => texts.push(...some.map(({ text }) => text)),
  });
  return Object.assign(session, { changes, faults, tabs, texts });
}

/** Returns a session whose stream has begun. */
async function joined(renewCost) {
  const stay = session(renewCost);
  stay.join();
  await settle();
  send(opened.frames[0], hello(1));
  send(opened.frames[0], sound(100));
  await settle();
  return stay;
}

test('session waits for the microphone from its first change on', async () => {
  const stay = session();
  stay.setMode('voice');
  assert.equal(stay.changes[0].microphone, 'asking');
});

test('joining tells the presence once', async () => {
  const stay = await joined();
  assert.deepEqual(shown(), [{ microphone: 'open', weak: false }], 'another page may have raised the hand');
  stay.leave();
});

test('weak connection is told to the others until it ends', async () => {
  const stay = await joined();
  for (const weak of [true, false]) {
    stay.setWeak(weak);
    await settle();
  }
  assert.deepEqual(shown().map(({ weak }) => weak), [false, true, false]);
  stay.leave();
});

test('presence is told again to the next process after a handover, once', async () => {
  const stay = await joined();
  stay.setHand(true);
  await settle();
  send(opened.frames[0], moved(101, 0));
  send(opened.frames[1], hello(102));
  await settle();
  assert.equal(shown().length, 2, 'not before the next process has the stream');
  send(opened.frames[0], moved(103, 1));
  send(opened.frames[1], sound(140));
  await settle();
  assert.deepEqual(shown().slice(2), [{ hand: true, microphone: 'open', weak: false }]);
  stay.leave();
});

test('presence is told again to a new process that a broken uplink revealed, although the stream stayed live', async () => {
  const stay = await joined();
  const states = new Set();
  stay.setHand(true);
  await settle();
  opened.sockets[0].readyState = 1;
  opened.sockets[0].onopen();
  opened.sockets[0].onclose({ code: 1006 });
  // The last record of the killed listener process arrives after its WebSocket was closed.
  send(opened.frames[0], sound(140));
  for (const { connection } of stay.changes) states.add(connection);
  send(opened.frames[1], hello(150));
  await settle();
  assert.deepEqual([...states], ['live']);
  assert.deepEqual(shown().slice(2), [{ hand: true, microphone: 'open', weak: false }]);
  stay.leave();
});

test('text with an ID is taken also after records with a higher SEQ, because it may have been missed', async () => {
  const stay = await joined();
  const json = (value) => Buffer.from(JSON.stringify(value)).toString('base64');
  send(opened.frames[0], `4,101,${json({ from: 'bob', text: 'first' })}`);
  send(opened.frames[0], `4,101,${json({ from: 'bob', text: 'again, without ID' })}`);
  send(opened.frames[0], `4,50,${json({ from: 'bob', text: 'late', id: '1' })}`);
  send(opened.frames[0], `7,50,${json({ messages: [{ from: 'bob', text: 'kept', id: '2', age_ms: 1 }] })}`);
  assert.deepEqual(stay.texts, ['first', 'late', 'kept']);
  stay.leave();
});

test('presence is not told again when a frame is only renewed', async () => {
  const stay = await joined(9000);
  send(opened.frames[0], sound(140));
  send(opened.frames[1], hello(141));
  send(opened.frames[1], sound(140));
  assert.ok(opened.frames[0].removed);
  await settle();
  assert.equal(shown().length, 1);
  stay.leave();
});

test('presence told to the previous process while the next one took over is told again', async () => {
  const stay = await joined();
  const answers = [];
  const { fetch } = globalThis;
  globalThis.fetch = (url, options) => {
    fetch(url, options);
    return new Promise((resolve) => { answers.push(() => resolve({ ok: true, status: 204 })); });
  };
  stay.setHand(true);
  await settle();
  send(opened.frames[0], moved(101, 1));
  send(opened.frames[1], hello(102));
  answers[0]();
  await settle();
  globalThis.fetch = fetch;
  await new Promise((resolve) => { setTimeout(resolve); });
  await settle();
  assert.deepEqual(shown().slice(1), Array(2).fill({ hand: true, microphone: 'open', weak: false }));
  stay.leave();
});

test('a participant who may only listen from now on has no microphone, and opens it themselves when they may speak again', async () => {
  const stay = await joined();
  assert.equal(stay.state.microphone, 'on');
  send(opened.frames[0], moved(101, 0));
  send(opened.frames[1], hello(102, { listen_only: true }));
  send(opened.frames[0], moved(103, 1));
  send(opened.frames[1], sound(140));
  await settle();
  assert.deepEqual([stay.state.microphone, stay.state.uplink], ['off', 'off']);
  assert.ok(opened.tracks.every((track) => track.stopped));
  send(opened.frames[1], hello(104));
  await settle();
  assert.equal(stay.state.microphone, 'off');
  stay.askAgain();
  await settle();
  assert.equal(stay.state.microphone, 'on');
  stay.leave();
});

/** Starts a ContextOwner; returns it and the faults it reports. */
async function sounding() {
  const faults = [];
  const owner = new ContextOwner([], { onContext() {}, onState() {}, onFault: (what) => faults.push(what) });
  owner.start('playback');
  await settle();
  return { owner, faults };
}

test('no AudioContext is created after leaving, whatever the devices and the old context do', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  devices.list = [{ ...HEADSET, deviceId: 'built-in' }];
  const { owner, faults } = await sounding();
  const [old] = opened.contexts;
  devices.list.push(HEADSET);
  devices.dispatch('devicechange');
  owner.stop();
  await settle();
  old.onerror();
  old.onstatechange();
  page.dispatch('visibilitychange');
  owner.wake();
  owner.setOutput('headset');
  await settle();
  context.mock.timers.tick(60000);
  await settle();
  assert.equal(opened.contexts.length, 1);
  assert.deepEqual(faults, []);
});

test('an AudioContext is created again while in the room, after an error and after a change of devices', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  devices.list = [{ ...HEADSET, deviceId: 'built-in' }];
  const { owner } = await sounding();
  opened.contexts[0].onerror();
  context.mock.timers.tick(1000);
  await settle();
  devices.list = [...devices.list, HEADSET];
  devices.dispatch('devicechange');
  await settle();
  context.mock.timers.tick(1000);
  assert.equal(opened.contexts.length, 3);
  owner.stop();
});

test('leaving sends no presence, and neither does a permission prompt that is answered afterwards', async () => {
  let refuse;
  devices.answer = () => new Promise((_, reject) => { refuse = () => reject(new DOMException('no', 'NotAllowedError')); });
  const stay = await joined();
  const before = shown().length;
  stay.leave();
  await settle();
  const changes = stay.changes.length;
  refuse();
  await settle();
  assert.equal(shown().length, before);
  assert.equal(stay.changes.length, changes);
  assert.deepEqual(stay.faults, []);
});

test('microphone granted after leaving is released', async () => {
  let grant;
  const granted = devices.answer;
  devices.answer = () => new Promise((resolve) => { grant = async () => resolve(await granted()); });
  const stay = await joined();
  stay.leave();
  await grant();
  await settle();
  assert.deepEqual(opened.tracks.map(({ stopped }) => stopped), [true]);
  assert.equal(opened.sockets.length, 0);
});

test('presence that waits for its retry is not sent after leaving', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  const stay = await joined();
  const { fetch } = globalThis;
  globalThis.fetch = async (url, options) => {
    fetch(url, options);
    return { ok: false, status: 503 };
  };
  stay.setHand(true);
  await settle();
  const before = shown().length;
  stay.leave();
  context.mock.timers.tick(60000);
  await settle();
  globalThis.fetch = fetch;
  assert.equal(shown().length, before);
});

test('screen lock granted after leaving is released', async () => {
  const locks = [];
  navigator.wakeLock = {
    request: () => new Promise((resolve) => {
      const lock = { grant: () => resolve(lock), release: async () => { lock.released = true; } };
      locks.push(lock);
    }),
  };
  const first = await joined();
  first.leave();
  const second = session();
  second.join();
  locks[0].grant();
  locks[1].grant();
  await settle();
  second.leave();
  assert.deepEqual(locks.map(({ released }) => released), [true, true]);
  delete navigator.wakeLock;
});

test('microphone that the system mutes is shown as muted until the system unmutes it', async () => {
  const stay = await joined();
  const [track] = opened.tracks;
  for (const muted of [true, false]) {
    track.muted = muted;
    track[muted ? 'onmute' : 'onunmute']();
    await settle();
    assert.deepEqual([stay.state.systemMuted, stay.state.muted], [muted, false]);
  }
  assert.deepEqual(shown().map(({ microphone }) => microphone), ['open', 'muted', 'open']);
  stay.leave();
});

test('microphone that is muted when it is opened is shown as muted, and its events count only while it is used', async () => {
  const answer = devices.answer;
  devices.answer = async () => {
    const given = await answer();
    given.getTracks()[0].muted = opened.tracks.length === 1;
    return given;
  };
  const stay = await joined();
  assert.deepEqual(shown().at(-1), { microphone: 'muted', weak: false });
  stay.renewMicrophone();
  await settle();
  assert.equal(stay.state.systemMuted, false);
  opened.tracks[0].onmute();
  assert.equal(stay.state.systemMuted, false, 'the old track is not used any more');
  stay.leave();
});

/** Delivers what the microphone's worklet says while the device delivers this peak, for these seconds. */
function hear(context, peak, seconds) {
  const { port } = opened.nodes.findLast((node) => node.port.sent.some(({ watched }) => watched));
  for (let n = 0; n < 5 * seconds; n += 1) {
    context.mock.timers.tick(200);
    port.onmessage({ data: { inputPeak: peak } });
  }
}

test('others see a silent microphone as muted until it delivers sound again', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  const stay = await joined();
  let now = performance.now();
  context.mock.method(performance, 'now', () => now);
  for (const [peak, silent] of [[0, true], [0.01, false]]) {
    for (let n = 0; n < 30; n += 1) {
      now += 200;
      hear(context, peak, 0.2);
      send(opened.frames[0], sound(200 + Math.round(now)));
    }
    await settle();
    assert.equal(stay.state.silent, silent);
  }
  assert.deepEqual(shown().map(({ microphone }) => microphone), ['open', 'muted', 'open']);
  stay.leave();
});

test('muted user who talks, or holds the talk key, is told so until unmuting', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  const stay = await joined();
  stay.setMuted(true);
  context.mock.timers.tick(1000);
  assert.equal(opened.tracks[0].enabled, true, 'a disabled track could not tell that the user talks');
  hear(context, 0.1, 2);
  assert.equal(stay.state.talkingMuted, true);
  stay.setMuted(false);
  assert.equal(stay.state.talkingMuted, false);
  stay.setMode('talk');
  stay.setMuted(true);
  assert.equal(stay.hold(true), true);
  hear(context, 0, 0.2);
  assert.deepEqual([stay.state.held, stay.state.talkingMuted], [false, true]);
  stay.leave();
});

test('page follows the hand that another page raises, but not the echo of its own', async (context) => {
  const now = performance.now();
  context.mock.method(performance, 'now', () => now);
  const stay = await joined();
  const see = (hand) => { stay.seenAs({ hand, muted: false, listening: false }); return stay.state.hand; };
  assert.equal(see(false), false);
  stay.setHand(true);
  stay.setHand(false);
  assert.deepEqual([see(true), see(false)], [false, false], 'both were raised and lowered here');
  context.mock.method(performance, 'now', () => now + 5000);
  assert.deepEqual([see(true), see(false)], [true, true], 'a killed process may have forgotten the hand for a moment');
  stay.leave();
});

test('only the page whose user has raised or lowered the hand tells the listener about it, with its ID', async () => {
  const stay = await joined();
  stay.seenAs({ hand: true, muted: false, listening: false });
  stay.setMuted(true);
  await settle();
  assert.deepEqual([stay.state.hand, shown().at(-1)], [true, { microphone: 'muted', weak: false }]);
  for (const hand of [false, true]) {
    stay.setHand(hand);
    await settle();
    assert.equal(shown().at(-1).hand, hand);
  }
  const { page: of } = Object.fromEntries(new URL(opened.frames[0].src, 'https://localhost').searchParams);
  assert.equal(opened.requests.at(-1).url, `show?page=${of}`);
  stay.leave();
});

test('microphone is muted, and sends nothing, from the end of its listener until the user unmutes in the other room', async () => {
  const stay = await joined();
  const { port } = opened.nodes.findLast((node) => node.port.sent.some(({ watched }) => watched));
  const sent = [];
  opened.sockets[0].readyState = 1;
  opened.sockets[0].onopen();
  opened.sockets[0].send = () => sent.push('chunk');
  const speak = () => port.onmessage({ data: { samples: Int16Array.of(1), firstMs: 0, nowMs: 0, peak: 0.1 } });
  speak();
  send(opened.frames[0], moved(101, 1));
  speak();
  send(opened.frames[1], hello(102, { ...ME, room: 'other' }));
  speak();
  assert.deepEqual([sent.length, stay.state.muted, stay.state.mutedBecause], [1, true, 'moved']);
  const socket = opened.sockets.at(-1);
  Object.assign(socket, { readyState: 1, send: () => sent.push('chunk') });
  socket.onopen();
  stay.setMuted(false);
  speak();
  assert.deepEqual([sent.length, stay.state.mutedBecause], [2, '']);
  stay.leave();
});

test('microphone is muted before the first chunk after a sleep of the computer, but not with push to talk', async (context) => {
  for (const mode of ['open', 'talk']) {
    const stay = await joined();
    stay.setMode(mode);
    const { port } = opened.nodes.findLast((node) => node.port.sent.some(({ watched }) => watched));
    const [{ now }, socket] = [Date, opened.sockets.at(-1)];
    const sent = [];
    Object.assign(socket, { readyState: 1, send: () => sent.push('chunk') });
    socket.onopen();
    stay.hold(true);
    context.mock.method(Date, 'now', () => now() + 90000);
    port.onmessage({ data: { samples: Int16Array.of(1), firstMs: 0, nowMs: 0, peak: 0.1 } });
    context.mock.restoreAll();
    const expected = mode === 'open' ? [0, true, 'away', false] : [0, false, '', false];
    assert.deepEqual([sent.length, stay.state.muted, stay.state.mutedBecause, stay.state.held], expected);
    stay.leave();
    reset();
  }
});

test('sound that waits for the network is not sent after an absence', async (context) => {
  for (const wasAway of [false, true]) {
    const stay = await joined();
    const { port } = opened.nodes.findLast((node) => node.port.sent.some(({ watched }) => watched));
    const [{ now }, socket] = [Date, opened.sockets.at(-1)];
    const speak = () => port.onmessage({ data: { samples: Int16Array.of(1), firstMs: performance.now(), nowMs: performance.now(), peak: 0.1 } });
    speak();
    if (wasAway) context.mock.method(Date, 'now', () => now() + 90000);
    speak();
    context.mock.restoreAll();
    const sent = [];
    Object.assign(socket, { readyState: 1, send: () => sent.push('chunk') });
    socket.onopen();
    assert.deepEqual([sent.length > 0, stay.state.muted], [!wasAway, wasAway]);
    stay.leave();
    reset();
  }
});

/** Joins in another tab at the same address. */
function joinInAnotherTab() {
  navigator.locks.request('palabre /', { steal: true }, () => new Promise(() => {})).catch(() => {});
}

test('tab is told once that its participant has joined in another tab', async () => {
  const stay = await joined();
  assert.equal(locks.names.at(-1), 'palabre /');
  joinInAnotherTab();
  joinInAnotherTab();
  await settle();
  assert.deepEqual(stay.tabs, ['other']);
  stay.leave();
});

test('tab that left, or joined again, is not told that it has joined in another tab', async () => {
  const first = await joined();
  first.leave();
  const second = await joined();
  await settle();
  second.leave();
  joinInAnotherTab();
  await settle();
  assert.deepEqual([first.tabs, second.tabs], [[], []]);
});

test('microphone that is opened again is not taken back from a newer page', async () => {
  const stay = await joined();
  opened.sockets[0].onclose({ code: 4001 });
  assert.equal(stay.state.uplink, 'taken');
  opened.tracks[0].onended();
  await settle();
  assert.deepEqual([stay.state.microphone, stay.state.uplink, opened.tracks.length, opened.sockets.length], ['on', 'taken', 2, 1]);
  stay.takeBack();
  assert.equal(opened.sockets.length, 2);
  stay.leave();
});
