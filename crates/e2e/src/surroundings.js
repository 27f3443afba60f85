// For tests: implements APIs that a headless browser lacks, simulates events (`happens`), and records which APIs the page uses (`seen`).
(() => {
  if (window.top !== window || window.seen) return;
  const seen = { contexts: [], states: [], asked: [], tracks: [], screen: [], session: [], spoken: [], copied: '', loudMs: 0, talkingMs: 0 };
  window.seen = seen;

  // The screen wake lock, which a browser without a screen refuses.
  const request = async (kind) => {
    const lock = { kind, released: false, release: async () => { lock.released = true; } };
    seen.screen.push(lock);
    return lock;
  };
  Object.defineProperty(navigator, 'wakeLock', { value: { request } });
  // Only Safari has navigator.audioSession.
  Object.defineProperty(navigator, 'audioSession', { value: { set type(type) { seen.session.push(type); } } });

  seen.mediaKeys = {};
  const { setActionHandler } = MediaSession.prototype;
  MediaSession.prototype.setActionHandler = function (key, action) {
    seen.mediaKeys[key] = action;
    return setActionHandler.call(this, key, action);
  };
  window.AudioContext = class extends AudioContext {
    constructor(...options) {
      super(...options);
      seen.contexts.push(this);
      this.addEventListener('statechange', () => seen.states.push(this.state));
    }
  };
  const { mediaDevices } = navigator;
  const { getUserMedia } = MediaDevices.prototype;
  MediaDevices.prototype.getUserMedia = async function (wanted) {
    seen.asked.push(structuredClone(wanted.audio));
    const isProbe = new Error().stack.includes('silence-probe.js');
    const media = await getUserMedia.call(this, wanted);
    // Leave out the tracks of the silence probe, which opens the microphone a second time.
    if (!isProbe) seen.tracks.push(...media.getTracks());
    return media;
  };
  const { clipboard } = navigator;
  const write = clipboard.writeText.bind(clipboard);
  clipboard.writeText = (text) => {
    seen.copied = text;
    return write(text);
  };

  // Records when the first loud chunk was sent, and when the page showed its own participant as talking.
  const { send } = WebSocket.prototype;
  WebSocket.prototype.send = function (data) {
    const loud = data.byteLength > 16 && new Int16Array(data.slice(16)).some((sample) => Math.abs(sample) > 500);
    if (loud) seen.loudMs ||= performance.now();
    return send.call(this, data);
  };
  addEventListener('DOMContentLoaded', () => {
    const { textContent } = document.getElementById('spoken');
    if (textContent) seen.spoken.push(textContent);
    new MutationObserver(() => seen.spoken.push(document.getElementById('spoken').textContent))
      .observe(document.getElementById('spoken'), { childList: true, characterData: true, subtree: true });
    new MutationObserver(() => { if (document.querySelector('#people [data-name="p01"].talking')) seen.talkingMs ||= performance.now(); })
      .observe(document.getElementById('people'), { attributeFilter: ['class'], subtree: true });
  });

  window.happens = {
    // Simulates a browser that suspends sound until a user gesture.
    holdBack: () => {
      const context = seen.contexts.at(-1);
      context.resume = () => new Promise(() => {});
      context.suspend();
    },
    letGo: () => { delete seen.contexts.at(-1).resume; },
    // Simulates a telephone call on iOS: the context is interrupted until resume() is called.
    call: () => {
      const context = seen.contexts.at(-1);
      Object.defineProperty(context, 'state', { configurable: true, value: 'interrupted' });
      context.resume = async () => {
        delete context.state;
        delete context.resume;
        context.dispatchEvent(new Event('statechange'));
      };
      context.dispatchEvent(new Event('statechange'));
    },
    plugIn: () => {
      const enumerate = mediaDevices.enumerateDevices.bind(mediaDevices);
      const headset = { kind: 'audiooutput', deviceId: 'headset', groupId: 'headset', label: 'Headset' };
      mediaDevices.enumerateDevices = async () => [...await enumerate(), headset];
      mediaDevices.dispatchEvent(new Event('devicechange'));
    },
    // Simulates that the computer was suspended: the wall clock advances, the monotonic clock stands still.
    wakeUp: () => {
      const [{ now }, stood] = [Date, performance.now()];
      Date.now = () => now() + 200000;
      performance.now = () => stood;
    },
    timeGoesOn: () => { delete performance.now; },
    // Simulates that the page was hidden: the browser has released the screen wake lock.
    hideAndShow: () => {
      seen.screen.at(-1).released = true;
      document.dispatchEvent(new Event('visibilitychange'));
    },
  };
})();
