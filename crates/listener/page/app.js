/**
 * Palabre's page: connects the session with the view, and stores what the user chose. All addresses are relative, so that the page also
 * works below a path of a proxy.
 *
 * A file imports from its own folder and from folders above it in this list, which follows the sound and then a click:
 *
 *   base/        WAV, ADPCM, packets, resampler, retry delays, stored settings; imports nothing
 *   audio/       the AudioContext, output and input devices
 *   codec/       decodes and encodes Opus, and chooses how much the sound is compressed
 *   stream/      the injected stream and its records
 *   player/      from chunks to continuous sound
 *   microphone/  from the microphone to chunks, and the test before joining
 *   uplink/      sends the microphone's chunks
 *   room/        one stay in the room; what is known of the other participants
 *   text/        the texts in each language
 *   view/        what the user sees and operates
 *
 * style/ and icons/ hold no scripts.
 */

import { hasWorklets } from './audio/context.js';
import { Backoff } from './base/backoff.js';
import { recall, remember } from './base/storage.js';
import { decodesOpus } from './codec/opus-support.js';
import { ErrorLog, browserName, figuresToReport } from './room/diagnostics.js';
import { Gains } from './room/gains.js';
import { showMediaMicrophone, startMediaKeys, stopMediaKeys } from './room/media-keys.js';
import { Quality } from './room/quality.js';
import { sendReport } from './room/requests.js';
import { Session } from './room/session.js';
import { locale, say, switchLanguage, translatePage } from './text/text.js';
import { Comings, alertUser } from './view/alerts.js';
import { listenToKeys } from './view/keyboard.js';
import { fillKeys, showKeys } from './view/keys-panel.js';
import { Messages } from './view/messages.js';
import { ParticipantList } from './view/participant-list.js';
import { PersonPanel } from './view/person-panel.js';
import { SettingsPanel, mode, quality, shortcutsAreOn, talkKey } from './view/settings-panel.js';
import * as view from './view/view.js';

/** Interval between updates of the details panel, and of the rating of the connection. */
const FIGURES_MS = 500;
/** While the connection is lost: interval between checks whether the listener refuses the access key or a further stream. */
const KEY_CHECK_MS = 5000;
/** Interval between checks, before joining, whether the room is being recorded and the key is still valid. */
const DOOR_CHECK_MS = 10000;
/** The screens of a participant whose access key is not accepted. */
const REFUSED = ['unknown', 'suspended'];
/** Interval between reports to the listener. */
const REPORT_MS = 10000;
/** Minimum delay before GET me, which tells who the participant is, is repeated. */
const MIN_RETRY_MS = 500;
/** Factor by which the meter falls with each chunk. */
const METER_FALL = 0.7;
/** Minimum interval between two changes of the user's own meter. Each change makes the browser draw a frame. */
const METER_MS = 80;
const gains = new Gains((name) => { people.showGains(name); person.refresh(); });
const person = new PersonPanel(gains);
const people = new ParticipantList(view.participantPlaces, gains, (participant) => person.open(participant));
const messages = new Messages(view.messageParts, people, {
  onUnread: (count) => { view.showUnread(count); refresh(); },
  onReaction: (name, text) => people.react(name, text),
  onNew: (from, text) => alertUser('texts', volumeNow(), from, text),
});
const comings = new Comings();
const errors = new ErrorLog();
const panel = new SettingsPanel({
  onMicrophone: () => app.session?.renewMicrophone(),
  onOutput: () => app.session?.renewOutput(),
  onMode: () => app.session?.setMode(mode()),
  onQuality: () => app.session?.setQuality(quality()),
  onWarn: () => app.session?.applyWarning(),
  figures: () => JSON.stringify(diagnostics(), null, 1),
  inRoom: () => app.session !== null,
  me: () => app.me,
  onRenamed: (display) => greet({ ...app.me, display }),
});

/** Version of this page's files: the first version that the listener has sent. */
let version = '';
/**
 * `me` is the answer of GET me; `session` is set while in the room; `unreported` is a session whose listener takes no reports; `full` says that the
 * listener refuses a further stream; `cutOff` names the machines to which the connection is lost; `outdated` says that the listener has a newer page.
 */
