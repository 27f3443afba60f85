// Gives the page inputs that otherwise take minutes, or come from the system. `states` holds them; the page's own modules do the rest.
window.states = (() => {
  const states = { tracks: [], contexts: new Set(), answers: JSON.parse(sessionStorage.answers ?? '{}'), laterMs: 0, asleepMs: 0, frozenMs: null, frozenDate: null };

  const isIn = (file) => new Error().stack.includes(file);
  const { getUserMedia } = MediaDevices.prototype;
  MediaDevices.prototype.getUserMedia = async function (...wanted) {
    const isProbe = isIn('silence-probe.js');
    const stream = await getUserMedia.apply(this, wanted);
    // Leave out the tracks of the silence probe, which opens the microphone a second time.
    if (!isProbe) states.tracks.push(...stream.getTracks());
    return stream;
  };
  // Mutes the microphone as the system does.
  states.muteBySystem = (muted) => {
    const track = states.tracks.at(-1);
    Object.defineProperty(track, 'muted', { configurable: true, value: muted });
    track.dispatchEvent(new Event(muted ? 'mute' : 'unmute'));
  };

  const { resume } = AudioContext.prototype;
  AudioContext.prototype.resume = function () {
    states.contexts.add(this);
    return states.isPaused ? new Promise(() => {}) : resume.call(this);
  };
  // Suspends the sound as a browser that waits for a tap does.
  states.pauseSound = () => {
    states.isPaused = true;
    for (const context of states.contexts) if (context.state === 'running') context.suspend();
  };

  const realNow = performance.now.bind(performance);
  const realDate = Date.now;
  // Only the page's module that watches the microphone sees a time that is `laterMs` later. After `freezeStream()`, the module of the stream sees
  // clocks that stand still.
  performance.now = () => {
    if (states.frozenMs !== null && isIn('stream/stream.js')) return states.frozenMs;
    return realNow() + (states.laterMs > 0 && isIn('microphone/microphone.js') ? states.laterMs : 0);
  };
  Date.now = () => (states.frozenDate !== null && isIn('stream/stream.js') ? states.frozenDate : realDate() + states.asleepMs);
  states.freezeStream = () => {
    states.frozenDate = realDate();
    states.frozenMs = realNow();
  };
  states.goOn = () => {
    states.frozenDate = states.frozenMs = null;
  };

  // Makes a reaction stay until the page is left, instead of fading.
  const realTimeout = window.setTimeout;
  window.setTimeout = (call, ...rest) => (isIn('participant-list.js') ? 0 : realTimeout(call, ...rest));

  // `answers` maps the relative URL of a request, without its query, to a status, to fields that replace those of the listener's answer to `me`, or
  // to 'none' for an answer that doesn't come.
  const realFetch = window.fetch;
  window.fetch = async (url, ...rest) => {
    const answer = states.answers[String(url).split('?')[0]];
    if (answer === 'none') return new Promise(() => {});
    if (typeof answer === 'number') return new Response(null, { status: answer });
    if (states.me && String(url) === 'me' && answer) return Response.json({ ...states.me, ...answer });
    const response = await realFetch(url, ...rest);
    if (String(url) !== 'me' || !response.ok) return response;
    states.me = await response.json();
    return Response.json({ ...states.me, ...answer });
  };
  return states;
})();
// The screen without a secure connection.
if (sessionStorage.insecure) Object.defineProperty(window, 'isSecureContext', { value: false });
