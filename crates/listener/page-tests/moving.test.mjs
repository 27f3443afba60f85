import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { Stream } from '../page/stream.js';
import { Uplink } from '../page/uplink.js';
import { writeWav } from '../page/wav.js';

/** Frames as the page has opened them, oldest first; those that it has removed are marked. */
let frames;
/** Sockets likewise. */
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
    constructor() { sockets.push(this); }
    send() { this.sent += 1; }
    close(code) { this.closed = code ?? 1005; this.onclose?.({ code: this.closed }); }
    open() { this.readyState = 1; this.onopen(); }
  };
});

const say = (frame, record) => window.palabre(frame.contentWindow, record);
const hello = (seq) => `0,${seq},${btoa('{"name":"alice"}')}`;
const sound = (seq, gap = 0) => `1,${seq},${gap},${Buffer.from(writeWav([Int16Array.of(1)], 24000)).toString('base64')},`;

/** A stream that has said its first sound, and what its owner has heard. */
function streaming() {
  const heard = [];
  const stream = new Stream({
    onRecord: ({ kind, seq, gap }) => { if (kind === 'sound') heard.push(gap ? -seq : seq); },
    onMoved: () => heard.push('moved'),
    onState: () => {},
  });
  stream.start();
  say(frames[0], hello(1));
  say(frames[0], sound(100));
  return { stream, heard };
}

test('in a planned restart the one that leaves is heard to its last word, and then the next one', () => {
  const { stream, heard } = streaming();
  say(frames[0], '5,101,0');
  assert.equal(frames.length, 2);
  assert.match(frames[1].src, /from=100$/);
  say(frames[1], hello(102));
  say(frames[0], sound(140));
  // By another connection it may come a little earlier than what was said before it.
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

test('the next one takes over at its first word when the one that leaves has nothing to say any more', () => {
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

test('the next one does not wait for ever for the last word of the one that leaves, and the gap is known', () => {
  const { stream, heard } = streaming();
  say(frames[0], '5,101,0');
  say(frames[1], hello(102));
  for (const seq of [180, 220, 260, 300]) say(frames[1], sound(seq));
  assert.ok(frames[0].removed);
  assert.deepEqual(heard, [100, 'moved', -180, 220, 260, 300]);
  stream.stop();
});

test('a page that comes to the one that leaves asks again and hears it on', async () => {
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

test('the microphone speaks on until its next socket is open, and none of it is said twice or lost', () => {
  const states = [];
  const uplink = new Uplink({ onState: (state) => states.push(state), onBroken() {}, reachable: () => true }, false);
  const chunk = { samples: new Int16Array(960), wallMs: 0 };
  uplink.start();
  sockets[0].open();
  uplink.send(chunk);
  uplink.move();
  uplink.move();
  assert.equal(sockets.length, 2);
  uplink.send(chunk);
  sockets[1].open();
  assert.equal(sockets[0].closed, 1000);
  uplink.send(chunk);
  assert.deepEqual(sockets.map((socket) => socket.sent), [2, 1]);
  assert.deepEqual(states, ['connecting', 'open']);
  assert.deepEqual(uplink.counts, { sent: 3, droppedBefore: 0, reconnects: 0 });
  uplink.stop();
});

test('a microphone whose next socket cannot be opened is not lost with it', () => {
  const uplink = new Uplink({ onState() {}, onBroken() {}, reachable: () => true }, false);
  uplink.start();
  sockets[0].open();
  uplink.move();
  sockets[1].close(1006);
  assert.equal(uplink.state, 'open');
  uplink.send({ samples: new Int16Array(960), wallMs: 0 });
  assert.equal(sockets[0].sent, 1);
  uplink.move();
  assert.equal(sockets.length, 3);
  uplink.stop();
});
