/**
 * Keeps browser and screen awake while the participant is in the room. A Web Lock keeps Chrome's energy saver from freezing the page,
 * which would stop the sound; a screen wake lock keeps the screen on. Both may be refused, and nothing waits for them.
 */

let release = null;
let screenLock = null;

/** Requests both locks. */
export function holdWakeLocks() {
  releaseWakeLocks();
  const held = new Promise((resolve) => { release = resolve; });
  navigator.locks?.request('palabre-in-a-room', { mode: 'shared' }, () => held).catch(() => {});
  document.addEventListener('visibilitychange', lockScreen);
  lockScreen();
}

/** Releases both locks, also a screen lock that is granted later. */
export function releaseWakeLocks() {
  release?.();
  release = null;
  document.removeEventListener('visibilitychange', lockScreen);
  screenLock?.release().catch(() => {});
  screenLock = null;
}

/** Browsers release the screen lock whenever the page is hidden. */
async function lockScreen() {
  if (document.visibilityState !== 'visible' || !navigator.wakeLock) return;
  const requester = release;
  try {
    const lock = await navigator.wakeLock.request('screen');
    if (release !== null && release === requester) screenLock = lock;
    else lock.release().catch(() => {});
  } catch {
    // Refused, for example on a low battery.
  }
}
