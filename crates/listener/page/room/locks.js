/**
 * Holds a Web Lock and a screen wake lock while the participant is in the room. The Web Lock keeps Chrome's energy saver from
 * freezing the page, which would stop the sound. It is exclusive, so only one tab of a browser is in the room. A browser opens at most six
 * connections to a host, and each tab in the room needs one all the time, so the seventh tab could not even load its page. The screen wake
 * lock keeps the screen on. Both locks may be refused, and nothing waits for them.
 */

let release = null;
let screenLock = null;

/**
 * Requests both locks. The newest tab gets the Web Lock.
 * @param {() => void} onTaken another tab of this browser, at the same address, has taken the Web Lock
 */
export function holdLocks(onTaken) {
  releaseLocks();
  const held = new Promise((resolve) => { release = resolve; });
  const requester = release;
  const { pathname } = new URL('./', document.baseURI);
  navigator.locks?.request(`palabre ${pathname}`, { steal: true }, () => held).catch(({ name }) => {
    if (name === 'AbortError' && release === requester) onTaken();
  });
  document.addEventListener('visibilitychange', lockScreen);
  lockScreen();
}

/** Releases both locks, and a screen wake lock that the browser grants after this call. */
export function releaseLocks() {
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
    // The browser refused to keep the screen on, for example because the battery is low.
  }
}
