/**
 * What the page remembers over a reload: mute, volume, language, devices, processing, when the microphone speaks, keys. One
 * participant has one origin (a port) or, behind a proxy, one path, and so a memory of their own. Where storage is forbidden it
 * just forgets.
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
    // Private windows may refuse; the page works without a memory.
  }
}
