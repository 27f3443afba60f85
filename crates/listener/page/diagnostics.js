/**
 * What a person can send when something is wrong: the last errors, the browser's name, and the few figures that are reported
 * to the listener. Pure but for the errors, which it overhears.
 */

const MOST = 5;
const MAX_CHARS = 120;

/** The last errors of the page. */
export class ErrorLog {
  last = [];

  /** Begins to listen. */
  constructor() {
    window.addEventListener('error', ({ message }) => this.add(message));
    window.addEventListener('unhandledrejection', ({ reason }) => this.add(reason?.message ?? String(reason)));
  }

  /** @param {string} what */
  add(what) {
    const time = new Date().toISOString().slice(11, 19);
    this.last = [...this.last, `${time} ${String(what).slice(0, MAX_CHARS)}`].slice(-MOST);
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