const app = { screen: 'loading', me: null, session: null, unreported: null, full: false, headphones: false, level: 0, meterMs: 0, recorded: false, noMixer: false, cutOff: [], quality: null, weak: false, outdated: false };

start();

function start() {
  translatePage();
  view.showLanguage();
  const { join, mute, leave, volume, language } = view.elements;
  volume.value = recall('volume') ?? '100';
  view.elements['volume-2'].value = volume.value;
  view.showVolume(volume.value);
  view.elements['volume-2'].addEventListener('input', ({ target }) => { volume.value = target.value; changeVolume(); });
  view.elements['settings-open'].addEventListener('click', () => panel.open());
  view.elements['test-open'].addEventListener('click', () => panel.open());
  holdToTalk(view.elements.hold);
  listenToKeys({
    active: () => app.session !== null && shortcutsAreOn() && !document.querySelector('dialog[open]'),
    mute: pressMute,
    hand: raiseHand,
    keys: showKeys,
    talkKey,
    talk: (held) => app.session?.hold(held) ?? false,
  });
  setInterval(reportFigures, REPORT_MS);
  join.addEventListener('click', enter);
  leave.addEventListener('click', () => leaveRoom('left'));
  mute.addEventListener('click', pressMute);
  volume.addEventListener('input', changeVolume);
  language.addEventListener('click', changeLanguage);
  view.elements['hand-button'].addEventListener('click', raiseHand);
  window.addEventListener('pagehide', () => app.session?.leave());
  // A page restored from the back/forward cache has lost its streams.
  window.addEventListener('pageshow', ({ persisted }) => { if (persisted) location.reload(); });
  whileVisible(showFigures, FIGURES_MS);
  setInterval(rateConnection, FIGURES_MS);
  setInterval(checkKey, KEY_CHECK_MS);
  whileVisible(checkDoor, DOOR_CHECK_MS);
  Object.defineProperty(window, 'palabreState', { get: diagnostics });
  refresh();
  loadMe(new Backoff());
}

async function loadMe(backoff) {
  const answer = await fetchMe();
  if (answer.me) app.me = answer.me;
  // Firefox starts a process for its first decoder, which takes half a second. So check early whether the browser decodes Opus.
  if (answer.me?.codec) decodesOpus();
  go(answer.screen);
  if (answer.screen === 'away') setTimeout(() => loadMe(backoff), Math.max(MIN_RETRY_MS, backoff.next()));
}

async function fetchMe() {
  try {
    const response = await fetch('me', { cache: 'no-store' });
    if (response.status === 401) return { screen: 'unknown' };
    if (response.status === 403) return { screen: 'suspended' };
    if (!response.ok) return { screen: 'away' };
    const me = adapted(await response.json());
    return { me, screen: window.isSecureContext ? 'door' : 'insecure' };
  } catch {
    return { screen: 'away' };
  }
}

/** Asks the listener whether it accepts the access key and a further stream: the end of a frame doesn't tell why the listener refused it. */
async function checkKey() {
  const { session } = app;
  if (session?.state.connection !== 'lost') return;
  const { screen } = await fetchMe();
  const full = screen === 'door' && await session.isRefused();
  if (session !== app.session) return;
  if (REFUSED.includes(screen)) leaveRoom(screen);
  else if (full !== app.full) {
    app.full = full;
    refresh();
  }
}

/** Asks the listener again while the screen before joining is visible: a recording may begin. */
async function checkDoor() {
  const { screen } = app;
  if (!['door', 'left', 'otherTab'].includes(screen)) return;
  const answer = await fetchMe();
  if (app.screen !== screen) return;
  if (app.outdated && !document.querySelector('dialog[open]')) return location.reload();
  if (answer.me) app.me = answer.me;
  if (REFUSED.includes(answer.screen)) go(answer.screen);
  else refresh();
}

/** Notes whether the listener has a newer page. Returns `me`, changed to listen-only if the browser has no AudioWorklet. */
function adapted(me) {
  version ||= me.page;
  app.outdated = me.page !== version;
  return hasWorklets() ? me : { ...me, listen_only: true };
}

/** Shows this page's participant as the listener describes them. */
function greet(me) {
  app.me = me;
  people.setMe(me);
  messages.setMe(me);
  refresh();
}

