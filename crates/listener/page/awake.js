/**
 * Keeps the browser and the phone's screen awake while somebody is in the room: a Web Lock spares the page Chrome's
 * energy saver (a frozen page hears nothing), a wake lock keeps the screen on. Both are wishes; neither is waited for.
 */

let release = null;
let screenLock = null;

/** Begins to hold both. */
export function stayAwake() {
  letSleep();
  const held = new Promise((resolve) => { release = resolve; });
  navigator.locks?.request('palabre-in-a-room', { mode: 'shared' }, () => held).catch(() => {});
  document.addEventListener('visibilitychange', holdScreen);
  holdScreen();
}

/** Gives both back. */
export function letSleep() {
  release?.();
  release = null;
  document.removeEventListener('visibilitychange', holdScreen);
  screenLock?.release().catch(() => {});
  screenLock = null;
}

/** The browser takes the screen's lock away whenever the page is hidden. */
async function holdScreen() {
  if (document.visibilityState !== 'visible' || !navigator.wakeLock) return;
  try {
    const lock = await navigator.wakeLock.request('screen');
    if (release) screenLock = lock;
    else lock.release();
  } catch {
    // A low battery may refuse it.
  }
}
