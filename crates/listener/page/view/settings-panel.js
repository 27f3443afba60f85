/**
 * The settings panel: devices, processing, microphone mode, shortcuts, the test of sound and microphone, and the details for support. It
 * shows and stores the settings; the handlers apply them.
 */

import { hasWorklets } from '../audio/context.js';
import { choose, chosen, isOn, listDevices, switchTo } from '../audio/devices.js';
import { outputsCanBeChosen } from '../audio/output.js';
import { recall, remember } from '../base/storage.js';
import { advice } from '../microphone/advice.js';
import { SoundTest } from '../microphone/sound-test.js';
import { say } from '../text/text.js';
import { ALERTS, isOn as alertIsOn, switchAlert } from './alerts.js';
import { SPACE, talkKeyOf } from './keyboard.js';
import { OwnName } from './own-name.js';

const byId = (id) => document.getElementById(id);
const SWITCHES = ['echo', 'noise', 'gain'];

/** @returns {'open' | 'voice' | 'talk'} the microphone mode: always on, voice activation or push to talk */
export function mode() {
  const kept = recall('mode');
  return kept === 'voice' || kept === 'talk' ? kept : 'open';
}

/** @returns {import('../codec/ladder.js').Quality} the quality of the sound: automatic, full quality, or save data */
export function quality() {
  const kept = recall('quality');
  return kept === 'full' || kept === 'save' ? kept : 'auto';
}

/** @returns {boolean} whether keyboard shortcuts are on */
export function shortcutsAreOn() {
  return recall('keys') !== 'no';
}

/** @returns {import('./keyboard.js').TalkKey} */
export function talkKey() {
  const [code, label] = (recall('talk-key') ?? '').split(' ', 2);
  return code && label ? { code, label } : SPACE;
}

/** @returns {string} the name of the talk key in the user's language */
export function talkKeyName() {
  const { code, label } = talkKey();
  if (code === SPACE.code) return say('spaceBar');
  return label.length === 1 ? label.toUpperCase() : label;
}

/** The settings panel. */
export class SettingsPanel {
  #panel = byId('settings');
  #handlers;
  #test = new SoundTest((test) => this.#showTest(test));
  #inputs = [];
  /** Whether the next key becomes the talk key. */
  #asksForKey = false;
  /** Code of the key that has just become the talk key, until it is released. */
  #takenKey = '';
  #ownName;

  /** @param {{onMicrophone: () => void, onOutput: () => void, onMode: () => void, onQuality: () => void, onWarn: () => void, figures: () => string,
   *   inRoom: () => boolean, me: () => object | null, onRenamed: (display: string) => void}} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
    this.#ownName = new OwnName(handlers.onRenamed);
    byId('settings-close').addEventListener('click', () => this.#panel.close());
    this.#panel.addEventListener('close', () => this.#closed());
    this.#panel.addEventListener('click', (event) => { if (event.target === this.#panel) this.#panel.close(); });
    byId('input').addEventListener('change', ({ target }) => this.#chooseDevice('input', target.value, handlers.onMicrophone));
    byId('output').addEventListener('change', ({ target }) => this.#chooseDevice('output', target.value, handlers.onOutput));
    for (const name of SWITCHES) byId(`switch-${name}`).addEventListener('change', ({ target }) => this.#switch(name, target.checked));
    for (const radio of this.#modes) radio.addEventListener('change', () => this.#chooseMode(radio.value));
    byId('quality').addEventListener('change', ({ target }) => { remember('quality', target.value); handlers.onQuality(); });
    byId('switch-warn').addEventListener('change', ({ target }) => { switchTo('warn', target.checked); handlers.onWarn(); });
    byId('talk-key').addEventListener('click', () => this.#askForKey(true));
    // A listener for `blur` would run before the browser gives the focus back when the panel closes, and focus.js would then move it.
    this.#panel.addEventListener('pointerdown', ({ target }) => { if (target !== byId('talk-key')) this.#askForKey(false); });
    byId('talk-key').addEventListener('keydown', (event) => this.#takeKey(event));
    // Firefox presses the button when the space bar is released, even if the key press was prevented.
    byId('talk-key').addEventListener('keyup', (event) => { if (event.code === this.#takenKey) event.preventDefault(); });
    byId('switch-keys').addEventListener('change', ({ target }) => remember('keys', target.checked ? 'yes' : 'no'));
    for (const kind of ALERTS) byId(`alert-${kind}`).addEventListener('change', ({ target }) => this.#switchAlert(kind, target.checked));
    byId('tone').addEventListener('click', () => this.#test.tone());
    byId('myself').addEventListener('click', () => this.#hearMyself(byId('myself').getAttribute('aria-pressed') !== 'true'));
    byId('copy').addEventListener('click', () => this.#copy());
    navigator.mediaDevices?.addEventListener('devicechange', () => { if (this.#panel.open) this.#showDevices(); });
  }

  /** Call only in a click handler: the sound test needs an AudioContext, and browsers may keep one silent that is created elsewhere. */
  open() {
    for (const name of [...SWITCHES, 'warn']) byId(`switch-${name}`).checked = isOn(name);
    for (const radio of this.#modes) radio.checked = radio.value === mode();
    byId('quality').value = quality();
    byId('quality-row').hidden = this.#handlers.me()?.codec === undefined;
    byId('switch-keys').checked = shortcutsAreOn();
    for (const kind of ALERTS) byId(`alert-${kind}`).checked = alertIsOn(kind);
    byId('alerts-blocked').textContent = '';
    this.#ownName.show(this.#handlers.me());
    byId('talk-key-row').hidden = mode() !== 'talk';
    this.#askForKey(false);
    byId('output-row').hidden = !(hasWorklets() && outputsCanBeChosen());
    // If the mixer levels this participant's voice, the browser's gain control is off. Then hide its switch.
    byId('gain-row').hidden = this.#handlers.me()?.levelling === true;
    byId('sound-test').hidden = this.#handlers.inRoom() || typeof AudioContext === 'undefined';
    byId('diagnostics').hidden = !this.#handlers.inRoom();
    byId('copied').textContent = '';
    this.#panel.showModal();
    this.#showDevices();
    this.#startTest();
  }

  get #modes() {
    return [...this.#panel.querySelectorAll('input[name="mode"]')];
  }

  async #startTest() {
    if (byId('sound-test').hidden) return;
    this.#hearMyself(false);
    await this.#test.start();
    // Browsers name devices only after the microphone permission was granted.
    this.#showDevices();
  }