function go(screen) {
  app.screen = screen;
  refresh();
}

/** Joins the room. Call only in a click handler: browsers let sound start only there. */
function enter() {
  const { me } = app;
  const muted = me.join_muted || recall('muted') === 'yes';
  const options = { muted, volume: volumeNow(), quality: quality(), ...optionsOfAddress() };
  app.headphones = me.join_muted && !me.listen_only;
  app.recorded = false;
  app.full = false;
  app.noMixer = false;
  app.cutOff = [];
  app.weak = false;
  app.quality = new Quality();
  people.clear();
  comings.clear();
  people.setMe(me);
  messages.setMe(me);
  gains.forget();
  app.session = new Session(me, options, {
    onChange: refresh,
    onLive: () => { app.full = false; messages.wake(); gains.restore(); },
    onPeak: showPeak,
    onMe: (given) => greet(adapted(given)),
    onRoom: ({ people: all, states, recording, noMixer, machines }) => {
      people.setPeople(all, states, machines);
      tellComings();
      Object.assign(app, { recorded: recording, noMixer, cutOff: machines.filter(({ cutOff }) => cutOff).map(({ name }) => name) });
      followOtherPages();
      refresh();
    },
    onStates: (marks) => { people.setStates(marks); tellComings(); followOtherPages(); },
    onLevels: (marks) => { people.setLevels(marks); view.showTalking(people.talking(me.name)); refresh(); },
    onTexts: (texts) => messages.add(texts),
    onFault: (what) => errors.add(what),
    onOtherTab: () => leaveRoom('otherTab'),
    onRemoved: () => leaveRoom('removed'),
  });
  app.screen = 'inside';
  view.showInside(mode() === 'talk');
  app.session.setMode(mode());
  app.session.join();
  startMediaKeys(say('roomNamed', { room: me.room }), { mute: pressMute, leave: () => leaveRoom('left') });
  refresh();
}

/** Tells the session how the others see this participant: another page of the participant may have raised the hand. */
function followOtherPages() {
  if (people.mine) app.session?.seenAs(people.mine);
}

/**
 * For tests: `#uplink=post` never tries a WebSocket, `#renew=COST` sets the maximum cost of a frame (stream/frames.js), `#kbps=N` sets the bit rate
 * of Opus in both directions, or PCM if N is 0.
 */
function optionsOfAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  return { postOnly: asked.get('uplink') === 'post', renewCost: Number(asked.get('renew')) || undefined, kbps: asked.has('kbps') ? Number(asked.get('kbps')) : undefined };
}

/** @param {string} screen to show instead of the room */
function leaveRoom(screen) {
  const { session } = app;
  app.session = null;
  session?.leave();
  stopMediaKeys();
  person.close();
  people.clear();
  messages.clear();
  go(screen);
  checkDoor();
  view.elements.join.focus();
}

function pressMute() {
  const { session } = app;
  if (!session || app.me.listen_only) return;
  if (['off', 'refused', 'missing', 'busy'].includes(session.state.microphone)) {
    session.askAgain();
    return;
  }
  if (!session.state.muted && ['taken', 'free'].includes(session.state.uplink)) {
    session.takeBack();
    return;
  }
  const muted = !session.state.muted;
  remember('muted', muted ? 'yes' : 'no');
  app.headphones = false;
  session.setMuted(muted);
  showPeak(0);
  view.announceMicrophone(muted ? 'muted' : microphoneState(session.state));
}

/** Makes the push-to-talk button work like the space bar. */
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

async function reportFigures() {
  const { session } = app;
  if (session?.state.connection !== 'live' || session === app.unreported) return;
  if (!(await sendReport(figuresToReport(diagnostics())))) app.unreported = session;
}

/** Tells the user which participants have joined or raised a hand, except participants whom the user doesn't hear. */
function tellComings() {
  for (const { kind, name, label } of comings.look(people.others)) {
    if (!gains.isMuted(name)) alertUser(kind, volumeNow(), say(kind === 'hands' ? 'alertHand' : 'alertJoin', { name: label }));
  }
}

function volumeNow() {
  return view.elements.volume.value / 100;
}

function raiseHand() {
  const { session } = app;
  if (!session) return;
  session.setHand(!session.state.hand);
}

