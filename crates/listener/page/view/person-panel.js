/** The panel of one other participant: how loud this page's participant hears them. For a participant on another machine it says why that is fixed. */

import { say } from '../text/text.js';

const byId = (id) => document.getElementById(id);

/** The panel. */
export class PersonPanel {
  #panel = byId('person');
  #gains;
  #name = '';
  #display = '';
  #machine = '';

  /** @param {import('../room/gains.js').Gains} gains */
  constructor(gains) {
    this.#gains = gains;
    byId('person-close').addEventListener('click', () => this.#panel.close());
    this.#panel.addEventListener('click', ({ target }) => { if (target === this.#panel) this.#panel.close(); });
    byId('person-volume').addEventListener('input', ({ target }) => gains.setVolume(this.#name, Number(target.value)));
    byId('person-mute').addEventListener('click', () => gains.mute(this.#name, !gains.isMuted(this.#name)));
  }

  /** @param {import('../room/participants.js').Participant} person */
  open({ name, display, label, machine }) {
    [this.#name, this.#display, this.#machine] = [name, display, machine];
    byId('person-title').textContent = label;
    byId('person-controls').hidden = machine !== '';
    byId('person-elsewhere').hidden = machine === '';
    this.refresh();
    this.#panel.showModal();
    byId(machine ? 'person-close' : 'person-volume').focus();
  }

  /** Shows the present volume, in the current language. */
  refresh() {
    if (!this.#name) return;
    byId('person-elsewhere').textContent = say('volumeElsewhere', { name: this.#display, machine: this.#machine });
    if (this.#machine) return;
    const muted = this.#gains.isMuted(this.#name);
    const volume = muted ? 0 : this.#gains.volume(this.#name);
    const slider = byId('person-volume');
    if (Number(slider.value) !== volume) slider.value = String(volume);
    const words = say('percent', { count: volume });
    slider.setAttribute('aria-valuetext', words);
    byId('person-percent').textContent = words;
    byId('person-mute').textContent = say('muteForMe', { name: this.#display });
    byId('person-mute').setAttribute('aria-pressed', String(muted));
  }

  /** Closes the panel. */
  close() {
    this.#panel.close();
  }
}
