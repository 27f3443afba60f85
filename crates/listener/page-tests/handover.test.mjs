import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { Stream } from '../page/stream/stream.js';
import { Uplink } from '../page/uplink/uplink.js';
import { writeWav } from '../page/base/wav.js';

// The Node.js of Debian 12 lacks ArrayBuffer.prototype.transfer, so this test defines it.
ArrayBuffer.prototype.transfer ??= function transfer() {
  return structuredClone(this, { transfer: [this] });
};

/** Frames that the page has opened, oldest first. */
let frames;
/** WebSockets that the page has opened, oldest first. */
let sockets;

beforeEach(() => {
  frames = [];
  sockets = [];
  globalThis.window = { addEventListener() {}, removeEventListener() {} };
  globalThis.document = {
    baseURI: 'https://localhost:9001/',
    createElement() {
      const frame = { contentWindow: {}, addEventListener() {}, remove() { frame.removed = true; } };
      frames.push(frame);
      return frame;
    },
    body: { append() {} },
  };
  globalThis.WebSocket = class {
    static OPEN = 1;
    readyState = 0;
    bufferedAmount = 0;
    sent = 0;
    messages = [];
    constructor() { sockets.push(this); }
    send(message) {
      this.sent += 1;
      this.messages.push({ message, firstSample: new DataView(message).getInt16(16, true) });
    }
    close(code) { this.closed = code ?? 1005; this.onclose?.({ code: this.closed }); }
    open() { this.readyState = 1; this.onopen(); }
  };
});

const say = (frame, record) => window.palabre(frame.contentWindow, record);
const hello = (seq) => `0,${seq},${btoa('{"name":"alice"}')}`;
const room = (seq, tag) => `3,${seq},${btoa('{"people":[]}')},//8A${tag && `,${tag}`}`;
const sound = (seq, gap = 0) => `1,${seq},${gap},${Buffer.from(writeWav([Int16Array.of(1)], 24000)).toString('base64')},`;

/** Returns a stream after its first sound, and the list of what it passes on: a negative SEQ has a gap. */
function streaming(renewCost) {
  const heard = [];
  const stream = new Stream({
    onRecord: ({ kind, seq, gap }) => { if (kind === 'sound') heard.push(gap ? -seq : seq); },
    onMoved: () => heard.push('moved'),
    onState: () => {},
  }, renewCost);
  stream.start();
  say(frames[0], hello(1));
  say(frames[0], sound(100));
  return { stream, heard };
}

test('in a handover all records of the previous process are taken before those of the next', () => {
  const { stream, heard } = streaming();
  say(frames[0], '5,101,0');
  assert.equal(frames.length, 2);
  assert.match(frames[1].src, /from=100$/);
  say(frames[1], hello(102));
  say(frames[0], sound(140));
  // A record of the next process may arrive before older records of the previous process.
  say(frames[1], sound(180));
  assert.ok(!frames[0].removed);
  say(frames[0], sound(160));
  say(frames[0], '5,161,1');
  assert.ok(frames[0].removed && !frames[1].removed);
  say(frames[1], sound(220));
  assert.deepEqual(heard, [100, 'moved', 140, 160, 180, 220]);
  assert.deepEqual([stream.counts.lost, stream.counts.renewals, stream.counts.reconnects], [0, 1, 0]);
  stream.stop();
});

test('request names the newest list of participants', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { stream } = streaming();
  const next = () => {
    say(frames.at(-1), '5,101,1');
    context.mock.timers.tick(100);
    say(frames.at(-1), hello(102));
    return frames.at(-1).src;
  };
  say(frames[0], room(2, '0123456789abcdef'));
  assert.equal(next(), `listen?page=${stream.page}&from=100&people=0123456789abcdef`);
  say(frames[1], room(3, 'fedcba9876543210'));
  say(frames[1], '6,4,//8A');
  assert.equal(next(), `listen?page=${stream.page}&from=100&people=fedcba9876543210`);
  say(frames[2], room(5, ''));
  assert.equal(next(), `listen?page=${stream.page}&from=100`, 'without a tag the list is requested each time');
  stream.stop();
});

