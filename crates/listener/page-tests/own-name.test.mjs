/** Tests of page/view/own-name.js: what the page shows for each status of the listener's response. */

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { register } from 'node:module';

// The listener's build generates the page's list of languages, so this test replaces it by a list of its own.
const list = 'data:text/javascript,export default ["en"]';
register(`data:text/javascript,${encodeURIComponent(`export const resolve = (name, context, next) => (
  name.endsWith('/languages.js') ? { url: '${list}', shortCircuit: true } : next(name, context));`)}`);
const elements = {};
const element = () => ({ attributes: {}, setAttribute(name, value) { this.attributes[name] = value; }, addEventListener(_, act) { this.submit = act; } });
globalThis.document = { getElementById: (id) => (elements[id] ??= element()) };
globalThis.navigator ??= {};
globalThis.location = new URL('https://localhost/');
const { OwnName } = await import('../page/view/own-name.js');

test('page says for each status why the name was not changed', async () => {
  const accepted = [];
  new OwnName((display) => accepted.push(display));
  const shown = {};
  for (const status of [204, 400, 409, 413, 429, 503]) {
    globalThis.fetch = async () => ({ status });
    elements['own-name-line'].value = ` Ali${status} `;
    elements['own-name'].submit({ preventDefault() {} });
    await new Promise(setImmediate);
    shown[status] = `${elements['own-name-said'].textContent.slice(0, 17)} ${elements['own-name-line'].attributes['aria-invalid']}`;
  }
  assert.deepEqual(shown, {
    204: 'Your name is now  false',
    400: 'This name can’t b true',
    409: 'Someone else has  true',
    413: 'This name can’t b true',
    429: 'You have changed  false',
    503: 'Your name was not false',
  });
  assert.deepEqual(accepted, ['Ali204']);
});
