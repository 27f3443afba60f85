/**
 * Microphones and loudspeakers: which there are, which was chosen, and how the microphone is to be processed. What was chosen
 * is remembered; a device that is gone is no fault, the browser then takes another.
 */

import { recall, remember } from './settings.js';

const SWITCHES = ['echo', 'noise', 'gain'];

/** @returns {boolean} whether this browser lets one choose where the sound goes */
export function outputsCanBeChosen() {
  return typeof AudioContext !== 'undefined' && 'setSinkId' in AudioContext.prototype;
}

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
 * @returns {MediaTrackConstraints} what the microphone is asked for
 */
export function wishes(levelled = false) {
  const [echo, noise, gain] = SWITCHES.map(isOn);
  const device = chosen('input');
  return {
    channelCount: 1,
    // All sound of the machine where a browser can; one that knows only true and false takes this for true.
    echoCancellation: echo ? { ideal: 'all' } : false,
    noiseSuppression: noise,
    autoGainControl: gain && !levelled,
    ...(device ? { deviceId: { ideal: device } } : {}),
  };
}

/**
 * @param {boolean} [levelled] see {@link wishes}
 * @returns {Promise<MediaStream>} the microphone as it is wished for, in the way that every browser understands
 */
export async function openMicrophone(levelled = false) {
  const audio = wishes(levelled);
  try {
    return await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    if (!(error instanceof TypeError) || !audio.echoCancellation) throw error;
    return navigator.mediaDevices.getUserMedia({ audio: { ...audio, echoCancellation: true } });
  }
}
