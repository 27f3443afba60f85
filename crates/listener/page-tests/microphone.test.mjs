import assert from 'node:assert/strict';
import { test } from 'node:test';
import { advice } from '../page/microphone/advice.js';
import { ClockMap } from '../page/microphone/clock-map.js';
import { ErrorLog, browserName, figuresToReport } from '../page/room/diagnostics.js';
import { shortcutOf, talkKeyOf } from '../page/view/keyboard.js';
import { SilenceProbe } from '../page/microphone/silence-probe.js';
import { VoiceGate } from '../page/microphone/voice-gate.js';
import { MicrophoneWatch } from '../page/microphone/watch.js';

const RATE = 24000;
const FRAMES = 960;

/** Returns the n-th chunk of 40 ms, with samples of ±`level`. */
function chunk(n, level) {
  return { samples: Int16Array.from({ length: FRAMES }, (_, i) => (i % 2 ? level : -level)), wallMs: 40 * n };
}

/** Returns how many samples the gate sends for each of the chunks with these levels. */
function sent(gate, levels) {
  return levels.map((level, n) => gate.push(chunk(n, level)).reduce((sum, { samples }) => sum + samples.length, 0));
}

test('gate of an open microphone passes every chunk unchanged', () => {
  const gate = new VoiceGate(RATE);
  const [one, two] = [chunk(0, 0), chunk(1, 9000)];
  assert.deepEqual([gate.push(one), gate.push(two)], [[one], [two]]);
});

test('voice activation sends a pre-roll, holds over a pause and fades the end', () => {
  const gate = Object.assign(new VoiceGate(RATE), { mode: 'voice' });
  const levels = [20, 20, 20, 4000, 4000, ...Array(20).fill(20)];
  const out = sent(gate, levels);
  assert.deepEqual(out.slice(0, 4), [0, 0, 0, FRAMES + 480]);
  assert.equal(out.lastIndexOf(FRAMES), 4 + 12, 'held for half a second after the last voice');
  assert.equal(out[17], 120, 'then fades for 5 ms');
  assert.equal(out.slice(18).reduce((a, b) => a + b), 0);
});

test('push to talk fades in and out and keeps the order', () => {
  const gate = Object.assign(new VoiceGate(RATE), { mode: 'talk' });
  assert.deepEqual(gate.push(chunk(0, 9000)), []);
  gate.held = true;
  const [first] = gate.push(chunk(1, 9000));
  assert.deepEqual([Math.abs(first.samples[0]), first.wallMs], [0, 40]);
  gate.held = false;
  const [last] = gate.push(chunk(2, 9000));
  assert.ok(Math.abs(last.samples.at(-1)) < 100 && last.samples.length === 120);
  assert.deepEqual(gate.push(chunk(3, 9000)), []);
});

test('constant noise does not open the gate', () => {
  const gate = Object.assign(new VoiceGate(RATE), { mode: 'voice' });
  const out = sent(gate, Array(1500).fill(400));
  assert.equal(out.at(-1), 0);
});

test('shortcuts work on buttons but not in text fields and not with modifiers', () => {
  const within = (selector) => ({ closest: (list) => (list.includes(selector) ? {} : null) });
  assert.equal(shortcutOf({ key: 'm', target: within('body') }), 'mute');
  assert.equal(shortcutOf({ key: ' ', code: 'Space' }), 'talk');
  assert.equal(shortcutOf({ key: ' ' }), 'talk');
  assert.equal(shortcutOf({ key: 'H' }), 'hand');
  assert.equal(shortcutOf({ key: 'x' }), null);
  assert.equal(shortcutOf({ key: 'm', ctrlKey: true }), null);
  for (const selector of ['textarea', 'select', 'input:not']) assert.equal(shortcutOf({ key: 'm', target: within(selector) }), null);
  for (const [key, effect] of [['m', 'mute'], ['h', 'hand'], ['?', 'keys']]) assert.equal(shortcutOf({ key, target: within('button') }), effect);
});

test('talk key talks on a button unless the keyboard moved the focus there, and types in text fields', () => {
  const within = (selector) => ({ closest: (list) => (list.includes(selector) ? {} : null) });
  const space = { key: ' ', code: 'Space', target: within('button') };
  assert.equal(shortcutOf(space), 'talk');
  assert.equal(shortcutOf(space, { byKeyboard: true }), null);
  assert.equal(shortcutOf({ ...space, target: within('body') }, { byKeyboard: true }), 'talk');
  assert.equal(shortcutOf({ ...space, target: within('textarea') }), null);
  const talkKey = talkKeyOf({ key: 'F8', code: 'F8' });
  assert.equal(shortcutOf({ key: 'F8', code: 'F8', target: within('textarea') }, { talkKey, byKeyboard: true }), 'talk');
  assert.equal(shortcutOf(space, { talkKey }), null);
  for (const key of ['m', 'Tab', 'Enter', 'Escape', 'Shift']) assert.equal(talkKeyOf({ key, code: key }), null);
});

