import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PlayerCore } from '../page/player-core.js';

const RATE_HZ = 24000;
const CONTEXT_HZ = 48000;
const CHUNK_MS = 40;

/** A repeatable source of chance (mulberry32). */
function chance(seed) {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function chunkOf(signal, index) {
  const n = (RATE_HZ * CHUNK_MS) / 1000;
  return Int16Array.from({ length: n }, (_, i) => Math.round(32767 * signal((index * n + i) / RATE_HZ)));
}

/**
 * Plays `seconds` of `signal` over a network that delays chunk k by delayMs(k) and never reorders.
 * @returns {{out: Float32Array, player: PlayerCore, reports: object[]}}
 */
function play({ seconds, signal, delayMs, ppm = 0, contextHz = CONTEXT_HZ, at = () => {} }) {
  const player = new PlayerCore({ streamRateHz: RATE_HZ, contextRateHz: contextHz, chunkMs: CHUNK_MS });
  const out = new Float32Array(Math.floor((seconds * contextHz) / 128) * 128);
  const reports = [];
  let next = 0;
  let arrivesMs = -1;
  for (let frame = 0; frame < out.length; frame += 128) {
    const nowMs = (frame * 1000) / contextHz;
    for (;;) {
      const sentMs = ((next + 1) * CHUNK_MS) / (1 + ppm / 1e6);
      arrivesMs = Math.max(arrivesMs, sentMs + delayMs(next));
      if (arrivesMs > nowMs) break;
      player.push(chunkOf(signal, next), next === 0);
      next += 1;
    }
    at(player, nowMs);
    player.render(out.subarray(frame, frame + 128));
    if (frame % 48000 < 128) reports.push({ nowMs, ...player.report });
  }
  return { out, player, reports };
}

const hum = (t) => 0.5 * Math.sin(2 * Math.PI * 200 * t);

/** The largest bend of the wave: a click is a corner, so it shows here long before it shows in the steps. */
function sharpest(out) {
  let most = 0;
  for (let i = 2; i < out.length; i += 1) most = Math.max(most, Math.abs(out[i] - 2 * out[i - 1] + out[i - 2]));
  return most;
}

/** The hum's own largest bend at the context's rate is 0.5·(2π·200/48000)² = 0.00034; a click of 1 % would be 0.01. */
const NO_CLICK = 0.004;

test('an even network plays on without underrun, cut or bend', () => {
  const { player, out } = play({ seconds: 20, signal: hum, delayMs: () => 3 });
  assert.equal(player.report.underruns, 0);
  assert.equal(player.report.cuts, 0);
  assert.equal(player.report.speed, 1);
  assert.ok(sharpest(out) < NO_CLICK, `${sharpest(out)}`);
  assert.ok(Math.abs(player.report.lowMs - 25) < 4, `${player.report.lowMs}`);
});

test('equal rates play the very samples that were sent', () => {
  const signal = (t) => 0.4 * Math.sin(2 * Math.PI * 331 * t) + 0.3 * Math.sin(2 * Math.PI * 4999 * t);
  const { out } = play({ seconds: 3, signal, delayMs: () => 5, contextHz: RATE_HZ });
  const sent = Array.from({ length: 100 }, (_, k) => Array.from(chunkOf(signal, k), (s) => s / 32768)).flat();
  const from = 12000;
  const shift = sent.findIndex((_, i) => sent[i] === out[from] && sent[i + 1] === out[from + 1] && sent[i + 2] === out[from + 2]);
  assert.ok(shift > 0);
  assert.deepEqual(Array.from(out.slice(from, from + 48000)), sent.slice(shift, shift + 48000));
});

test('a jittering network underruns seldom and never clicks', () => {
  const random = chance(1);
  const { player, out } = play({ seconds: 60, signal: hum, delayMs: () => -15 * Math.log(1 - random()) });
  assert.ok(player.report.underruns < 8, `${player.report.underruns}`);
  assert.ok(sharpest(out) < NO_CLICK, `${sharpest(out)}`);
  assert.ok(player.report.marginMs > 25);
});

test('what came before us is not played: the first seconds are cut to the newest', () => {
  const { player, out } = play({ seconds: 10, signal: hum, delayMs: (k) => (k < 12 ? 500 : 3) });
  assert.ok(player.report.lowMs < 46, `${player.report.lowMs}`);
  assert.ok(sharpest(out) < NO_CLICK, `${sharpest(out)}`);
});

test('a stall of 300 ms fades, refills and loses nothing that arrives', () => {
  const { player, out } = play({ seconds: 15, signal: hum, delayMs: (k) => (k === 200 ? 300 : 3) });
  assert.equal(player.report.underruns, 1);
  assert.equal(player.report.cuts, 0);
  assert.ok(player.report.lowMs > 280);
  assert.ok(sharpest(out) < NO_CLICK, `${sharpest(out)}`);
});

test('a stall of a second is cut back to the newest without a click', () => {
  const { player, out } = play({ seconds: 15, signal: hum, delayMs: (k) => (k === 200 ? 1000 : 3) });
  assert.equal(player.report.cuts, 1);
  assert.ok(player.report.lowMs < 80, `${player.report.lowMs}`);
  assert.ok(sharpest(out) < NO_CLICK, `${sharpest(out)}`);
});

test('a surplus goes in the next pause of the speech', () => {
  const speech = (t) => (t % 3 < 2 ? hum(t) : 0.0005 * Math.sin(2 * Math.PI * 90 * t));
  const { player, out } = play({ seconds: 30, signal: speech, delayMs: (k) => (k === 200 ? 300 : 3) });
  assert.ok(player.report.lowMs < 45, `${player.report.lowMs}`);
  assert.ok(sharpest(out) < NO_CLICK * 2, `${sharpest(out)}`);
});

for (const ppm of [200, -200]) {
  test(`a sender's clock of ${ppm} ppm is followed for ten minutes`, () => {
    const random = chance(7);
    const { player, reports } = play({ seconds: 600, signal: hum, delayMs: () => 6 * random(), ppm });
    assert.equal(player.report.underruns, 0);
    const late = reports.filter((r) => r.nowMs > 30000);
    assert.ok(late.every((r) => r.lowMs > 5 && r.lowMs < 55), `${Math.min(...late.map((r) => r.lowMs))} ${Math.max(...late.map((r) => r.lowMs))}`);
    assert.ok(late.filter((r) => r.speed === 1).length > late.length / 3);
  });
}

test('announced silence is no underrun and the next spurt is primed anew', () => {
  const player = new PlayerCore({ streamRateHz: RATE_HZ, contextRateHz: CONTEXT_HZ, chunkMs: CHUNK_MS });
  const out = new Float32Array(128);
  for (let spurt = 0; spurt < 3; spurt += 1) {
    player.push(chunkOf(hum, 0), true);
    player.render(out);
    assert.equal(player.report.state, 'priming');
    player.silence();
    for (let i = 0; i < 100; i += 1) player.render(out);
    assert.equal(player.report.state, 'idle');
  }
  assert.equal(player.report.underruns, 0);
});