test('next process takes over at its first record if the previous one has finished', () => {
  const { stream, heard } = streaming();
  say(frames[0], '5,101,0');
  say(frames[0], '5,141,1');
  assert.ok(!frames[0].removed);
  say(frames[1], hello(142));
  assert.ok(frames[0].removed);
  say(frames[1], sound(180));
  assert.deepEqual(heard, [100, 'moved', 180]);
  stream.stop();
});

test('next process takes over with a gap if the previous one never finishes', () => {
  const { stream, heard } = streaming();
  say(frames[0], '5,101,0');
  say(frames[1], hello(102));
  for (let seq = 180; !frames[0].removed; seq += 40) say(frames[1], sound(seq));
  assert.deepEqual(heard.slice(0, 4), [100, 'moved', -180, 220]);
  assert.ok(heard.length < 12);
  stream.stop();
});

test('request that reaches the previous process again is repeated', async () => {
  const { stream, heard } = streaming();
  say(frames[0], '5,101,0');
  say(frames[1], hello(102));
  say(frames[1], '5,103,1');
  assert.ok(frames[1].removed && !frames[0].removed);
  say(frames[0], sound(140));
  while (frames.length < 3) await new Promise((resolve) => { setTimeout(resolve, 5); });
  say(frames[0], '5,141,1');
  say(frames[2], hello(142));
  say(frames[2], sound(180));
  assert.ok(frames[0].removed);
  assert.deepEqual(heard, [100, 'moved', 140, 180]);
  stream.stop();
});

/** Returns the same as `streaming`, with a second frame that was opened to renew the first. */
function renewing() {
  const scene = streaming(9000);
  say(frames[0], sound(140));
  assert.equal(frames.length, 2);
  assert.doesNotMatch(frames[1].src, /from/, 'the address of a renewed stream never changes');
  say(frames[1], hello(141));
  return scene;
}

test('renewed frame takes over when both frames have sent the same sound', () => {
  for (const order of [[0, 1], [1, 0]]) {
    const { stream, heard } = renewing();
    say(frames[0], sound(180));
    for (const which of order) say(frames[which], sound(220, which));
    assert.ok(frames[0].removed, `${order}`);
    say(frames[1], sound(260));
    assert.deepEqual(heard, [100, 140, 180, 220, 260]);
    assert.deepEqual([stream.counts.lost, stream.counts.renewals], [0, 1]);
    stream.stop();
    frames = [];
  }
});

test('renewed frame takes over at once in silence, and with a gap if the old frame stopped', () => {
  const quiet = renewing();
  say(frames[1], '2,180,');
  assert.ok(frames[0].removed);
  quiet.stream.stop();
  frames = [];
  const { stream, heard } = renewing();
  for (let seq = 180; !frames[0].removed; seq += 40) say(frames[1], sound(seq));
  assert.deepEqual(heard.slice(0, 4), [100, 140, -180, 220]);
  assert.ok(heard.length < 12);
  stream.stop();
});

/** Returns a stream after its first sound, and the list of everything that it passes on from then on. */
function passingOn(renewCost) {
  const heard = [];
  const stream = new Stream({
    onRecord: ({ kind, seq, lost }) => heard.push(`${kind} ${seq}${lost ? ' lost' : ''}`),
    onMoved: () => {},
    onNewProcess: () => heard.push('new process'),
    onState: () => {},
  }, renewCost);
  stream.start();
  say(frames[0], hello(999_999));
  say(frames[0], sound(1_000_000));
  heard.length = 0;
  return { stream, heard };
}

const message = (seq) => `4,${seq},${btoa('{"from":"bob","text":"x"}')}`;

