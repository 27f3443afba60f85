import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PlayerCore } from '../page/player/player-core.js';

const RATE_HZ = 24000;
const CONTEXT_HZ = 48000;
const CHUNK_MS = 40;

/** A seeded random number generator (mulberry32). */
function randomFrom(seed) {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function chunkOf(signal, index, rateHz = RATE_HZ) {
  const n = (rateHz * CHUNK_MS) / 1000;
  return Int16Array.from({ length: n }, (_, i) => Math.round(32767 * signal((index * n + i) / rateHz)));
}

/**
 * Plays `seconds` of `signal` over a network that delays chunk k by delayMs(k) and never reorders.
 * @returns {{out: Float32Array, player: PlayerCore, reports: object[]}}
 */
function play({ seconds, signal, delayMs, ppm = 0, streamHz = RATE_HZ, contextHz = CONTEXT_HZ }) {
  const player = new PlayerCore({ streamRateHz: streamHz, contextRateHz: contextHz, chunkMs: CHUNK_MS });
  // Number of samples at the context's rate that last as long as 128 samples at 48 kHz.
  const quantum = Math.max(16, Math.round((128 * contextHz) / 48000));
  const out = new Float32Array(Math.floor((seconds * contextHz) / quantum) * quantum);
  const reports = [];
  let next = 0;
  let arrivesMs = -1;
  for (let frame = 0; frame < out.length; frame += quantum) {
    const nowMs = (frame * 1000) / contextHz;
    for (;;) {
      const sentMs = ((next + 1) * CHUNK_MS) / (1 + ppm / 1e6);
      arrivesMs = Math.max(arrivesMs, sentMs + delayMs(next));
      if (arrivesMs > nowMs) break;
      player.push(chunkOf(signal, next, streamHz), next === 0);
      next += 1;
    }
    player.render(out.subarray(frame, frame + quantum));
    if (frame % contextHz < quantum) reports.push({ nowMs, ...player.report });
  }
  return { out, player, reports };
}

const hum = (t) => 0.5 * Math.sin(2 * Math.PI * 200 * t);

/** Returns the largest second difference of the samples. A click is a corner of the wave, where this difference is large. */
function sharpest(out) {
  let most = 0;
  for (let i = 2; i < out.length; i += 1) most = Math.max(most, Math.abs(out[i] - 2 * out[i - 1] + out[i - 2]));
  return most;
}

/** Returns the largest deviation from a sine's recurrence after `fromS`, which a wrong phase causes, and the peak of the quietest 5 ms. */
function broken(out, contextHz, fromS) {
  const twoCos = 2 * Math.cos((2 * Math.PI * 200) / contextHz);
  let most = 0;
  for (let i = fromS * contextHz; i < out.length; i += 1) most = Math.max(most, Math.abs(out[i] - twoCos * out[i - 1] + out[i - 2]));
  const window = contextHz / 200;
  let quietest = 1;
  for (let i = fromS * contextHz; i + window <= out.length; i += window) {
    quietest = Math.min(quietest, Math.max(...out.subarray(i, i + window).map(Math.abs)));
  }
  return { most, quietest };
}

/** Limit for `sharpest`. The largest second difference of the hum itself is 0.5·(2π·200/48000)² = 0.00034; of a click of 1 %, 0.01. */
const NO_CLICK = 0.004;

/** Rates for long runs, which test timing and not sound: 8 kHz take a tenth of the time. The hum's second difference is then 0.012. */
const COARSE = { streamHz: 8000, contextHz: 8000 };
const NO_CLICK_COARSE = 0.03;

test('even network causes no underrun, cut or change of speed', () => {
  const { player, out } = play({ seconds: 20, signal: hum, delayMs: () => 3 });
  assert.equal(player.report.underruns, 0);
  assert.equal(player.report.cuts, 0);
  assert.equal(player.report.speed, 1);
  assert.ok(sharpest(out) < NO_CLICK, `${sharpest(out)}`);
  assert.ok(Math.abs(player.report.lowMs - 25) < 4, `${player.report.lowMs}`);
});

test('equal rates play the exact samples', () => {
  const signal = (t) => 0.4 * Math.sin(2 * Math.PI * 331 * t) + 0.3 * Math.sin(2 * Math.PI * 4999 * t);
  const { out } = play({ seconds: 3, signal, delayMs: () => 5, contextHz: RATE_HZ });
  const sent = Array.from({ length: 100 }, (_, k) => Array.from(chunkOf(signal, k), (s) => s / 32768)).flat();
  const from = 12000;
  const shift = sent.findIndex((_, i) => sent[i] === out[from] && sent[i + 1] === out[from + 1] && sent[i + 2] === out[from + 2]);
  assert.ok(shift > 0);
  assert.deepEqual(Array.from(out.slice(from, from + 48000)), sent.slice(shift, shift + 48000));
});

test('jitter causes few underruns and no click', () => {
  const random = randomFrom(1);
  const { player, out } = play({ seconds: 60, signal: hum, delayMs: () => -15 * Math.log(1 - random()) });
  assert.ok(player.report.underruns < 8, `${player.report.underruns}`);
  assert.ok(sharpest(out) < NO_CLICK, `${sharpest(out)}`);
  assert.ok(player.report.marginMs > 25);
});

test('chunks delayed by the start are cut in the first seconds', () => {
  const { player, out } = play({ seconds: 10, signal: hum, delayMs: (k) => (k < 12 ? 500 : 3) });
  assert.ok(player.report.lowMs < 46, `${player.report.lowMs}`);
  assert.ok(sharpest(out) < NO_CLICK, `${sharpest(out)}`);
});

// A tone without pauses is the hardest case: the player finds no silence that it can cut.
for (const stallMs of [300, 600, 1000, 2000, 4000]) {
  test(`delay is normal within 5 s after a stall of ${stallMs} ms, without a click`, () => {
    const { player, out, reports } = play({ seconds: 20, signal: hum, delayMs: (k) => (k === 200 ? stallMs : 3) });
    assert.equal(player.report.underruns, 1);
    const [before] = reports.filter((r) => r.nowMs > 7000);
    const [after] = reports.filter((r) => r.nowMs > 8040 + stallMs + 5000);
    assert.ok(after.surplusMs < 20 && after.depthMs < before.depthMs + 35, `${before.depthMs} ${after.depthMs} ${after.surplusMs}`);
    assert.ok(sharpest(out) < NO_CLICK, `${sharpest(out)}`);
    assert.ok(player.report.cuts < 25, `${player.report.cuts}`);
  });
}

test('splices cut whole periods of a tone', () => {
  const { out, player } = play({ seconds: 14, signal: hum, delayMs: (k) => (k === 200 ? 300 : 3) });
  assert.ok(player.report.splices > 5);
  const { most } = broken(out, CONTEXT_HZ, 8.6);
  assert.ok(most < 0.002, `${most}`);
});

for (const stallMs of [40, 60, 90]) {
  test(`chunk late by ${stallMs} ms is concealed at the tone's pitch and level`, () => {
    const { out, player } = play({ seconds: 14, signal: hum, delayMs: (k) => (k === 200 ? 3 + stallMs : 3) });
    const { underruns, stretches, stretchMs } = player.report;
    assert.equal(underruns, 0);
    assert.ok(stretches > 0 && stretchMs <= 80, `${stretches} ${stretchMs}`);
    const { most, quietest } = broken(out, CONTEXT_HZ, 7.9);
    assert.ok(most < 0.002 && quietest > 0.49, `${most} ${quietest}`);
  });
}

test('stall of half a second is a pause and not a hum', () => {
  const { out, player } = play({ seconds: 12, signal: hum, delayMs: (k) => (k === 200 ? 500 : 3) });
  assert.ok(player.report.stretchMs <= 80, `${player.report.stretchMs}`);
  assert.equal(player.report.underruns, 1);
  const silent = out.subarray(8.2 * CONTEXT_HZ, 8.5 * CONTEXT_HZ).filter((x) => x === 0).length;
  assert.ok(silent > 0.25 * CONTEXT_HZ, `${silent}`);
});

test('noise is concealed without a click or a gap', () => {
  const random = randomFrom(9);
  const noise = Float32Array.from({ length: 14 * RATE_HZ }, () => 0.3 * (random() - 0.5));
  const { out, player } = play({ seconds: 12, signal: (t) => noise[Math.round(t * RATE_HZ)], delayMs: (k) => (k === 200 ? 60 : 3), contextHz: RATE_HZ });
  assert.equal(player.report.underruns, 0);
  assert.ok(player.report.stretches > 0);
  for (let i = 7.9 * RATE_HZ; i < 9 * RATE_HZ; i += 120) {
    const piece = out.subarray(i, i + 120);
    const rms = Math.sqrt(piece.reduce((sum, x) => sum + x * x, 0) / 120);
    assert.ok(rms > 0.05 && rms < 0.15, `${i}: ${rms}`);
  }
});

test('surplus is cut in the next pause', () => {
  const speech = (t) => (t % 3 < 2 ? hum(t) : 0.0005 * Math.sin(2 * Math.PI * 90 * t));
  const { player, out } = play({ seconds: 30, signal: speech, delayMs: (k) => (k === 200 ? 300 : 3) });
  assert.ok(player.report.lowMs < 45, `${player.report.lowMs}`);
  assert.ok(sharpest(out) < NO_CLICK * 2, `${sharpest(out)}`);
});

/** Returns the words as ranges of frames: from the first loud frame to the last before a pause of 50 ms. */
function words(out, rateHz) {
  const found = [];
  let last = -Infinity;
  out.forEach((x, i) => {
    if (Math.abs(x) < 0.02) return;
    if (i - last > 0.05 * rateHz) found.push({ from: i, to: i });
    last = i;
    found.at(-1).to = i + 1;
  });
  return found;
}

/** Words of 1.2 s that begin and end at a crest of the wave, each followed by half a second of silence. */
const PERIOD_S = 1.7;
const sentence = (t) => (t % PERIOD_S < 1.2 ? 0.5 * Math.cos(2 * Math.PI * 200 * (t % PERIOD_S)) : 0);

for (const stallMs of [60, 150, 300]) {
  test(`surplus after a stall of ${stallMs} ms is cut in the next pause, and no word is cut`, () => {
    const delayMs = (k) => (k === 200 ? stallMs : 3);
    const { player, out, reports } = play({ seconds: 20, signal: sentence, delayMs, contextHz: RATE_HZ });
    const { cuts, cutMs, splices, surplusMs, lowMs } = player.report;
    assert.equal(splices, 0);
    assert.ok(surplusMs < 20 && lowMs < stallMs / 2 + 45, `${surplusMs} ${lowMs}`);
    const before = reports.find(({ nowMs }) => nowMs > 7900).cutMs;
    assert.ok(cuts < 6 && cutMs - before <= stallMs, `${cuts} cuts, ${cutMs} ms`);
    // The lengths of the words in the player's output are checked. Exceptions are the word during the stall, and the words of the first 2 s, which
    // the player may have cut.
    const whole = words(out, RATE_HZ).filter(({ from, to }) => from > 2 * RATE_HZ && to < 19.9 * RATE_HZ);
    const hurt = whole.filter(({ from, to }) => from < (8.1 + stallMs / 1000) * RATE_HZ && to > 7.9 * RATE_HZ);
    const lengthsMs = whole.filter((word) => !hurt.includes(word)).map(({ from, to }) => ((to - from) * 1000) / RATE_HZ);
    assert.ok(lengthsMs.length >= 8, `${lengthsMs}`);
    assert.ok(lengthsMs.every((ms) => Math.abs(ms - 1200) < 2.5), `${lengthsMs}`);
  });
}

test('surplus below 40 ms waits for a pause', () => {
  const delayMs = (k) => (k > 150 && k <= 200 ? 33 : 3);
  const { player, out } = play({ seconds: 16, signal: hum, delayMs, contextHz: RATE_HZ });
  const { cuts, splices, underruns } = player.report;
  assert.deepEqual([cuts, splices], [0, 0]);
  assert.ok(underruns <= 1);
  assert.ok(sharpest(out.slice(9 * RATE_HZ)) < 0.0015, 'nor joined');
});

for (const ppm of [300, -300]) {
  test(`a sender's clock of ${ppm} ppm is followed for ten minutes`, () => {
    const random = randomFrom(7);
    const { player, reports } = play({ seconds: 600, signal: hum, delayMs: () => 6 * random(), ppm, ...COARSE });
    assert.equal(player.report.underruns, 0);
    assert.equal(player.report.cuts, 0);
    const late = reports.filter((r) => r.nowMs > 30000);
    assert.ok(late.every((r) => r.lowMs > 3 && r.lowMs < 55), `${Math.min(...late.map((r) => r.lowMs))} ${Math.max(...late.map((r) => r.lowMs))}`);
    assert.ok(late.filter((r) => r.speed === 1).length > late.length / 3);
  });
}

test('margin shrinks to what a good line needs', () => {
  const random = randomFrom(3);
  const { player, reports } = play({ seconds: 60, signal: hum, delayMs: () => 3 * random() });
  assert.equal(player.report.underruns, 0);
  assert.ok(reports.at(-1).marginMs < 15, `${reports.at(-1).marginMs}`);
});

/** 50 ms of jitter, and one chunk in a hundred is delayed by a TCP retransmission of 200 ms. */
for (const seed of [1, 2, 3]) {
  test(`bad home line is learnt, then heard at most once in ten minutes (${seed})`, () => {
    const random = randomFrom(seed);
    const delayMs = () => 50 * random() + (random() < 0.01 ? 200 : 0);
    const { player, out, reports } = play({ seconds: 630, signal: hum, delayMs, ...COARSE });
    const learnt = reports.find((r) => r.nowMs > 30000);
    assert.ok(player.report.underruns - learnt.underruns <= 1, `${player.report.underruns - learnt.underruns}`);
    assert.ok(learnt.underruns < 9, `${learnt.underruns}`);
    const deepest = Math.max(...reports.filter((r) => r.nowMs > 30000).map((r) => r.depthMs));
    assert.ok(deepest < 400, `${deepest}`);
    assert.ok(sharpest(out) < NO_CLICK_COARSE, `${sharpest(out)}`);
  });
}

// After a pause of a clock, all later chunks are late by the same time. The cause is one of two: the server stood still while the sound card
// played on, or the sound card stood still and then rendered the missed time at once.
for (const pauseMs of [150, 350, 500, 600, 1500, 3000]) {
  test(`pause of ${pauseMs} ms of one of the clocks costs no sound and no delay`, () => {
    const { player, out, reports } = play({ seconds: 30, signal: hum, delayMs: (k) => 3 + (k < 250 ? 0 : pauseMs) });
    const [before, after] = [10_000, 14_000].map((ms) => reports.find(({ nowMs }) => nowMs >= ms));
    assert.ok(player.report.cutMs - before.cutMs < 30, `${player.report.cutMs - before.cutMs} ms are cut`);
    const silent = out.subarray(9 * CONTEXT_HZ).filter((x) => x === 0).length;
    assert.ok(silent <= ((pauseMs + 50) * CONTEXT_HZ) / 1000, `${(silent * 1000) / CONTEXT_HZ} ms are silent`);
    assert.ok(after.depthMs < before.depthMs + 35 && after.marginMs < 40, `${before.depthMs} ${after.depthMs} ${after.marginMs}`);
  });
}

test('line that has recovered is trusted after two minutes', () => {
  const random = randomFrom(5);
  const delayMs = (k) => (k < 1500 ? 100 * random() : 3 * random());
  const { reports } = play({ seconds: 240, signal: hum, delayMs, ...COARSE });
  const bad = reports.find((r) => r.nowMs > 55000);
  assert.ok(bad.marginMs > 80, `${bad.marginMs}`);
  assert.ok(reports.at(-1).marginMs < 25 && reports.at(-1).depthMs < 70, `${reports.at(-1).marginMs} ${reports.at(-1).depthMs}`);
});

test('one long outage does not change the margin', () => {
  const { reports } = play({ seconds: 40, signal: hum, delayMs: (k) => (k === 300 || k === 500 ? 1500 : 3) });
  assert.ok(reports.at(-1).marginMs < 50, `${reports.at(-1).marginMs}`);
});

for (const [streamHz, contextHz] of [[16000, 44100], [24000, 44100], [24000, 96000], [48000, 44100], [48000, 48000]]) {
  test(`${streamHz} Hz are played at ${contextHz} Hz without a click`, () => {
    const random = randomFrom(11);
    const { player, out } = play({ seconds: 20, signal: hum, delayMs: () => 10 * random(), streamHz, contextHz, ppm: 100 });
    assert.equal(player.report.underruns, 0);
    assert.ok(sharpest(out) < NO_CLICK, `${sharpest(out)}`);
    const second = out.slice(15 * contextHz, 16 * contextHz);
    const rms = Math.sqrt(second.reduce((sum, x) => sum + x * x, 0) / second.length);
    assert.ok(Math.abs(rms - 0.5 * Math.SQRT1_2) < 0.002, `${rms}`);
  });
}

test('short first chunk delays the start of a spurt, so that the following chunks come in time', () => {
  const player = new PlayerCore({ streamRateHz: RATE_HZ, contextRateHz: CONTEXT_HZ, chunkMs: 100 });
  const out = new Float32Array(480);
  player.push(new Int16Array(480).fill(1000), true);
  for (let ms = 0; ms < 2000; ms += 10) {
    if (ms % 100 === 0 && ms > 0) player.push(new Int16Array(2400).fill(1000), false);
    player.render(out);
  }
  assert.equal(player.report.underruns, 0);
  assert.equal(player.report.stretches, 0);
});

test('announced silence is no underrun, and the next spurt is primed again', () => {
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
