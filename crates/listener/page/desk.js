/**
 * The small requests beside the sound (docs/injected-stream.md): texts, what others see of one, whom one doesn't hear,
 * and the figures of one's line. Nothing here is waited for by anything that sounds.
 */

const AGAIN_MS = 2000;
const PATIENCE_MS = 8000;

/** @param {string} text one line, at most 500 characters; @returns {Promise<boolean>} whether it was sent */
export async function sayText(text) {
  return (await post('say', text)).ok;
}

/** @returns {Promise<string[] | null>} login names of whom one doesn't hear; null where that can't be known */
export async function askWithout() {
  try {
    const response = await fetch('without', { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE_MS) });
    return response.ok ? (await response.text()).split('\n').filter(Boolean) : null;
  } catch {
    return null;
  }
}

/** @param {string[]} names; @returns {Promise<boolean>} whether the list was replaced */
export async function setWithout(names) {
  return (await post('without', names.join('\n'))).ok;
}

/** @param {object} figures see window.palabreState; @returns {Promise<boolean>} whether there is somebody to report to */
export async function report(figures) {
  // Where a file is heard there is nobody.
  return (await post('report', JSON.stringify(figures))).status !== 404;
}

/** Tells the others what is the case, again and again until it was told. */
export class Showing {
  #wanted = '';
  #told = '';
  #timer = 0;
  #busy = false;

  /** @param {{hand: boolean, microphone: 'open' | 'muted' | 'none'}} state */
  show(state) {
    this.#wanted = JSON.stringify(state);
    this.#tell();
  }

  /** The listener may be a new one, which knows nothing. */
  again() {
    this.#told = '';
    this.#tell();
  }

  /** Tells nothing any more. */
  stop() {
    clearTimeout(this.#timer);
    this.#wanted = '';
    this.#told = '';
  }

  async #tell() {
    clearTimeout(this.#timer);
    if (this.#busy || this.#wanted === this.#told) return;
    this.#busy = true;
    const telling = this.#wanted;
    const { ok: took, status } = await post('show', telling);
    // Where a file is heard there is nobody to tell.
    const ok = took || status === 404;
    this.#busy = false;
    if (ok) this.#told = telling;
    if (this.#wanted !== this.#told && this.#wanted) this.#timer = setTimeout(() => this.#tell(), ok ? 0 : AGAIN_MS);
  }
}

async function post(path, body) {
  try {
    return await fetch(path, { method: 'POST', body, signal: AbortSignal.timeout(PATIENCE_MS) });
  } catch {
    return { ok: false };
  }
}
