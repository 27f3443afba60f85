/**
 * Microphones and loudspeakers: which there are, which was chosen, and how the microphone is to be processed. What was chosen
 * is remembered; a device that is gone is no fault, the browser then takes another.
 */

import { recall, remember } from './settings.js';

const SWITCHES = ['echo', 'noise', 'gain'];

/** @returns {Promise<{inputs: MediaDeviceInfo[], outputs: MediaDeviceInfo[]}>} only those that have a name */
export async function listDevices() {
  const all = await navigator.mediaDevices?.enumerateDevices().catch(() => []) ?? [];
  const known = (kind) => all.filter((device) => device.kind === kind && device.deviceId && device.label);
  return { inputs: known('audioinput'), outputs: known('audiooutput') };
}

/** @param {'input' | 'output'} kind; @returns {string} the chosen device, empty for the browser's own choice */
export function chosen(kind) {
  return recall(kind) ?? '';
}

/** @param {'input' | 'output'} kind; @param {string} deviceId */
export function choose(kind, deviceId) {
  remember(kind, deviceId);
}

/** @param {string} name one of echo, noise, gain; @returns {boolean} */
export function isOn(name) {
  return recall(name) !== 'no';
}

/** @param {string} name; @param {boolean} on */
export function switchTo(name, on) {
  remember(name, on ? 'yes' : 'no');
}

/**
 * @param {boolean} [levelled] whether the room brings voices to one loudness: two who do the same would fight
 * @returns {MediaTrackConstraints} how the microphone is to be processed
 */
export function processing(levelled = false) {
  const [echo, noise, gain] = SWITCHES.map(isOn);
  return {
    channelCount: 1,
    // All sound of the machine where a browser can; one that knows only true and false takes this for true.
    echoCancellation: echo ? { ideal: 'all' } : false,
    noiseSuppression: noise,
    autoGainControl: gain && !levelled,
  };
}

/**
 * @param {boolean} [levelled] see {@link processing}
 * @returns {Promise<MediaStream>} the microphone that was chosen, or another if that is gone
 */
export async function openMicrophone(levelled = false) {
  const audio = processing(levelled);
  const device = chosen('input');
  if (!device) return open(audio);
  try {
    // Chromium passes over a device that is merely wished for.
    return await open({ ...audio, deviceId: { exact: device } });
  } catch (error) {
    if (error.name !== 'OverconstrainedError') throw error;
    return open(audio);
  }
}

/** In the way that every browser understands. */
async function open(audio) {
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    if (!(error instanceof TypeError) || !audio.echoCancellation) throw error;
    return navigator.mediaDevices.getUserMedia({ audio: { ...audio, echoCancellation: true } });
  }
}
