/**
 * What the script of a page can try against a participant's page. Each attempt has an outcome in `window.outcomes`.
 *
 * `target`: the origin of the participant's page. `window.attacked` becomes true when all attempts have an outcome.
 */
window.outcomes = {};
window.attack = async (target) => {
  const note = (attempt, outcome) => { window.outcomes[attempt] = outcome; };
  const within = (ms) => new Promise((resolve) => { setTimeout(() => resolve('nothing happened'), ms); });

  const request = async (attempt, path, options) => {
    try {
      const response = await fetch(target + path, { signal: AbortSignal.timeout(5000), ...options });
      const text = response.status === 200 ? `: ${(await response.text()).slice(0, 80)}` : '';
      note(attempt, `${response.type} ${response.status}${text}`);
    } catch (error) {
      note(attempt, error.name === 'TypeError' ? 'refused' : String(error));
    }
  };
  const paths = ['/', '/me', '/listen', '/listen.wav', '/gains', '/page/app.js'];
  const bodies = {
    '/say': 'from another page', '/show': '{"hand":true,"microphone":"muted"}', '/gains': 'p02\tmute\n', '/name': 'Somebody else',
    '/report': '{"delay_ms":1}', '/speak': 'RIFF', '/paste': 'link=https://localhost/', '/enter': 'link=a&key=b',
  };
  const all = [];
  const credentials = 'include';
  for (const mode of ['cors', 'no-cors']) {
    for (const cache of ['default', 'force-cache']) {
      for (const path of paths) all.push(request(`GET ${path} ${mode} ${cache}`, path, { mode, credentials, cache }));
    }
    for (const [path, body] of Object.entries(bodies)) {
      all.push(request(`POST ${path} ${mode}`, path, { method: 'POST', mode, credentials, body, headers: { 'Content-Type': 'text/plain' } }));
    }
  }
  // Try to open more streams than a participant may have.
  for (let i = 0; i < 12; i += 1) all.push(request(`stream ${i}`, `/listen?page=other${i}`, { mode: 'no-cors', credentials }));
  all.push(request('POST with own fields', '/say', { method: 'POST', credentials, body: 'x', headers: { 'X-Own': '1' } }));
  navigator.sendBeacon(`${target}/say`, 'by beacon');

  const element = (tag, properties) => {
    const node = Object.assign(document.createElement(tag), properties);
    const outcome = new Promise((resolve) => {
      node.addEventListener('error', () => resolve('refused'));
      for (const event of ['load', 'loadedmetadata']) node.addEventListener(event, () => resolve('loaded'));
    });
    document.body.append(node);
    all.push(Promise.race([outcome, within(5000)]).then((it) => note(`${tag} ${properties.src ?? properties.href} ${properties.type ?? ''}`, it)));
  };
  for (const path of ['/me', '/listen', '/page/app.js', '/gains']) element('script', { src: target + path });
  element('script', { type: 'module', src: `${target}/page/app.js` });
  element('link', { rel: 'stylesheet', href: `${target}/page/style/base.css` });
  element('img', { src: `${target}/page/icons/icon.svg` });
  element('img', { src: `${target}/listen` });
  element('audio', { src: `${target}/listen.wav`, preload: 'auto' });

  for (const query of ['', '?page=other']) {
    const socket = new WebSocket(`${target.replace('https', 'wss')}/speak${query}`);
    const outcome = new Promise((resolve) => {
      socket.addEventListener('open', () => { socket.send(new Uint8Array(2000)); resolve('open'); });
      socket.addEventListener('error', () => resolve('refused'));
    });
    all.push(Promise.race([outcome, within(5000)]).then((it) => note(`WebSocket ${query}`, it)));
  }

  // Frames fire `load` for an error page too, so the test looks at their addresses.
  for (const path of ['/', '/me', '/listen']) {
    for (const [tag, name] of [['iframe', 'src'], ['object', 'data'], ['embed', 'src']]) {
      document.body.append(Object.assign(document.createElement(tag), { [name]: target + path }));
    }
  }
  for (const [path, body] of Object.entries(bodies)) {
    const frame = Object.assign(document.createElement('iframe'), { name: `form${path}` });
    const form = Object.assign(document.createElement('form'), { method: 'post', action: target + path, enctype: 'text/plain', target: frame.name });
    form.append(Object.assign(document.createElement('input'), { name: body, value: 'by form' }));
    const answered = new Promise((resolve) => { frame.addEventListener('load', resolve, { once: true }); });
    document.body.append(frame, form);
    form.submit();
    all.push(Promise.race([answered, within(5000)]));
  }
  await Promise.all(all);
  window.attacked = true;
};

/** Opens the participant's page in a new tab and tries to read it. */
window.openAndRead = async (target) => {
  const opened = window.open(`${target}/`);
  const start = performance.now();
  while (!opened.closed && performance.now() - start < 20000) await new Promise((resolve) => { setTimeout(resolve, 20); });
  let text = 'refused';
  try {
    text = opened.document.body.textContent;
  } catch { /* The other page is out of reach. */ }
  window.outcomes.opened = opened.closed && text === 'refused' ? 'refused' : `reachable: ${text}`;
};
