/**
 * Lists microphones and loudspeakers, stores the chosen ones, and opens the microphone with the chosen processing. If a chosen device
 * is gone, the browser's default is used.
 */

import { recall, remember } from '../base/storage.js';

const SWITCHES = ['echo', 'noise', 'gain'];

/** @returns {Promise<{inputs: MediaDeviceInfo[], outputs: MediaDeviceInfo[]}>} the devices that have a label */
export async function listDevices() {
  const all = await navigator.mediaDevices?.enumerateDevices().catch(() => []) ?? [];
  const labelled = (kind) => all.filter((device) => device.kind === kind && device.deviceId && device.label);
  return { inputs: labelled('audioinput'), outputs: labelled('audiooutput') };
}

/** @param {'input' | 'output'} kind; @returns {string} the ID of the chosen device, empty for the system default */
export function chosen(kind) {
  return recall(kind) ?? '';
}

/** @param {'input' | 'output'} kind; @param {string} deviceId */
export function choose(kind, deviceId) {
  remember(kind, deviceId);
}

/** @param {string} name one of echo, noise, gain, warn; @returns {boolean} */
export function isOn(name) {
  return recall(name) !== 'no';
}

/** @param {string} name; @param {boolean} on */
export function switchTo(name, on) {
  remember(name, on ? 'yes' : 'no');
}

/**
 * @param {boolean} [levelled] whether the mixer levels voices; the browser's own gain control would work against it
 * @returns {MediaTrackConstraints} the microphone's processing
 */
export function processing(levelled = false) {
  const [echo, noise, gain] = SWITCHES.map(isOn);
  return {
    channelCount: 1,
    // The value 'all' asks the browser to remove every sound that the computer plays from the microphone's sound. Browsers that know only booleans
    // treat 'all' as true.
    echoCancellation: echo ? { ideal: 'all' } : false,
    noiseSuppression: noise,
    autoGainControl: gain && !levelled,
  };
}

/**
 * @param {boolean} [levelled] see {@link processing}
 * @returns {Promise<MediaStream>} the chosen microphone, or the default microphone if the chosen one is gone
 */
export async function openMicrophone(levelled = false) {
  const audio = processing(levelled);
  const device = chosen('input');
  if (!device) return open(audio);
  try {
    // Chromium ignores a device that is only `ideal`.
    return await open({ ...audio, deviceId: { exact: device } });
  } catch (error) {
    if (error.name !== 'OverconstrainedError') throw error;
    return open(audio);
  }
}

/** Opens the microphone; falls back to boolean constraints where the browser rejects others. */
async function open(audio) {
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    if (!(error instanceof TypeError) || !audio.echoCancellation) throw error;
    return navigator.mediaDevices.getUserMedia({ audio: { ...audio, echoCancellation: true } });
  }
}