test('sound and messages are taken after a restart of the server has set the clock back', () => {
  const { stream, heard } = passingOn();
  stream.suspect();
  assert.match(frames[1].src, /from=1000000$/);
  for (const record of [hello(50), '2,51,', message(52), sound(90), sound(130)]) say(frames[1], record);
  assert.deepEqual(heard.filter((what) => what !== 'new process'), ['hello 50', 'silence 51', 'message 52', 'sound 90', 'sound 130']);
  assert.ok(heard.indexOf('new process') < heard.indexOf('silence 51'), 'the presence is told again');
  say(frames[1], sound(130));
  assert.equal(heard.at(-1), 'sound 130');
  assert.equal(stream.counts.chunks, 3, 'a record still counts once');
  stream.stop();
});

test('restart of the server while a frame is renewed does not make the page deaf', () => {
  const { stream, heard } = passingOn(9000);
  say(frames[0], sound(1_000_040));
  assert.doesNotMatch(frames[1].src, /from/);
  heard.length = 0;
  for (const record of [hello(50), sound(90), message(95), sound(130)]) say(frames[1], record);
  assert.ok(frames[0].removed);
  assert.deepEqual(heard, ['new process', 'hello 50', 'sound 90', 'message 95', 'sound 130']);
  stream.stop();
});

test('stream that begins with sound from the ring is no restart of the server', () => {
  const { stream, heard } = passingOn();
  stream.suspect();
  // The first iframe still receives chunks after the second one was opened, and the second one receives the same chunks again.
  for (const seq of [1_000_001, 1_000_041]) say(frames[0], sound(seq));
  for (const record of [hello(999_999), sound(1_000_001), sound(1_000_041), sound(1_000_081)]) say(frames[1], record);
  assert.deepEqual(heard.filter((what) => what.startsWith('sound')), ['sound 1000001', 'sound 1000041', 'sound 1000081']);
  stream.stop();
});

test('uplink moves to the next socket without losing or repeating a chunk', () => {
  const states = [];
  const uplink = new Uplink({ onState: (state) => states.push(state), onBroken() {}, reachable: () => true }, { room: 'a', postOnly: false });
  const chunk = () => ({ samples: new Int16Array(960), wallMs: performance.timeOrigin + performance.now() });
  uplink.start();
  sockets[0].open();
  uplink.send(chunk());
  uplink.move();
  uplink.move();
  assert.equal(sockets.length, 2);
  uplink.send(chunk());
  sockets[1].open();
  assert.equal(sockets[0].closed, 1000);
  uplink.send(chunk());
  assert.deepEqual(sockets.map((socket) => socket.sent), [2, 1]);
  assert.deepEqual(states, ['connecting', 'open']);
  assert.deepEqual(uplink.counts, { sent: 3, droppedBefore: 0, reconnects: 0 });
  uplink.stop();
});

test('uplink keeps its socket if the next one can not be opened', () => {
  const uplink = new Uplink({ onState() {}, onBroken() {}, reachable: () => true }, { room: 'a', postOnly: false });
  uplink.start();
  sockets[0].open();
  uplink.move();
  sockets[1].close(1006);
  assert.equal(uplink.state, 'open');
  uplink.send({ samples: new Int16Array(960), wallMs: performance.timeOrigin + performance.now() });
  assert.equal(sockets[0].sent, 1);
  uplink.move();
  assert.equal(sockets.length, 3);
  uplink.stop();
});

/** Returns the list of POSTs; each waits for its test to answer it. */
function answering() {
  const posts = [];
  globalThis.fetch = (url, { body }) => new Promise((resolve, reject) => {
    const samples = (body.byteLength - 44) / 2;
    const { searchParams } = new URL(url, 'https://localhost');
    posts.push({ room: searchParams.get('room'), t: Number(searchParams.get('t')), chunks: samples / 960, resolve, reject });
  });
  return posts;
}

const nowMs = () => performance.timeOrigin + performance.now();
const chunkOf = (wallMs) => ({ samples: new Int16Array(960), wallMs });