  #closed() {
    this.#test.stop();
    this.#hearMyself(false);
  }

  #chooseMode(value) {
    remember('mode', value);
    byId('talk-key-row').hidden = value !== 'talk';
    this.#handlers.onMode();
  }

  #askForKey(asks) {
    this.#asksForKey = asks;
    if (asks) this.#takenKey = '';
    byId('talk-key').textContent = asks ? say('pressAKey') : talkKeyName();
  }

  #takeKey(event) {
    // While the button doesn't wait for a new push-to-talk key, the space bar and Enter press the button as usual. Tab always leaves it.
    if (event.key === 'Tab') this.#askForKey(false);
    if (!this.#asksForKey) return;
    event.preventDefault();
    const chosenKey = talkKeyOf(event);
    if (chosenKey) {
      remember('talk-key', `${chosenKey.code} ${chosenKey.label}`);
      this.#takenKey = chosenKey.code;
    }
    if (chosenKey || event.key === 'Escape') this.#askForKey(false);
  }

  #chooseDevice(kind, deviceId, then) {
    choose(kind, deviceId);
    this.#changed(then);
  }

  #switch(name, on) {
    switchTo(name, on);
    this.#changed(this.#handlers.onMicrophone);
  }

  async #switchAlert(kind, on) {
    const allowed = await switchAlert(kind, on);
    byId('alerts-blocked').textContent = allowed ? '' : say('alertsBlocked');
  }

  #changed(then) {
    if (this.#handlers.inRoom()) then();
    else this.#startTest();
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
      const systemDefault = option('', say('systemDefault'));
      systemDefault.dataset.text = 'systemDefault';
      select.replaceChildren(systemDefault, ...others.map(({ deviceId, label }) => option(deviceId, label)));
      select.value = others.some(({ deviceId }) => deviceId === chosen(kind)) ? chosen(kind) : '';
    }
  }

  #showTest({ state, peak, highest, listenedMs, track }) {
    const share = peak > 0 ? Math.max(0, 1 + (20 * Math.log10(peak)) / 60) : 0;
    byId('sound-test-level').style.setProperty('--level', share.toFixed(2));
    const label = track?.label ?? '';
    const others = this.#inputs.filter((device) => device.deviceId !== 'default' && device.label !== label).length;
    const key = advice({
      state, peak: highest, listenedMs, label, others, systemMuted: track?.muted ?? false, isDefault: chosen('input') === '',
    });
    const text = say(key, { name: label });
    if (byId('advice').textContent !== text) byId('advice').textContent = text;
    byId('advice').dataset.good = String(key === 'adviceGood');
  }

  async #copy() {
    const text = this.#handlers.figures();
    try {
      await navigator.clipboard.writeText(text);
      byId('copied').textContent = say('copied');
    } catch {
      // The browser refused to write to the clipboard: the user copies the text by hand.
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
