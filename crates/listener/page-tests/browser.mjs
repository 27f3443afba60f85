/**
 * Simulates a browser's frames, sockets, requests and sound card for tests of a whole Session. Import this file before the page's modules.
 */

import { writeWav } from '../page/base/wav.js';

/** Everything that the page has opened, oldest first. */
export const opened = { frames: [], sockets: [], requests: [], contexts: [], tracks: [], nodes: [] };

class FakeTarget extends EventTarget {
  dispatch(type) {
    this.dispatchEvent(new Event(type));
  }
}

class FakeContext {
  state = 'running';
  currentTime = 0;
  sampleRate = 48000;
  destination = {};
  audioWorklet = { addModule: async () => {} };
  constructor() { opened.contexts.push(this); }
  async resume() {}
  async close() { this.state = 'closed'; }
}

class FakeNode {
  port = { sent: [], postMessage(message) { this.sent.push(message); } };
  constructor() { opened.nodes.push(this); }
  gain = { setTargetAtTime() {} };
  connect(target) { return target; }
  disconnect() {}
}

class FakeSocket {
  static OPEN = 1;
  readyState = 0;
  bufferedAmount = 0;
  constructor() { opened.sockets.push(this); }
  send() {}
  close() { this.closed = true; }
}

/** Simulated navigator.mediaDevices; a test sets `answer` to the function that getUserMedia() runs. */
export const devices = Object.assign(new FakeTarget(), {
  list: [],
  answer: async () => media(),
  async enumerateDevices() { return this.list; },
  getUserMedia: async () => devices.answer(),
});

/** @returns {object} a simulated MediaStream with one track */
export function media() {
  const track = { enabled: true, muted: false, stop() { track.stopped = true; }, async applyConstraints() {} };
  opened.tracks.push(track);
  return { getTracks: () => [track], getAudioTracks: () => [track] };
}

/** Simulated Web Locks. A request for a lock takes it from its holder. */
export const locks = {
  names: [],
  request(name, { steal }, callback) {
    locks.names.push(name);
    if (!steal) return callback();
    locks.lose?.();
    return new Promise((resolve, reject) => {
      locks.lose = () => reject(new DOMException('stolen', 'AbortError'));
      callback().then(resolve);
    });
  },
};

/** The page's document; `visibilityState` may be set. */
export const page = Object.assign(new FakeTarget(), {
  baseURI: 'https://localhost:9001/',
  visibilityState: 'visible',
  body: { append() {} },
  createElement() {
    const frame = Object.assign(new FakeTarget(), { contentWindow: {}, remove() { frame.removed = true; } });
    opened.frames.push(frame);
    return frame;
  },
});

/** Returns the bodies of the requests to `/show`. */
export function shown() {
  return opened.requests.filter(({ url }) => url.startsWith('show?page=')).map(({ body }) => JSON.parse(body));
}

/** Lets pending promises settle. */
export async function settle() {
  for (let i = 0; i < 20; i += 1) await Promise.resolve();
}

/** Makes a frame send a record. */
export function send(frame, record) {
  window.palabre(frame.contentWindow, record);
}

export const hello = (seq, more) => `0,${seq},${btoa(JSON.stringify({ name: 'alice', room: 'main', rate_hz: 24000, chunk_ms: 40, ...more }))}`;
export const moved = (seq, last) => `5,${seq},${last}`;
export const sound = (seq) => `1,${seq},0,${Buffer.from(writeWav([Int16Array.of(1)], 24000)).toString('base64')},`;

/** Forgets everything that was opened, and starts with default devices. */
export function reset() {
  for (const list of Object.values(opened)) list.length = 0;
  devices.list = [];
  devices.answer = async () => media();
}

Object.assign(globalThis, {
  location: { pathname: '/' },
  document: page,
  window: Object.assign(new FakeTarget(), { AudioWorkletNode: FakeNode }),
  WebSocket: FakeSocket,
  AudioContext: FakeContext,
  AudioWorkletNode: FakeNode,
  GainNode: FakeNode,
  MediaStreamAudioSourceNode: FakeNode,
  HTMLMediaElement: class {},
  fetch: async (url, { body } = {}) => {
    opened.requests.push({ url: String(url), body });
    return { ok: true, status: 204, text: async () => '' };
  },
});
Object.defineProperty(globalThis, 'navigator', { configurable: true, value: { userAgent: '', mediaDevices: devices, locks } });
