/**
 * How loud this participant hears each of the others. The mixer applies these gains (docs/room-directory.md, the file `gains`). The browser
 * stores the volumes; the room directory keeps who is muted.
 */

import { recall, remember } from '../base/storage.js';
import { fetchGains, sendGains } from './requests.js';

/** Delay before a change is sent, so that a moving slider sends few requests. */
const SEND_DELAY_MS = 300;
/** Minimum delay before a change is sent again. */
const RETRY_MS = 2000;
/** Maximum number of attempts to send a change. */
const MAX_ATTEMPTS = 5;
/** Maximum number of volumes that the browser stores; the oldest is dropped. */
const MAX_STORED = 500;
/** The volume in percent at which the mixer changes nothing. */
export const NORMAL = 100;
/** Maximum volume in percent. */
export const LOUDEST = 200;

/** The personal gains of this page's participant. */
export class Gains {
  #onChange;
  /** Login names of muted participants. */
  #muted = new Set();
  /** @type {Map<string, number>} percent by login name, except the normal volume */
  #volumes = new Map();
  /** The gains that the listener has, as text; null if unknown. */
  #sent = null;
  /** Login names of participants whom the user has muted, unmuted or made louder or quieter since the listener accepted the last change. */
  #unsent = new Set();
  #timer = 0;

  /** @param {(name?: string) => void} onChange called after each change, with the login name if it concerns one participant only */
  constructor(onChange) {
    this.#onChange = onChange;
  }

  /** @param {string} name login name; @returns {boolean} */
  isMuted(name) {
    return this.#muted.has(name);
  }

  /** @param {string} name login name; @returns {number} percent; a muted participant keeps the volume */
  volume(name) {
    return this.#volumes.get(name) ?? NORMAL;
  }

  /** Forgets the listener's gains, before joining: another page may change them meanwhile. */
  forget() {
    this.#sent = null;
  }

  /**
   * Call this whenever the stream works again. Reads the listener's gains if they are unknown; volumes that this browser has stored and changes that the
   * listener hasn't accepted yet take precedence. Otherwise sends the gains again if the room directory has lost them, as after a restart of the
   * server's machine.
   */
  async restore() {
    const lines = await fetchGains();
    if (lines === null) return;
    if (this.#sent === null) {
      this.#take(lines, stored());
      this.#send();
    } else if (lines.length === 0) {
      this.#sent = '';
      this.#send();
    }
  }

  /** @param {string} name login name; @param {boolean} muted */
  mute(name, muted) {
    if (muted) this.#muted.add(name);
    else this.#muted.delete(name);
    this.#changed(name);
  }

  /** Sets a volume. Volume 0 mutes, and any other volume ends a mute. @param {string} name login name; @param {number} volume in percent */
  setVolume(name, volume) {
    if (volume === 0) return this.mute(name, true);
    this.#muted.delete(name);
    this.#volumes.delete(name);
    if (volume !== NORMAL) this.#volumes.set(name, volume);
    remember('volumes', JSON.stringify([...this.#volumes].slice(-MAX_STORED)));
    this.#changed(name);
  }

  #changed(name) {
    this.#unsent.add(name);
    this.#onChange(name);
    this.#send();
  }

  #take(lines, volumes) {
    this.#sent = text(lines);
    const muted = new Set(lines.filter(({ gain }) => gain === 'mute').map(({ name }) => name));
    const given = lines.filter(({ gain }) => gain !== 'mute').map(({ name, gain }) => [name, percent(Number(gain))]);
    const all = new Map([...given, ...volumes]);
    for (const name of this.#unsent) {
      if (this.#muted.has(name)) muted.add(name);
      else muted.delete(name);
      if (this.#volumes.has(name)) all.set(name, this.volume(name));
      else all.delete(name);
    }
    this.#muted = muted;
    this.#volumes = all;
    this.#onChange();
  }

  /** Shows what the listener has, because it refuses the user's change. If the listener doesn't answer, the next restore() sends the change. */
  async #revert() {
    const timer = this.#timer;
    const lines = await fetchGains();
    if (timer !== this.#timer) return; // The user has made another change, which is sent now.
    if (lines === null) {
      this.#sent = null;
      return;
    }
    this.#unsent.clear();
    this.#take(lines, []);
  }

  #send(delayMs = SEND_DELAY_MS, attempt = 1) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(async () => {
      const wanted = this.#lines();
      // Don't send the page's list of gains before the page knows the listener's gains: the list would replace them.
      if (this.#sent === null) return this.restore();
      if (wanted === this.#sent) return this.#unsent.clear();
      const { ok, retryAfterMs } = await sendGains(wanted);
      if (ok) {
        this.#sent = wanted;
        if (wanted === this.#lines()) this.#unsent.clear();
      } else if (attempt < MAX_ATTEMPTS) this.#send(Math.max(RETRY_MS, retryAfterMs), attempt + 1);
      else this.#revert();
    }, delayMs);
  }

  #lines() {
    const muted = [...this.#muted].map((name) => ({ name, gain: 'mute' }));
    const others = [...this.#volumes].filter(([name]) => !this.#muted.has(name));
    return text([...muted, ...others.map(([name, volume]) => ({ name, gain: decibels(volume) }))]);
  }
}

/** Returns the valid volumes that the browser has stored. The storage may contain invalid data. */
function stored() {
  try {
    const volumes = JSON.parse(recall('volumes') ?? '[]');
    return volumes.filter(([name, volume]) => typeof name === 'string' && volume > 0 && volume <= LOUDEST && volume !== NORMAL);
  } catch {
    return [];
  }
}

function text(lines) {
  return lines.map(({ name, gain }) => `${name}\t${gain}\n`).sort().join('');
}

function decibels(volume) {
  return Math.max(-60, 20 * Math.log10(volume / NORMAL)).toFixed(1);
}

/** Returns the volume in steps of 5 %, as the slider has them. */
function percent(gain) {
  return Math.max(5, Math.min(LOUDEST, Math.round((NORMAL * 10 ** (gain / 20)) / 5) * 5));
}
