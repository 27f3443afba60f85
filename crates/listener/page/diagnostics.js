/**
 * What a person can send when something is wrong: the last errors, the browser's name, and the few figures that are reported
 * to the listener. Pure but for the errors, some of which it overhears; faults that are mended by themselves are told to it.
 */

const MOST = 5;
const MAX_CHARS = 120;

/** The last errors of the page. */
export class ErrorLog {
  #kept = [];

  /** @param {EventTarget} page whose errors nobody catches */
  constructor(page = window) {
    page.addEventListener('error', ({ message }) => this.add(message));
    page.addEventListener('unhandledrejection', ({ reason }) => this.add(reason?.message ?? String(reason)));
  }

  /** @param {string} what the same again moves to the end and is counted: what is tried for hours hides nothing else */
  add(what) {
    const text = String(what).slice(0, MAX_CHARS);
    const before = this.#kept.find((error) => error.text === text);
    const error = { text, time: new Date().toISOString().slice(11, 19), times: 1 + (before?.times ?? 0) };
    this.#kept = [...this.#kept.filter((other) => other !== before), error].slice(-MOST);
  }

  /** @returns {string[]} oldest first, each with the time of day (UTC) when it happened last */
  get last() {
    return this.#kept.map(({ time, text, times }) => `${time} ${text}${times > 1 ? ` (${times} times)` : ''}`);
  }
}

/**
 * @param {string} userAgent
 * @returns {string} name, version and system: enough for whoever helps, less than a fingerprint
 */
export function browserName(userAgent) {
  const names = [['Edg', 'Edge'], ['OPR', 'Opera'], ['Firefox', 'Firefox'], ['Chrome', 'Chromium'], ['Version', 'Safari']];
  const found = names.map(([mark, name]) => [name, userAgent.match(new RegExp(`${mark}/(\\d+)`))?.[1]]).find(([, version]) => version);
  const system = ['Android', 'iPhone', 'iPad', 'Windows', 'Mac OS X', 'CrOS', 'Linux'].find((name) => userAgent.includes(name));
  return [found?.join(' ') ?? 'unknown', system].filter(Boolean).join(', ');
}

/**
 * @param {object} d see window.palabreState
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
