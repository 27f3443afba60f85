/**
 * The panel of settings: devices, processing, when the microphone speaks, shortcuts, the test of the line, and the figures
 * that a person can copy and send. It shows and remembers; what follows from it is told to whoever passes the handlers.
 */

import { advice } from './advice.js';
import { choose, chosen, isOn, listDevices, switchTo } from './devices.js';
import { LineTest } from './line-test.js';
import { outputsCanBeChosen } from './output.js';
import { hasWorklets } from './session.js';
import { recall, remember } from './settings.js';
import { say } from './text.js';

const byId = (id) => document.getElementById(id);
const SWITCHES = ['echo', 'noise', 'gain'];

/** @returns {'open' | 'voice' | 'talk'} when the microphone speaks */
export function mode() {
  const kept = recall('mode');
  return kept === 'voice' || kept === 'talk' ? kept : 'open';
}

/** @returns {boolean} whether single keys do something */
export function keysAreOn() {
  return recall('keys') !== 'no';
}

/** The panel. */
export class SettingsPanel {
  #panel = byId('settings');
  #handlers;
  #test = new LineTest((line) => this.#showLine(line));
  #inputs = [];

  /** @param {{onMicrophone: () => void, onOutput: () => void, onMode: () => void, figures: () => string,
   *   inRoom: () => boolean, levelled: () => boolean}} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
    byId('settings-close').addEventListener('click', () => this.#panel.close());
    this.#panel.addEventListener('close', () => this.#closed());
    this.#panel.addEventListener('click', (event) => { if (event.target === this.#panel) this.#panel.close(); });
    byId('input').addEventListener('change', ({ target }) => this.#take('input', target.value, handlers.onMicrophone));
    byId('output').addEventListener('change', ({ target }) => this.#take('output', target.value, handlers.onOutput));
    for (const name of SWITCHES) byId(`switch-${name}`).addEventListener('change', ({ target }) => this.#switch(name, target.checked));
    for (const radio of this.#modes) radio.addEventListener('change', () => { remember('mode', radio.value); handlers.onMode(); });
    byId('switch-keys').addEventListener('change', ({ target }) => remember('keys', target.checked ? 'yes' : 'no'));
    byId('tone').addEventListener('click', () => this.#test.tone());
    byId('myself').addEventListener('click', () => this.#hearMyself(byId('myself').getAttribute('aria-pressed') !== 'true'));
    byId('copy').addEventListener('click', () => this.#copy());
    navigator.mediaDevices?.addEventListener('devicechange', () => { if (this.#panel.open) this.#showDevices(); });
  }

  /** In a click: the test of the line makes sound. */
  open() {
    for (const name of SWITCHES) byId(`switch-${name}`).checked = isOn(name);
    for (const radio of this.#modes) radio.checked = radio.value === mode();
    byId('switch-keys').checked = keysAreOn();
    byId('output-row').hidden = !(hasWorklets() && outputsCanBeChosen());
    // A room that brings everybody to one loudness doesn't let the browser do it too.
    byId('gain-row').hidden = this.#handlers.levelled();
    byId('line').hidden = this.#handlers.inRoom() || typeof AudioContext === 'undefined';
    byId('diagnostics').hidden = !this.#handlers.inRoom();
    byId('copied').textContent = '';
    this.#panel.showModal();
    this.#showDevices();
    this.#tryLine();
  }

  get #modes() {
    return [...this.#panel.querySelectorAll('input[name="mode"]')];
  }

  async #tryLine() {
    if (byId('line').hidden) return;
    this.#hearMyself(false);
    await this.#test.start();
    // Names of devices are told only to whom the microphone was given.
    this.#showDevices();
  }

  #closed() {
    this.#test.stop();
    this.#hearMyself(false);
  }

  #take(kind, deviceId, then) {
    choose(kind, deviceId);
    this.#changed(then);
  }

  #switch(name, on) {
    switchTo(name, on);
    this.#changed(this.#handlers.onMicrophone);
  }

  #changed(then) {
    if (this.#handlers.inRoom()) then();
    else this.#tryLine();
  }

  #hearMyself(on) {
    byId('myself').setAttribute('aria-pressed', String(on));
    this.#test.hearMyself(on);
  }

  async #showDevices() {
    const { inputs, outputs } = await listDevices();
    this.#inputs = inputs;
    for (const [kind, devices] of [['input', inputs], ['output', outputs]]) {
      const select = byId(kind);
      const others = devices.filter(({ deviceId }) => deviceId !== 'default');
      select.replaceChildren(option('', say('ownChoice')), ...others.map(({ deviceId, label }) => option(deviceId, label)));
      select.value = others.some(({ deviceId }) => deviceId === chosen(kind)) ? chosen(kind) : '';
    }
  }

  #showLine({ state, peak, highest, listenedMs, track }) {
    const share = peak > 0 ? Math.max(0, 1 + (20 * Math.log10(peak)) / 60) : 0;
    byId('line-level').style.setProperty('--level', share.toFixed(2));
    const label = track?.label ?? '';
    const others = this.#inputs.filter((device) => device.deviceId !== 'default' && device.label !== label).length;
    const key = advice({
      state, peak: highest, listenedMs, label, others, systemMuted: track?.muted ?? false, isDefault: chosen('input') === '',
    });
    const sentence = say(key, { name: label });
    if (byId('advice').textContent !== sentence) byId('advice').textContent = sentence;
    byId('advice').dataset.good = String(key === 'adviceGood');
  }

  async #copy() {
    const text = this.#handlers.figures();
    try {
      await navigator.clipboard.writeText(text);
      byId('copied').textContent = say('copied');
    } catch {
      // Where the clipboard is refused the person copies by hand.
      byId('copied').textContent = text;
    }
  }
}

function option(value, text) {
  const element = document.createElement('option');
  element.value = value;
  element.textContent = text;
  return element;
}
