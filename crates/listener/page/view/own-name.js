/** The form in the settings with which the user changes the display name, if the operator allows it. */

import { sendName } from '../room/requests.js';
import { say } from '../text/text.js';

const byId = (id) => document.getElementById(id);
/** Texts for the status of the listener's response. */
const ANSWERS = { 204: 'ownNameChanged', 400: 'ownNameInvalid', 409: 'ownNameTaken', 413: 'ownNameInvalid', 429: 'ownNameTooOften' };
/** Statuses that say that the name can't be used, now or later. */
const UNUSABLE = [400, 409, 413];

export class OwnName {
  #form = byId('own-name');
  #line = byId('own-name-line');
  #onChanged;

  /** @param {(display: string) => void} onChanged called when the listener has accepted a name */
  constructor(onChanged) {
    this.#onChanged = onChanged;
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#send(this.#line.value.trim());
    });
  }

  /** @param {{display: string, own_name?: boolean} | null} me as from GET me */
  show(me) {
    this.#form.hidden = me?.own_name !== true;
    this.#line.value = me?.display ?? '';
    byId('own-name-said').textContent = '';
  }

  async #send(display) {
    const status = await sendName(display);
    byId('own-name-said').textContent = say(ANSWERS[status] ?? 'ownNameFailed', { name: display });
    this.#line.setAttribute('aria-invalid', String(UNUSABLE.includes(status)));
    if (status === 204) this.#onChanged(display);
  }
}