function changeVolume() {
  const { value } = view.elements.volume;
  remember('volume', value);
  view.showVolume(value);
  view.elements['volume-2'].value = value;
  app.session?.setVolume(value / 100);
}

function changeLanguage() {
  switchLanguage();
  view.showLanguage();
  people.translate();
  messages.translate();
  fillKeys();
  person.refresh();
  refresh();
}

function refresh() {
  const room = app.me?.room ?? '';
  const { session } = app;
  if (session) {
    view.showHand(session.state.hand);
    view.showHold(session.state.mode === 'talk' && !session.state.muted && session.state.microphone === 'on', session.state.held);
    const connection = app.noMixer && session.state.connection === 'live' ? 'noSound' : session.state.connection;
    const microphone = microphoneState(session.state);
    view.showState({ room, recorded: app.recorded, connection, weak: app.weak, cutOff: cutOffMachines(session), microphone });
    showMediaMicrophone(['on', 'waiting', 'ready'].includes(microphone));
    view.showNotices(notices(session));
    if (connection !== 'live') people.hush();
    if (!session.state.audible || session.state.systemMuted) showPeak(0);
  } else {
    view.showState({ room: '', connection: '', microphone: 'off' });
    view.showDoor(door(app.screen, app.me));
  }
}

function door(screen, me) {
  const troubles = { unknown: 'keyBad', suspended: 'suspended', away: 'serverAway', insecure: 'insecure', removed: 'removed' };
  const trouble = troubles[screen];
  if (trouble) return { title: say(trouble), hint: say(`${trouble}Hint`), troubled: true };
  if (screen === 'loading') return { title: say('loading') };
  return { room: say('roomNamed', { room: me.room }), recorded: me.recording ? say('doorRecorded') : '', ...invitation(screen, me) };
}

/** Returns the texts of a screen with a button to join. */
function invitation(screen, me) {
  if (screen === 'left') return { title: say('left'), hint: say('leftHint'), join: say('rejoin') };
  if (screen === 'otherTab') return { title: say('otherTab'), hint: say('otherTabHint'), join: say('joinHere') };
  const [title, join] = [say('hello', { name: me.display || me.name }), say('join')];
  if (!hasWorklets()) return { title, hint: say('doorFallback'), join };
  if (me.listen_only) return { title: me.display || me.name, hint: say('doorListen'), join };
  return { title, hint: say('doorHint'), warning: me.join_muted ? say('doorMuted') : '', join };
}

/** Returns the state of the microphone as the view shows it; of several problems, the worst. */
function microphoneState({ connection, microphone, muted, systemMuted, silent, uplink, audible }) {
  if (app.me.listen_only) return 'listener';
  if (microphone === 'asking') return 'asking';
  if (microphone !== 'on') return 'off';
  if (muted) return 'muted';
  if (systemMuted) return 'system';
  if (silent) return 'silent';
  if (people.mutedByHost) return 'operator';
  if (uplink === 'taken' || uplink === 'free') return uplink;
  // While the browser suspends the AudioContext, the microphone's worklet doesn't run either.
  if (!audible) return 'held';
  if (uplink !== 'open' || connection !== 'live') return 'waiting';
  return app.session.state.mode === 'talk' && !app.session.state.held ? 'ready' : 'on';
}

function notices(session) {
  const { connection, audible, microphone, uplink, silent, systemMuted, talkingMuted, mutedBecause } = session.state;
  const list = [];
  if (connection === 'lost') list.push({ key: app.full ? 'tooManyPages' : 'noLine', urgent: true, action: 'reconnectNow', onAction: () => session.reconnect() });
  if (!audible) list.push({ key: 'soundPaused', urgent: true, action: 'turnOnSound', onAction: () => session.wake() });
  if (['refused', 'missing', 'busy'].includes(microphone)) list.push({ key: microphone, action: 'tryAgain', onAction: () => session.askAgain() });
  if (silent && microphone === 'on') list.push({ key: systemMuted ? 'systemMuted' : 'silent', urgent: true, action: 'settings', onAction: () => panel.open() });
  if (mutedBecause) list.push({ key: mutedBecause === 'away' ? 'wasAway' : 'wasMoved', values: { room: app.me.room }, urgent: true, action: 'unmute', onAction: pressMute });
  else if (talkingMuted) list.push({ key: 'talkingMuted', urgent: true, action: 'unmute', onAction: pressMute });
  if (uplink === 'taken' || uplink === 'free') list.push({ key: uplink, urgent: true, action: 'takeBack', onAction: () => session.takeBack() });
  if (app.outdated && list.length === 0) list.push({ key: 'outdated', action: 'reload', onAction: () => location.reload() });
  if (app.headphones && microphone === 'on' && list.length === 0) list.push({ key: 'wearHeadphones', action: 'gotIt', onAction: dismissHeadphones });
  const machines = cutOffMachines(session);
  if (machines) list.push({ key: 'cutOff', values: { machines } });
  return list;
}