/** Returns what the watch says after each of these peaks, one every 200 ms. */
function watched(watch, peaks, { muted = false, byKey = false, fromMs = 0 } = {}) {
  return peaks.map((peak, n) => watch.heard(peak, muted, byKey, fromMs + 200 * n));
}

test('open microphone that delivers only zeros is silent after 5 s, until the first other sample', () => {
  const watch = new MicrophoneWatch();
  const out = watched(watch, [0.1, ...Array(30).fill(0), 1e-7]).map(({ silent }) => silent);
  assert.deepEqual([out.indexOf(true), out.lastIndexOf(true), out.at(-1)], [25, 30, false]);
  assert.ok(watched(new MicrophoneWatch(), Array(100).fill(0), { muted: true }).every(({ silent }) => !silent), 'muted');
});

test('open microphone whose sound is as low as the noise of echo cancellation is faint after 5 s', () => {
  const out = watched(new MicrophoneWatch(), [0.1, ...Array(30).fill(0.0004), 0.002]).map(({ faint }) => faint);
  assert.deepEqual([out.indexOf(true), out.lastIndexOf(true), out.at(-1)], [25, 30, false]);
  assert.ok(watched(new MicrophoneWatch(), Array(100).fill(0), { muted: true }).every(({ faint }) => !faint), 'muted');
});

/** Returns a probe, a function that begins it at a time, the function that reports a peak, and the tracks that the browser has opened for it. */
function probing() {
  const line = { tracks: [], ended: 0 };
  const getUserMedia = async ({ audio }) => {
    if (line.refuses) throw new DOMException('busy', 'NotReadableError');
    line.asked = audio;
    const track = { stop: () => { track.stopped = true; } };
    line.tracks.push(track);
    return { getTracks: () => [track] };
  };
  Object.defineProperty(globalThis, 'navigator', { configurable: true, value: { userAgentData: { mobile: false }, mediaDevices: { getUserMedia } } });
  const probe = new SilenceProbe((media, onPeak) => {
    line.hear = (peak, times = 1) => { for (let i = 0; i < times; i += 1) onPeak(peak); };
    return () => { line.ended += 1; };
  });
  const track = { getSettings: () => ({ deviceId: 'usb', echoCancellation: line.echo ?? true }) };
  return Object.assign(line, { probe, look: (nowMs) => probe.look(track, nowMs) });
}

test('device whose unprocessed sound is only zeros for 3 s is silent until its first other sample', async () => {
  const line = probing();
  await line.look(0);
  assert.deepEqual([line.asked.deviceId, line.asked.echoCancellation], [{ exact: 'usb' }, false]);
  line.hear(0, 14);
  assert.equal(line.probe.silent, false);
  line.hear(0);
  await line.look(60_000);
  assert.deepEqual([line.probe.silent, line.tracks.length], [true, 1], 'a silent device stays open');
  line.hear(1e-5);
  assert.deepEqual([line.probe.silent, line.tracks[0].stopped, line.ended], [false, true, 1]);
  await line.look(61_000);
  line.hear(0.0001);
  await line.look(120_000);
  assert.equal(line.tracks.length, 2, 'a device in a quiet room is opened once a minute');
  const later = line.look(121_000);
  line.probe.end();
  await later;
  assert.ok(line.tracks.every(({ stopped }) => stopped), 'also a device that the browser opens after the end');
});

test('probe is not believed again after the microphone was heard meanwhile, nor after the browser refused it, nor used without echo cancellation', async () => {
  const line = probing();
  await line.look(0);
  line.hear(0, 20);
  line.probe.heard();
  await line.look(90_000);
  const other = Object.assign(probing(), { refuses: true });
  await other.look(0);
  other.refuses = false;
  await other.look(90_000);
  const unprocessed = Object.assign(probing(), { echo: false });
  await unprocessed.look(0);
  assert.deepEqual([line, other, unprocessed].map(({ tracks }) => tracks.length), [1, 0, 0]);
});

