/**
 * Figures and errors for support: the page's last errors, the browser's name, and the report to the listener.
 */

/** Maximum number of errors that are kept. */
const MAX_ERRORS = 5;
const MAX_CHARS = 120;

/** The last errors of the page: uncaught errors, and faults from which the page recovers. */
export class ErrorLog {
  #kept = [];

  /** @param {EventTarget} page whose uncaught errors are noted */
  constructor(page = window) {
    page.addEventListener('error', ({ message }) => this.add(message));
    page.addEventListener('unhandledrejection', ({ reason }) => this.add(reason?.message ?? String(reason)));
  }

  /** @param {string} what text of the error; a repeated error is counted and moved to the end, so that it doesn't displace others */
  add(what) {
    const text = String(what).slice(0, MAX_CHARS);
    const before = this.#kept.find((error) => error.text === text);
    const error = { text, time: new Date().toISOString().slice(11, 19), times: 1 + (before?.times ?? 0) };
    this.#kept = [...this.#kept.filter((other) => other !== before), error].slice(-MAX_ERRORS);
  }

  /** @returns {string[]} oldest first, each with the time of day (UTC) of its last occurrence */
  get last() {
    return this.#kept.map(({ time, text, times }) => `${time} ${text}${times > 1 ? ` (${times} times)` : ''}`);
  }
}

/**
 * @param {string} userAgent
 * @returns {string} name, major version and system of the browser
 */
export function browserName(userAgent) {
  const names = [['Edg', 'Edge'], ['OPR', 'Opera'], ['Firefox', 'Firefox'], ['Chrome', 'Chromium'], ['Version', 'Safari']];
  const found = names.map(([mark, name]) => [name, userAgent.match(new RegExp(`${mark}/(\\d+)`))?.[1]]).find(([, version]) => version);
  const system = ['Android', 'iPhone', 'iPad', 'Windows', 'Mac OS X', 'CrOS', 'Linux'].find((name) => userAgent.includes(name));
  return [found?.join(' ') ?? 'unknown', system].filter(Boolean).join(', ');
}

/**
 * @param {object} d see `window.palabreState`
 * @returns {object} the body of POST /report
 */
export function figuresToReport(d) {
  const whole = (value) => Math.max(0, Math.round(value || 0));
  return {
    delay_ms: whole(d.delayMs ?? d.depthMs + d.outputMs),
    depth_ms: whole(d.depthMs),
    jitter_ms: whole(d.jitterMs),
    underruns: whole(d.underruns),
    lost: whole(d.lost),
    bytes: whole(d.bytes),
    rate_hz: whole(d.contextRate),
    codec: d.codec ?? 'PCM 16',
    browser: d.browser,
    errors: d.errors,
  };
}
