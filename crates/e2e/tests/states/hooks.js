// Gives the page answers that a listener seldom sends. `states` holds them; the page's own modules do the rest.
window.states = (() => {
  const states = { answers: JSON.parse(sessionStorage.answers ?? '{}') };

  // A reaction stays until the page is left.
  const realTimeout = window.setTimeout;
  window.setTimeout = (call, ...rest) => (new Error().stack.includes('participant-list.js') ? 0 : realTimeout(call, ...rest));

  // `answers` maps the first path component of a request to a status, to fields that replace those of the listener's answer, or to 'none'
  // for an answer that doesn't come.
  const realFetch = window.fetch;
  window.fetch = async (url, ...rest) => {
    const answer = states.answers[String(url).split('?')[0]];
    if (answer === 'none') return new Promise(() => {});
    if (typeof answer === 'number') return new Response(null, { status: answer });
    const response = await realFetch(url, ...rest);
    return String(url) === 'me' && response.ok ? Response.json({ ...(await response.json()), ...answer }) : response;
  };
  return states;
})();
// The screen without a secure connection.
if (sessionStorage.insecure) Object.defineProperty(window, 'isSecureContext', { value: false });
