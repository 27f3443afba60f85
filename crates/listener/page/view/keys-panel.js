/** The list of keyboard shortcuts, which `?` opens. */

import { say } from '../text/text.js';
import { talkKeyName } from './settings-panel.js';

const panel = document.getElementById('keys');
document.getElementById('keys-close').addEventListener('click', () => panel.close());
panel.addEventListener('click', ({ target }) => { if (target === panel) panel.close(); });

/** Opens the list. */
export function showKeys() {
  fillKeys();
  panel.showModal();
}

/** Writes the list in the present language. */
export function fillKeys() {
  const rows = [
    ['M', 'keyMute'], ['H', 'keyHand'], [talkKeyName(), 'keyTalk'], ['?', 'keyKeys'], ['Tab', 'keyTab'], ['↑ ↓', 'keyArrows'], [say('escape'), 'keyEscape'],
  ];
  document.getElementById('keys-list').replaceChildren(...rows.map(([key, effect]) => {
    const pair = document.createElement('div');
    for (const [tag, text] of [['dt', key], ['dd', say(effect)]]) pair.append(Object.assign(document.createElement(tag), { textContent: text }));
    return pair;
  }));
}