/** Returns the machines to which the connection is lost, as a text. If the page's own connection is lost too, only that is of interest. */
function cutOffMachines(session) {
  return session.state.connection === 'lost' ? '' : new Intl.ListFormat(locale()).format(app.cutOff);
}

function dismissHeadphones() {
  app.headphones = false;
  refresh();
  view.elements.mute.focus();
}

/** Shows a level on a scale of 50 dB; it rises at once and falls slowly. */
function showPeak(peak) {
  const share = peak > 0 ? Math.max(0, 1 + (20 * Math.log10(peak)) / 50) : 0;
  app.level = peak === 0 ? 0 : Math.max(share, app.level * METER_FALL);
  const now = performance.now();
  if (app.level > 0 && now < app.meterMs + METER_MS) return;
  app.meterMs = now;
  view.showLevel(app.level);
}

function diagnostics() {
  const own = { browser: browserName(navigator.userAgent), errors: errors.last };
  return Object.freeze({ screen: app.screen, ...(app.session?.diagnostics ?? {}), ...own });
}

function rateConnection() {
  const { session } = app;
  if (!session) return;
  const { connection, ...figures } = session.diagnostics;
  const weak = app.quality.isWeak(figures, performance.now()) && connection === 'live';
  if (weak === app.weak) return;
  app.weak = weak;
  session.setWeak(weak);
}

/** Calls a function at an interval while the tab is visible, and at once when the tab becomes visible. */
function whileVisible(look, intervalMs) {
  let timer = document.hidden ? null : setInterval(look, intervalMs);
  document.addEventListener('visibilitychange', () => {
    clearInterval(timer);
    timer = document.hidden ? null : setInterval(look, intervalMs);
    if (!document.hidden) look();
  });
}

/** Returns the megabytes in an hour at this bit rate. */
function megabytes(kbps) {
  return Math.round((kbps * 3600) / 8 / 1000);
}

function showFigures() {
  if (!app.session || !view.elements.details.open) return;
  const d = diagnostics();
  const ms = (value) => `${Math.round(value || 0)} ms`;
  view.showFigures([
    ['detailQuality', say(app.weak ? 'weak' : 'good')],
    ['detailDelay', ms(d.delayMs)],
    ['detailDepth', ms(d.depthMs)],
    ['detailOutput', ms(d.outputMs)],
    ['detailMargin', ms(d.marginMs)],
    ['detailUnderruns', `${d.stretches} · ${d.underruns}`],
    ['detailChunks', `${d.chunks} · ${d.lost}`],
    ['detailRenewals', `${d.renewals} · ${d.reconnects}`],
    ['detailCodec', `${d.codec} · ${d.uplinkCodec}`],
    ['detailBitRate', `${Math.round(d.inKbps)} · ${Math.round(d.outKbps)} kbit/s`],
    ['detailHour', `${megabytes(d.inKbps)} · ${megabytes(d.outKbps)} MB`],
    ['detailRates', `${d.streamRate} · ${d.contextRate} Hz`],
    ['detailUplink', say(`uplink${d.uplinkKind[0].toUpperCase()}${d.uplinkKind.slice(1)}`)],
    ['detailSent', `${d.sent} · ${d.dropped}`],
    ['detailJitter', ms(d.jitterMs)],
    ['detailBytes', `${Math.round((d.bytes || 0) / 1024)} KiB`],
    ['detailBrowser', d.browser],
    ['detailErrors', d.errors.join(' · ') || '–'],
  ]);
}
