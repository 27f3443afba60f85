/**
 * The keys of headsets and of the lock screen (Media Session). The key for the microphone mutes and unmutes. The pause key mutes. The play key
 * unmutes only after the pause key has muted. The key that hangs up leaves the room.
 *
 * The system itself also sends pause, for example when a headset is unplugged. So pause never unmutes, and never takes the microphone from
 * another page.
 *
 * Browsers give the keys only to a page that plays an audio element, not to one that only has an AudioContext. So an element plays a sound
 * in the room that nobody can hear. Nothing depends on it: a browser may refuse to play it.
 */

import { writeWav } from '../base/wav.js';

/** Duration of the sound. Chromium ignores elements of 5 s and less. */
const HUM_S = 10;
const RATE_HZ = 8000;
/** Frequency of the sound: too low to be heard at this level. */
const HUM_HZ = 20;
/** Peak of the sound: -66 dBFS. Firefox gives no keys to an element that plays digital silence (HTMLMediaElement.cpp, AudibilityMonitor). */
const HUM_PEAK = 16;

let element = null;
/** What the lock screen shows; undefined if nothing yet. */
let shown;
let isPaused = false;

/**
 * Takes the keys, and plays the element. Call only in a click: browsers let sound start only there.
 * @param {string} room its name, which the lock screen shows
 * @param {{mute: () => void, leave: () => void}} actions
 */
export function startMediaKeys(room, { mute, leave }) {
  if (!navigator.mediaSession || element) return;
  const hum = Int16Array.from({ length: HUM_S * RATE_HZ }, (_, i) => Math.round(HUM_PEAK * Math.sin((2 * Math.PI * HUM_HZ * i) / RATE_HZ)));
  const sound = new Blob([writeWav([hum], RATE_HZ)], { type: 'audio/wav' });
  element = new Audio(URL.createObjectURL(sound));
  element.loop = true;
  shown = undefined;
  isPaused = false;
  element.play().catch(() => {});
  navigator.mediaSession.metadata = new MediaMetadata({ title: room, artist: 'Palabre' });
  setAction('togglemicrophone', mute);
  setAction('pause', () => {
    if (!shown) return;
    mute();
    isPaused = true;
  });
  setAction('play', () => {
    if (!shown && isPaused) mute();
  });
  setAction('hangup', leave);
}

/** @param {boolean} open whether the participant can be heard; the lock screen then shows a pause key */
export function showMediaMicrophone(open) {
  if (!element || shown === open) return;
  shown = open;
  if (open) isPaused = false;
  navigator.mediaSession.playbackState = open ? 'playing' : 'paused';
  navigator.mediaSession.setMicrophoneActive?.(open)?.catch?.(() => {});
}

/** Releases the keys, and stops the element. */
export function stopMediaKeys() {
  if (!element) return;
  for (const key of ['togglemicrophone', 'pause', 'play', 'hangup']) setAction(key, null);
  navigator.mediaSession.metadata = null;
  navigator.mediaSession.playbackState = 'none';
  element.pause();
  URL.revokeObjectURL(element.src);
  element = null;
}

function setAction(key, action) {
  try {
    navigator.mediaSession.setActionHandler(key, action);
  } catch {
    // The browser doesn't know this key.
  }
}
