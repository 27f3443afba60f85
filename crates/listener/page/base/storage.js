/**
 * Stores the page's settings in localStorage: mute, volume, language, devices, processing, microphone mode, talk key,
 * shortcuts, sound quality, when messages were last read, sounds and notifications.
 *
 * Keys include the path, so that participants behind one proxy don't share settings. Without storage the settings last until
 * the page is closed.
 */

const PREFIX = `palabre ${location.pathname} `;

/**
 * @param {string} name
 * @returns {string | null}
 */
export function recall(name) {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null;
  }
}

/**
 * @param {string} name
 * @param {string} value
 */
export function remember(name, value) {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // A private window may refuse to store the setting.
  }
}
