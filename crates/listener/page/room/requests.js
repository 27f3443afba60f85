/**
 * The small requests besides the sound (docs/injected-stream.md): messages, personal gains, presence, the display name, and
 * reports about the connection. Sound never waits for them.
 */

const TIMEOUT_MS = 8000;

/**
 * Sends a message that the room keeps.
 * @param {string} text one line, at most 500 characters
 * @param {string} id see texts.js
 * @param {string} room for which the text was written: the participant may be in another room now
 * @returns {Promise<{status?: number, retryAfterMs?: number}>} no status if there was no answer
 */
export async function sendMessage(text, id, room) {
  const { status, headers } = await post(`say?${new URLSearchParams({ id, room })}`, text);
  return { status, retryAfterMs: 1000 * Number(headers?.get('Retry-After') ?? 0) };
}

/**
 * Sends a reaction: a message that the room doesn't keep.
 * @param {string} text one of REACTIONS in reactions.js
 * @param {string} room the room of this page's participant when the user pressed the button
 */
export async function sendReaction(text, room) {
  await post(`say?${new URLSearchParams({ keep: 'no', room })}`, text);
}

/** @returns {Promise<{name: string, gain: string}[] | null>} how loud this participant hears others: decibels or 'mute'; null if unknown */
export async function fetchGains() {
  try {
    const response = await fetch('gains', { cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok) return null;
    const lines = (await response.text()).split('\n').filter(Boolean).map((line) => line.split('\t'));
    return lines.map(([name, gain]) => ({ name, gain }));
  } catch {
    return null;
  }
}

/** @param {string} lines all personal gains: login name, tab, decibels or 'mute'; @returns {Promise<{ok: boolean, retryAfterMs: number}>} */
export async function sendGains(lines) {
  const { ok, headers } = await post('gains', lines);
  return { ok, retryAfterMs: 1000 * Number(headers?.get('Retry-After') ?? 0) };
}

/** @param {string} display the user's new display name; @returns {Promise<number | undefined>} status of the response; undefined if there was none */
export async function sendName(display) {
  return (await post('name', display)).status;
}

/** @param {object} figures see `window.palabreState`; @returns {Promise<boolean>} false if the listener takes no reports */
export async function sendReport(figures) {
  // A listener that plays a file instead of a room answers 404.
  return (await post('report', JSON.stringify(figures))).status !== 404;
}

/**
 * @param {string} page ID of this page
 * @param {string} state JSON
 * @returns {Promise<boolean>} whether the listener accepted the state, or needs none because it plays a file instead of a room
 */
export async function sendPresence(page, state) {
  const { ok, status } = await post(`show?page=${page}`, state);
  return ok || status === 404;
}

/** @param {string} page ID of this page; @returns {Promise<boolean>} whether the listener refuses a stream of this page, because the participant has too many */
export async function streamIsRefused(page) {
  try {
    return (await fetch(`listen?page=${page}`, { method: 'HEAD', cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) })).status === 429;
  } catch {
    return false;
  }
}

async function post(path, body) {
  try {
    return await fetch(path, { method: 'POST', body, signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch {
    return { ok: false };
  }
}
