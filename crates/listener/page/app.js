/**
 * Palabre's page: who you are, the door, the room. Wires the session to what is seen and remembers what was chosen.
 *
 * Relative addresses only, so that it works at the root of a port and below a path of a proxy alike.
 */

import { Backoff } from './backoff.js';
import { askWithout, report, setWithout } from './desk.js';
import { ErrorLog, browserName, figuresToReport } from './diagnostics.js';
import { listenToKeys } from './keys.js';
import { Messages } from './messages.js';
import { People } from './people.js';
import { Session, hasWorklets } from './session.js';
import { recall, remember } from './settings.js';
import { SettingsPanel, keysAreOn, mode } from './settings-panel.js';
import { say, switchLanguage, translatePage } from './text.js';
import * as view from './view.js';

const FIGURES_MS = 500;
const KEY_CHECK_MS = 5000;
const REPORT_MS = 10000;
const METER_FALL = 0.7;
const people = new People(view.peoplePlaces, unhear);
const messages = new Messages(view.messageParts, people);
const errors = new ErrorLog();
const panel = new SettingsPanel({
  onMicrophone: () => app.session?.renewMicrophone(),
  onOutput: () => app.session?.renewOutput(),
  onMode: () => app.session?.setMode(mode()),
  figures: () => JSON.stringify(diagnostics(), null, 1),
  inRoom: () => app.session !== null,
  levelled: () => app.me?.levelling === true,
});

/** What is the case: `screen` is where we are, `me` the answer of GET me, `session` exists while in the room, `unreported` is one that nobody wants reports of. */
const app = { screen: 'loading', me: null, session: null, unreported: null, headphones: false, level: 0, recorded: false };

start();

function start() {
  translatePage();
  view.showLanguage();
  const { join, mute, leave, volume, language } = view.elements;
  volume.value = recall('volume') ?? '100';
  view.elements['volume-2'].value = volume.value;
  view.elements['volume-2'].addEventListener('input', ({ target }) => { volume.value = target.value; changeVolume(); });
  view.elements['settings-open'].addEventListener('click', () => panel.open());
  view.elements.try.addEventListener('click', () => panel.open());
  holdToTalk(view.elements.hold);
  listenToKeys({
    active: () => app.session !== null && keysAreOn() && !document.querySelector('dialog[open]'),
    mute: pressMute,
    hand: raiseHand,
    talk: (held) => app.session?.hold(held) ?? false,
  });
  setInterval(sendReport, REPORT_MS);
  join.addEventListener('click', enter);
  leave.addEventListener('click', leaveRoom);
  mute.addEventListener('click', pressMute);
  volume.addEventListener('input', changeVolume);
  language.addEventListener('click', changeLanguage);
  view.elements['hand-button'].addEventListener('click', raiseHand);
  window.addEventListener('pagehide', () => app.session?.leave());
  // Back from the browser's cache the streams are gone; a fresh page is the honest state.
  window.addEventListener('pageshow', ({ persisted }) => { if (persisted) location.reload(); });
  setInterval(showFigures, FIGURES_MS);
  setInterval(lookForRevocation, KEY_CHECK_MS);
  Object.defineProperty(window, 'palabreState', { get: diagnostics });
  refresh();
  learnWhoIAm(new Backoff());
}

async function learnWhoIAm(backoff) {
  const answer = await askMe();
  if (answer.me) app.me = answer.me;
  go(answer.screen);
  if (answer.screen === 'away') setTimeout(() => learnWhoIAm(backoff), Math.max(500, backoff.next()));
}

async function askMe() {
  try {
    const response = await fetch('me', { cache: 'no-store' });
    if (response.status === 401) return { screen: 'unknown' };
    if (!response.ok) return { screen: 'away' };
    const me = asHere(await response.json());
    return { me, screen: window.isSecureContext ? 'door' : 'old' };
  } catch {
    return { screen: 'away' };
  }
}

/** A frame that is refused looks like any other that ends; only a request tells why. */
async function lookForRevocation() {
  if (app.session?.state.connection !== 'lost') return;
  const { screen } = await askMe();
  if (screen !== 'unknown' || !app.session) return;
  leaveRoom();
  go('unknown');
}

/** Without AudioWorklet one can listen only. */
function asHere(me) {
  return hasWorklets() ? me : { ...me, listen_only: true };
}

