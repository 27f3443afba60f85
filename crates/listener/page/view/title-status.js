/**
 * Chooses the prefix of the page's title and its icon: talking, microphone open, or muted. Pure: time is an argument.
 *
 * Talking is shown for a second longer than it lasts, so that the pauses of speech don't make it flicker. A mute is shown at once.
 */

const HOLD_MS = 1000;
const SIGNS = {
  talking: { prefix: '🗣 ', icon: 'icon-talking.svg' },
  open: { prefix: '🎙 ', icon: 'icon-open.svg' },
  muted: { prefix: '🔇 ', icon: 'icon-muted.svg' },
  none: { prefix: '', icon: 'icon.svg' },
};
/** States of the microphone that count as open. */
const OPEN = ['on', 'waiting', 'held', 'ready'];
/** States of the microphone that count as muted. */
const MUTED = ['muted', 'system', 'silent', 'operator'];

/** The title and icon of one page. */
export class TitleStatus {
  #untilMs = -Infinity;
  #talked = false;

  /**
   * @param {string} microphone its state
   * @param {boolean} talking whether the room hears this participant now
   * @param {number} nowMs
   * @returns {{prefix: string, icon: string, againMs: number}} againMs: time after which to call again even if nothing changes; 0 for
   *   never
   */
  show(microphone, talking, nowMs) {
    const talks = talking && microphone === 'on';
    if (microphone !== 'on') this.#untilMs = -Infinity;
    // The hold time counts from the end of talking, because an unchanged level isn't sent again.
    else if (talks || this.#talked) this.#untilMs = nowMs + HOLD_MS;
    this.#talked = talks;
    const leftMs = this.#untilMs - nowMs;
    if (leftMs > 0) return { ...SIGNS.talking, againMs: talks ? 0 : leftMs };
    const kind = OPEN.includes(microphone) ? 'open' : MUTED.includes(microphone) ? 'muted' : 'none';
    return { ...SIGNS[kind], againMs: 0 };
  }
}
