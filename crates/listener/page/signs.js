/**
 * What the page's title and icon say while one does something else: talking, open and quiet, or muted. Pure; time is an
 * argument.
 *
 * A voice pauses several times a second, and a sign that follows it flickers: so talking is shown for a second more. A mute
 * is shown at once.
 */

const HOLD_MS = 1000;
const SIGNS = {
  talking: { prefix: '🗣 ', icon: 'icon-talking.svg' },
  open: { prefix: '🎙 ', icon: 'icon-open.svg' },
  muted: { prefix: '🔇 ', icon: 'icon-muted.svg' },
  none: { prefix: '', icon: 'icon.svg' },
};
/** Of the words for the microphone's state; all others are none. */
const OPEN = ['on', 'waiting', 'held', 'ready'];
const MUTED = ['muted', 'operator'];

/** The signs of one page. */
export class Signs {
  #untilMs = -Infinity;
  #talked = false;

  /**
   * @param {string} microphone the word for its state
   * @param {boolean} talking whether the room hears this person just now
   * @param {number} nowMs
   * @returns {{prefix: string, icon: string, againMs: number}} againMs: when to look again though nothing happens; 0 for never
   */
  show(microphone, talking, nowMs) {
    const talks = talking && microphone === 'on';
    if (microphone !== 'on') this.#untilMs = -Infinity;
    // From when it ended: a level that doesn't change is not told again meanwhile.
    else if (talks || this.#talked) this.#untilMs = nowMs + HOLD_MS;
    this.#talked = talks;
    const leftMs = this.#untilMs - nowMs;
    if (leftMs > 0) return { ...SIGNS.talking, againMs: talks ? 0 : leftMs };
    const kind = OPEN.includes(microphone) ? 'open' : MUTED.includes(microphone) ? 'muted' : 'none';
    return { ...SIGNS[kind], againMs: 0 };
  }
}
