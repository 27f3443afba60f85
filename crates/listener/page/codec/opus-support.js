/**
 * Finds out whether the browser decodes Opus. A browser may claim it and fail, so a constant list of packets is decoded: 80 ms of a tone.
 */

import { readPackets } from '../base/packets.js';
import { OpusDecoder, claimsOpus } from './opus-decoder.js';

/** Four packets of 20 ms: a tone of 1 kHz with an amplitude of 0.5. */
const TONE = 'FACYn+FTAID8pHdSSQ5GGJ4B/w8rsRQAmJwFzl+/SQXdCOxyHxwv5hEQLNEUAJic1s0lK0ZtGVQ9/kajm3cTyDrRFACYnBzGgcVPUpCh/f/v5xfOZ5Vr0Q==';
const RATE_HZ = 24000;
/** Half of the timeout: Firefox starts a process for its first decoder. */
const START_MS = 5000;
/** Permitted RMS of the last 20 ms, whose exact value is 0.35. */
const RMS = { min: 0.25, max: 0.5 };

let tested = null;
let works = false;

/** @returns {Promise<boolean>} whether this browser decodes Opus correctly; the test runs once */
export function decodesOpus() {
  tested ??= test().catch(() => false);
  return tested;
}

/** @returns {boolean} whether the test has succeeded */
export function isKnownToDecode() {
  return works;
}

async function test() {
  if (!(await claimsOpus())) return false;
  const rms = await levelOfTone();
  works = rms > RMS.min && rms < RMS.max;
  return works;
}

function levelOfTone() {
  return new Promise((resolve, reject) => {
    const decoder = new OpusDecoder(RATE_HZ, reject, START_MS);
    const packets = readPackets(Uint8Array.from(atob(TONE), (c) => c.charCodeAt(0)));
    decoder.decode(packets, (samples) => {
      decoder.close();
      const last = samples.subarray(-RATE_HZ / 50);
      resolve(Math.sqrt(last.reduce((sum, x) => sum + (x / 32768) ** 2, 0) / last.length));
    });
  });
}