function go(screen) {
  app.screen = screen;
  refresh();
}

/** In the click itself: browsers let sound begin only there. */
function enter() {
  const { me } = app;
  const muted = me.join_muted || recall('muted') === 'yes';
  const options = { muted, volume: view.elements.volume.value / 100, ...wishes() };
  app.headphones = me.join_muted && !me.listen_only;
  app.recorded = false;
  people.clear();
  people.setMe(me);
  app.session = new Session(me, options, {
    onChange: refresh,
    onPeak: showPeak,
    onMe: (given) => { const newer = asHere(given); app.me = newer; people.setMe(newer); refresh(); },
    onRoom: ({ people: all, states, recording }) => { people.setPeople(all, states); app.recorded = recording; refresh(); },
    onStates: (marks) => people.setStates(marks),
    onLevels: (marks) => { people.setLevels(marks); view.showTalking(people.talking(me.name)); refresh(); },
    onMessage: (message) => messages.add(message),
    onFault: (what) => errors.add(what),
  });
  app.screen = 'inside';
  view.showInside();
  app.session.setMode(mode());
  app.session.join();
  askWithout().then((names) => people.setUnheard(names ?? []));
  refresh();
}

/** For tests and for the curious: `#uplink=post` never tries a WebSocket, `#renew=COST` renews the stream sooner (renewal.js). */
function wishes() {
  const asked = new URLSearchParams(location.hash.slice(1));
  return { postOnly: asked.get('uplink') === 'post', renewCost: Number(asked.get('renew')) || undefined };
}

function leaveRoom() {
  const { session } = app;
  // What it says while it ends is no longer of interest.
  app.session = null;
  session?.leave();
  people.clear();
  messages.clear();
  go('left');
  view.elements.join.focus();
}

function pressMute() {
  const { session } = app;
  if (!session || app.me.listen_only) return;
  if (['refused', 'missing', 'busy'].includes(session.state.microphone)) {
    session.askAgain();
    return;
  }
  const muted = !session.state.muted;
  remember('muted', muted ? 'yes' : 'no');
  app.headphones = false;
  session.setMuted(muted);
  showPeak(0);
  view.speakOfMicrophone(muted ? 'muted' : microphoneWord(session.state));
}

/** Whom one doesn't hear stands in a file of one's own on the server, so the mixer leaves them out at once. */
async function unhear(name, unheard) {
  const before = [...people.unheard];
  const after = before.filter((other) => other !== name);
  if (unheard) after.push(name);
  people.setUnheard(after);
  if (!(await setWithout(after))) people.setUnheard(before);
}

/** The same as the space bar, for fingers. */
function holdToTalk(button) {
  const hold = (held) => app.session?.hold(held);
  button.addEventListener('pointerdown', (event) => {
    button.setPointerCapture(event.pointerId);
    hold(true);
  });
  for (const end of ['pointerup', 'pointercancel', 'lostpointercapture', 'blur']) button.addEventListener(end, () => hold(false));
  button.addEventListener('keydown', (event) => { if ([' ', 'Enter'].includes(event.key)) { event.preventDefault(); hold(true); } });
  button.addEventListener('keyup', (event) => { if ([' ', 'Enter'].includes(event.key)) hold(false); });
  button.addEventListener('contextmenu', (event) => event.preventDefault());
}

/** So that the operator sees what the person would otherwise have to tell. */
async function sendReport() {
  const { session } = app;
  if (session?.state.connection !== 'live' || session === app.unreported) return;
  if (!(await report(figuresToReport(diagnostics())))) app.unreported = session;
}

function raiseHand() {
  const { session } = app;
  if (!session) return;
  session.setHand(!session.state.hand);
}

function changeVolume() {
  const { value } = view.elements.volume;
  remember('volume', value);
  view.elements['volume-2'].value = value;
  app.session?.setVolume(value / 100);
}

function changeLanguage() {
  switchLanguage();
  view.showLanguage();
  people.translate();
  messages.translate();
  refresh();
}

function refresh() {
  const room = app.me?.room ?? '';
  const { session } = app;
  if (session) {
    view.showHand(session.state.hand);
    view.showHold(session.state.mode === 'talk' && !session.state.muted && session.state.microphone === 'on', session.state.held);
    view.showState({ room, recorded: app.recorded, connection: session.state.connection, microphone: microphoneWord(session.state) });
    view.showNotices(notices(session));
    if (session.state.connection !== 'live') people.hush();
    if (!session.state.audible) showPeak(0);
  } else {
    view.showState({ room: '', connection: '', microphone: 'off' });
    view.showDoor(door(app.screen, app.me));
  }
}

