/**
 * The keys of headsets and of the lock screen (Media Session). The key for the microphone mutes and unmutes. The pause key mutes. The play key
 * unmutes only after the pause key has muted. The key that hangs up leaves the room.
 *
 * The system itself also sends pause, for example when a headset is unplugged. So pause never unmutes, and never takes the microphone from
 * another page.
 *
 * Browsers give the keys only to a page that plays an audio element, not to one that only has an AudioContext. So a silent element plays in
 * the room. Nothing depends on it: a browser may refuse to play it.
 *
 * Firefox gives no keys to an element that was silent from the start (HTMLMediaElement.cpp, AudibilityMonitor). So there the element first plays a
 * tone that nobody can hear. A tone all the time would harm: echo cancellation would add noise to a microphone that delivers only zeros.
 */

import { writeWav } from '../base/wav.js';

/** Duration of the element's sound. Chromium ignores elements of 5 s and less. */
const SOUND_S = 10;
const RATE_HZ = 8000;
/** Frequency of the tone in Firefox. */
const TONE_HZ = 20;
/** Peak of the tone in Firefox: -66 dBFS. */
const TONE_PEAK = 16;
/** Time after which the element in Firefox is silent. */
const TONE_MS = 3000;

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
  const isFirefox = CSS.supports('-moz-appearance', 'none');
  const peak = isFirefox ? TONE_PEAK : 0;
  const samples = Int16Array.from({ length: SOUND_S * RATE_HZ }, (_, i) => peak * Math.sin((2 * Math.PI * TONE_HZ * i) / RATE_HZ));
  const begun = new Audio(URL.createObjectURL(new Blob([writeWav([samples], RATE_HZ)], { type: 'audio/wav' })));
  element = begun;
  if (isFirefox) setTimeout(() => { begun.volume = 0; }, TONE_MS);
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
    // The browser doesn't know this media key.
  }
}
