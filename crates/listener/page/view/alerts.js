/**
 * Sounds and notifications for messages, raised hands and participants who join. All are off until the user switches them on.
 *
 * The sound has its own AudioContext, which is open only while it plays, so that it doesn't depend on the sound of the room.
 */

import { chosen } from '../audio/devices.js';
import { recall, remember } from '../base/storage.js';

/** The kinds of events for which there are sounds and notifications. Each kind has a switch. */
export const ALERTS = ['texts', 'hands', 'joins'];
/** Minimum time between two sounds. */
const SOUND_INTERVAL_MS = 2000;
/** The two tones of each sound, in Hz. */
const TONES = { texts: [880, 880], hands: [660, 880], joins: [520, 660] };
/** Duration of a tone. */
const TONE_S = 0.12;
/** Peak of a sound at full volume. */
const PEAK = 0.15;
/** Maximum length of the text in a notification. */
const MAX_CHARS = 100;

let soundedMs = -Infinity;

/** @param {string} kind; @returns {boolean} whether the user has switched this kind on */
export function isOn(kind) {
  return recall(`alert-${kind}`) === 'yes';
}

/**
 * Stores whether a kind is on, and asks for the permission to show notifications. Call only in a click handler: browsers ask for the
 * permission only there.
 * @param {string} kind
 * @param {boolean} on
 * @returns {Promise<boolean>} whether the browser allows notifications
 */
export async function switchAlert(kind, on) {
  remember(`alert-${kind}`, on ? 'yes' : 'no');
  if (!on || !('Notification' in window)) return true;
  return Notification.permission === 'default' ? (await Notification.requestPermission()) === 'granted' : Notification.permission === 'granted';
}

/**
 * Plays a sound if this kind is on. If the page is hidden too, also shows a notification.
 * @param {string} kind
 * @param {number} volume of the page, 0 to 1
 * @param {string} title
 * @param {string} [text]
 */
export function alertUser(kind, volume, title, text = '') {
  if (!isOn(kind)) return;
  sound(kind, volume);
  if (document.hidden) notification(kind, title, text);
}

async function sound(kind, volume) {
  const nowMs = performance.now();
  if (nowMs - soundedMs < SOUND_INTERVAL_MS || volume === 0) return;
  soundedMs = nowMs;
  const context = new AudioContext();
  const gain = new GainNode(context, { gain: PEAK * volume });
  gain.connect(context.destination);
  // If the chosen loudspeaker is missing, or the browser has no setSinkId, the default loudspeaker plays.
  if (chosen('output')) await context.setSinkId?.(chosen('output')).catch(() => {});
  const startS = context.currentTime;
  const tones = TONES[kind].map((frequency, i) => {
    const tone = new OscillatorNode(context, { frequency });
    tone.connect(gain);
    tone.start(startS + 1.5 * i * TONE_S);
    tone.stop(startS + (1.5 * i + 1) * TONE_S);
    return tone;
  });
  // A context that the browser keeps suspended plays no tone, so `ended` is never fired. Close it after a timeout.
  const timeout = setTimeout(() => context.close(), SOUND_INTERVAL_MS);
  tones.at(-1).addEventListener('ended', () => { clearTimeout(timeout); context.close(); });
}

function notification(kind, title, text) {
  if (!('Notification' in window) || Notification.permission !== 'granted') return;
  const body = [...text].slice(0, MAX_CHARS).join('');
  try {
    // A notification replaces the previous one of its kind.
    const shown = new Notification(title, { body, tag: `palabre-${kind}`, icon: './page/icons/icon-192.png', silent: true });
    shown.addEventListener('click', () => { window.focus(); shown.close(); });
  } catch {
    // Chromium on Android throws here, because it allows notifications only from a service worker, which this page doesn't have. So it shows none.
  }
}

/** Finds out who has joined or raised a hand since the last look. Pure. */
export class Comings {
  /** @type {Map<string, {here: boolean, hand: boolean}> | null} */
  #known = null;

  /**
   * @param {{name: string, label: string, here: boolean, hand: boolean}[]} people all participants except this page's own
   * @returns {{kind: 'joins' | 'hands', name: string, label: string}[]} empty at the first call
   */
  look(people) {
    const known = this.#known;
    this.#known = new Map(people.map((person) => [person.name, person]));
    if (!known) return [];
    return people.flatMap(({ name, label, here, hand }) => {
      const before = known.get(name);
      const joins = here && !before?.here ? [{ kind: 'joins', name, label }] : [];
      return here && hand && !before?.hand ? [...joins, { kind: 'hands', name, label }] : joins;
    });
  }

  /** Forgets all participants. */
  clear() {
    this.#known = null;
  }
}