function door(screen, me) {
  const troubles = { unknown: 'keyBad', away: 'serverAway', old: 'tooOld' };
  const trouble = troubles[screen];
  if (trouble) return { title: say(trouble), hint: say(`${trouble}Hint`), troubled: true };
  if (screen === 'loading') return { title: say('loading') };
  const room = say('roomNamed', { room: me.room });
  if (screen === 'left') return { title: say('left'), hint: say('leftHint'), join: say('joinAgain'), room };
  const title = say('hello', { name: me.display || me.name });
  if (!hasWorklets()) return { title, hint: say('doorFallback'), join: say('join'), room };
  if (me.listen_only) return { title: me.display || me.name, hint: say('doorListen'), join: say('join'), room };
  return { title, hint: say('doorHint'), warning: me.join_muted ? say('doorMuted') : '', join: say('join'), room };
}

/** One word for the microphone, the worst truth first. */
function microphoneWord({ connection, microphone, muted, uplink, audible }) {
  if (app.me.listen_only) return 'listener';
  if (['off', 'asking'].includes(microphone)) return 'asking';
  if (microphone !== 'on') return 'off';
  if (muted) return 'muted';
  if (people.operatorMutedMe) return 'operator';
  if (uplink === 'taken') return 'taken';
  // A context that is held back doesn't run the microphone either.
  if (!audible) return 'held';
  if (app.session.state.mode === 'talk' && !app.session.state.held) return 'ready';
  return uplink === 'open' && connection === 'live' ? 'on' : 'waiting';
}

function notices(session) {
  const { audible, microphone, uplink } = session.state;
  const list = [];
  if (!audible) list.push({ key: 'silentDevice', urgent: true, action: 'wake', onAction: () => session.wake() });
  if (['refused', 'missing', 'busy'].includes(microphone)) list.push({ key: microphone, action: 'tryAgain', onAction: () => session.askAgain() });
  if (uplink === 'taken') list.push({ key: 'taken', urgent: true, action: 'takeBack', onAction: () => session.takeBack() });
  if (app.headphones && microphone === 'on' && list.length === 0) list.push({ key: 'wearHeadphones', action: 'understood', onAction: understood });
  return list;
}

function understood() {
  app.headphones = false;
  refresh();
  view.elements.mute.focus();
}

/** Up at once, down slowly, on a scale of decibels: as a meter is read. */
function showPeak(peak) {
  const share = peak > 0 ? Math.max(0, 1 + (20 * Math.log10(peak)) / 50) : 0;
  app.level = peak === 0 ? 0 : Math.max(share, app.level * METER_FALL);
  view.showLevel(app.level);
}

function diagnostics() {
  const own = { browser: browserName(navigator.userAgent), errors: errors.last };
  return Object.freeze({ screen: app.screen, ...(app.session?.diagnostics ?? {}), ...own });
}

function showFigures() {
  if (!app.session || !view.elements.details.open) return;
  const d = diagnostics();
  const ms = (value) => `${Math.round(value || 0)} ms`;
  view.showFigures([
    ['detailDelay', ms(d.delayMs)],
    ['detailDepth', ms(d.depthMs)],
    ['detailMargin', ms(d.marginMs)],
    ['detailOutput', ms(d.outputMs)],
    ['detailUnderruns', `${d.stretches} · ${d.underruns}`],
    ['detailChunks', `${d.chunks} · ${d.lost}`],
    ['detailRenewals', `${d.renewals} · ${d.reconnects}`],
    ['detailCodec', d.codec],
    ['detailRates', `${d.streamRate} · ${d.contextRate} Hz`],
    ['detailUplink', say(`uplink${d.uplinkKind[0].toUpperCase()}${d.uplinkKind.slice(1)}`)],
    ['detailSent', `${d.sent} · ${d.dropped}`],
    ['detailJitter', ms(d.jitterMs)],
    ['detailBytes', `${Math.round((d.bytes || 0) / 1024)} KiB`],
    ['detailBrowser', d.browser],
    ['detailErrors', d.errors.join(' · ') || '–'],
  ]);
}
