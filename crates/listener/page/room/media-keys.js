/**
 * The keys of headsets and of the lock screen (Media Session): play and pause, or the key for the microphone, mute and unmute; the key that
 * hangs up leaves the room.
 *
 * Browsers give the keys only to a page that plays an audio element, not to one that only has an AudioContext. So a silent element plays in
 * the room. Nothing depends on it: a browser may refuse to play it.
 */

import { writeWav } from '../base/wav.js';

/** Chromium ignores elements of 5 s and less. */
const SILENCE_S = 10;
const RATE_HZ = 8000;
const MUTE_KEYS = ['play', 'pause', 'togglemicrophone'];

let element = null;
/** What the lock screen shows; undefined if nothing yet. */
let shown;

/**
 * Takes the keys, and plays the silent element. Call only in a click: browsers let sound start only there.
 * @param {string} room its name, which the lock screen shows
 * @param {{mute: () => void, leave: () => void}} actions
 */
export function startMediaKeys(room, { mute, leave }) {
  if (!navigator.mediaSession || element) return;
  const silence = new Blob([writeWav([new Int16Array(SILENCE_S * RATE_HZ)], RATE_HZ)], { type: 'audio/wav' });
  element = new Audio(URL.createObjectURL(silence));
  element.loop = true;
  shown = undefined;
  element.play().catch(() => {});
  navigator.mediaSession.metadata = new MediaMetadata({ title: room, artist: 'Palabre' });
  for (const key of MUTE_KEYS) setAction(key, mute);
  setAction('hangup', leave);
}

/** @param {boolean} open whether the participant can be heard; the lock screen then shows a pause key */
export function showMediaMicrophone(open) {
  if (!element || shown === open) return;
  shown = open;
  navigator.mediaSession.playbackState = open ? 'playing' : 'paused';
  navigator.mediaSession.setMicrophoneActive?.(open)?.catch?.(() => {});
}

/** Releases the keys, and stops the silent element. */
export function stopMediaKeys() {
  if (!element) return;
  for (const key of [...MUTE_KEYS, 'hangup']) setAction(key, null);
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
