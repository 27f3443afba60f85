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

/** Releases both locks, and a screen wake lock that the browser grants after this call. */
export function releaseWakeLocks() {
  release?.();
  release = null;
  document.removeEventListener('visibilitychange', lockScreen);
  screenLock?.release().catch(() => {});
  screenLock = null;
}

/** Requests the screen wake lock while the page is visible: browsers release that lock whenever the page is hidden. */
async function lockScreen() {
  if (document.visibilityState !== 'visible' || !navigator.wakeLock) return;
  const requester = release;
  try {
    const lock = await navigator.wakeLock.request('screen');
    if (release !== null && release === requester) screenLock = lock;
    else lock.release().catch(() => {});
  } catch {
    // The browser refused the lock, for example because the battery is low.
  }
}