test('talking while muted is noticed within a second and reported until 5 s after its end', () => {
  const watch = new MicrophoneWatch();
  const quiet = 0.001;
  const out = watched(watch, [...Array(10).fill(quiet), ...Array(8).fill(0.1), ...Array(40).fill(quiet)], { muted: true });
  const talking = out.map((say) => say.talking);
  assert.deepEqual([talking.indexOf(true), talking.lastIndexOf(true)], [13, 17 + 24]);
  const cough = watched(new MicrophoneWatch(), [quiet, 0.3, 0.3, 0.1, ...Array(20).fill(quiet)], { muted: true });
  const noise = watched(new MicrophoneWatch(), Array(100).fill(0.03), { muted: true });
  const inTalkMode = watched(new MicrophoneWatch(), Array(20).fill(0.1), { muted: true, byKey: true });
  for (const other of [cough, noise.slice(60), inTalkMode, watched(watch, [0.1], { fromMs: 12000 })]) assert.ok(other.every((say) => !say.talking));
});

test('advice differs for a silent, a blocked and a wrong microphone', () => {
  const line = { state: 'on', systemMuted: false, listenedMs: 4000, peak: 0, label: 'USB', isDefault: false, others: 0 };
  assert.equal(advice({ ...line, state: 'refused' }), 'adviceBlocked');
  assert.equal(advice({ ...line, systemMuted: true }), 'adviceSystemMuted');
  assert.equal(advice(line), 'adviceSilent');
  assert.equal(advice({ ...line, isDefault: true, others: 1 }), 'adviceSilentDefault');
  assert.equal(advice({ ...line, listenedMs: 100 }), 'adviceSpeak');
  assert.equal(advice({ ...line, peak: 0.01 }), 'adviceQuiet');
  assert.equal(advice({ ...line, peak: 0.3 }), 'adviceGood');
  assert.equal(advice({ ...line, peak: 0.3, label: 'Monitor of Speakers' }), 'adviceNotAMicrophone');
});

test('error log keeps the last errors, shortened, and counts repeated ones', () => {
  const page = new EventTarget();
  const errors = new ErrorLog(page);
  page.dispatchEvent(Object.assign(new Event('error'), { message: 'x is undefined' }));
  page.dispatchEvent(Object.assign(new Event('unhandledrejection'), { reason: new TypeError('no') }));
  for (let i = 0; i < 100; i += 1) errors.add('stream: lost');
  const words = () => errors.last.map((error) => error.replace(/^\d\d:\d\d:\d\d /, ''));
  assert.deepEqual(words(), ['x is undefined', 'no', 'stream: lost (100 times)']);
  errors.add('no');
  for (let i = 0; i < 4; i += 1) errors.add(`${i}${'y'.repeat(1000)}`);
  assert.deepEqual(words().map((error) => error.slice(0, 4)), ['no (', '0yyy', '1yyy', '2yyy', '3yyy']);
  assert.ok(errors.last.every((error) => error.length < 160));
});

test('report has whole numbers and a short name of the browser', () => {
  const chromium = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36';
  assert.equal(browserName(chromium), 'Chromium 156, Linux');
  assert.equal(browserName('Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0'), 'Firefox 153, Linux');
  assert.equal(browserName(''), 'unknown');
  const body = figuresToReport({ depthMs: 51.6, outputMs: 40, underruns: NaN, contextRate: 48000, browser: 'x', errors: [] });
  assert.deepEqual([body.codec, figuresToReport({ codec: 'x' }).codec], ['PCM 16', 'x']);
  assert.deepEqual([body.delay_ms, body.depth_ms, body.underruns, body.rate_hz, body.lost], [92, 52, 0, 48000, 0]);
});

/**
 * Sends a message every 40 ms for 20 s. After 10 s the sound card stands still for `pauseMs`. The message n is delivered `delayMs(n)` late.
 * @returns {number[]} by how many ms the capture time of each message is wrong
 */
function clockErrors(pauseMs, delayMs) {
  const clock = new ClockMap();
  let arrivalMs = 0;
  return Array.from({ length: 500 }, (_, n) => {
    const [cardMs, wallMs] = [40 * n, 1e12 + 40 * n + (n < 250 ? 0 : pauseMs)];
    arrivalMs = Math.max(arrivalMs, wallMs + delayMs(n));
    clock.observe(cardMs, arrivalMs);
    return Math.abs(clock.wallMs(cardMs) - wallMs);
  });
}

test('capture times are right again 150 ms after the sound card stood still', () => {
  for (const pauseMs of [150, 350, 600, 3000, 3_600_000]) {
    const errors = clockErrors(pauseMs, (n) => (13 * n) % 20);
    const late = errors.map((errorMs, n) => (errorMs > 20 ? n : 0)).filter(Boolean);
    assert.deepEqual(late.filter((n) => n < 250 || n > 253), [], `${pauseMs} ms`);
  }
});

test('messages that the page handles late do not change capture times', () => {
  const errors = clockErrors(0, (n) => (n % 100 === 50 ? 900 : 0));
  assert.ok(Math.max(...errors) < 1, `${Math.max(...errors)}`);
});