async function until(condition) {
  while (!condition()) await new Promise((resolve) => { setTimeout(resolve, 1); });
}

/** Returns an open uplink that uses POSTs in room `a`, the list of its POSTs, and the capture time of the first chunk. */
async function posting(onState = () => {}) {
  const posts = answering();
  const uplink = new Uplink({ onState, onBroken() {}, reachable: () => true }, { room: 'a', postOnly: true });
  uplink.start();
  await until(() => uplink.state === 'open');
  return { posts, uplink, first: Math.round(nowMs()) + 1000 };
}

test('chunks that a listener did not take are sent again with newer ones, unless they are old', async () => {
  const { posts, uplink, first } = await posting();
  uplink.send(chunkOf(first));
  uplink.send(chunkOf(first + 40));
  posts[0].resolve({ ok: false, status: 503 });
  await until(() => posts.length === 2);
  assert.deepEqual([posts[1].t, posts[1].chunks], [first, 2]);
  uplink.send(chunkOf(first + 80));
  posts[1].reject(new TypeError('reset'));
  await until(() => posts.length === 3);
  assert.deepEqual([posts[2].t, posts[2].chunks, uplink.counts.sent], [first, 3, 3]);
  posts[2].resolve({ ok: true, status: 204 });
  await until(() => uplink.state === 'open');
  uplink.send(chunkOf(nowMs() - 350));
  await until(() => posts.length === 4);
  uplink.send(chunkOf(first + 160));
  posts[3].resolve({ ok: false, status: 503 });
  await until(() => posts.length === 5);
  assert.deepEqual([posts[4].t, posts[4].chunks, uplink.dropped], [first + 160, 1, 1], 'the old chunk is dropped');
  posts[4].resolve({ ok: false, status: 413 });
  await until(() => uplink.counts.reconnects === 4);
  uplink.send(chunkOf(first + 200));
  await until(() => posts.length === 6);
  assert.deepEqual([posts[5].t, posts[5].chunks], [first + 200, 1], 'refused chunks are not sent again');
  posts[5].resolve({ ok: false, status: 409 });
  await until(() => uplink.state === 'taken');
  assert.equal(posts.length, 6);
  uplink.stop();
});

test('only the newest 300 ms wait for a connection', async () => {
  const { posts, uplink, first } = await posting();
  for (let i = 0; i < 6; i += 1) uplink.send(chunkOf(first + 40 * i));
  posts[0].reject(new TypeError('reset'));
  await until(() => uplink.state === 'connecting');
  for (let i = 6; i < 10; i += 1) uplink.send(chunkOf(first + 40 * i));
  await until(() => posts.length === 2);
  assert.deepEqual([posts[1].t, posts[1].chunks, uplink.dropped], [first + 120, 7, 3]);
  uplink.stop();
});

test('sound that was captured in one room is not sent into another', async () => {
  const { posts, uplink, first } = await posting();
  uplink.send(chunkOf(first));
  uplink.send(chunkOf(first + 40));
  posts[0].resolve({ ok: false, status: 412 });
  await until(() => uplink.state === 'connecting');
  uplink.send(chunkOf(first + 80));
  uplink.setRoom('b');
  await until(() => uplink.state === 'open');
  uplink.send(chunkOf(first + 120));
  assert.deepEqual(posts.map(({ room, t }) => [room, t]), [['a', first], ['b', first + 120]]);
  uplink.stop();
});

test('memory of sent chunks is released', () => {
  const uplink = new Uplink({ onState() {}, onBroken() {}, reachable: () => true }, { room: 'a', postOnly: false });
  uplink.start();
  sockets[0].open();
  const samples = Int16Array.of(7, 8, 9);
  uplink.send({ samples, wallMs: performance.timeOrigin + performance.now() });
  const [{ message, firstSample }] = sockets[0].messages;
  assert.equal(firstSample, 7);
  assert.deepEqual([message.byteLength, samples.length], [0, 0]);
  uplink.stop();
});
