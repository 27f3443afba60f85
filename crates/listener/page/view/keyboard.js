/**
 * Keyboard shortcuts: m mutes, h raises a hand, ? shows the keys, and the talk key is held to talk. They have no effect in text fields
 * or with Ctrl, Alt or Meta, and can be switched off (WCAG 2.1.4).
 *
 * After a click the clicked button keeps the focus, and the space bar would press it again. So the talk key talks on buttons too, unless
 * the user has moved the focus there with the keyboard. `:focus-visible` doesn't tell that: it is also true after Esc has closed a panel
 * that was opened with the mouse.
 */

const FIELDS = 'textarea, select, [contenteditable], input:not([type="range"], [type="checkbox"], [type="radio"])';
const CONTROLS = 'input, button, summary, a, [tabindex="0"]';
/** Keys that move the focus. */
const MOVES = ['Tab', 'ArrowUp', 'ArrowDown', 'ArrowLeft', 'ArrowRight', 'Home', 'End'];
/** Keys that can't be the talk key: the shortcuts, the keys that operate controls, and the keys that only change other keys. */
const TAKEN = [
  'm', 'M', 'h', 'H', '?', 'Enter', 'Escape', 'PageUp', 'PageDown', 'Shift', 'Control', 'Alt', 'AltGraph', 'Meta', 'CapsLock', 'Dead', 'Process',
  'Unidentified', ...MOVES,
];
const SHORTCUTS = { m: 'mute', M: 'mute', h: 'hand', H: 'hand', '?': 'keys' };

/** The talk key until the user chooses another. */
export const SPACE = { code: 'Space', label: ' ' };

/**
 * @typedef {{key: string, code?: string, ctrlKey?: boolean, altKey?: boolean, metaKey?: boolean, target?: object}} KeyEvent
 * @typedef {{code: string, label: string}} TalkKey code: position on the keyboard; label: what the key types, or its name
 */

/**
 * @param {KeyEvent} event
 * @param {{talkKey?: TalkKey, byKeyboard?: boolean}} [context] byKeyboard: whether the user has moved the focus with the keyboard
 * @returns {'mute' | 'hand' | 'keys' | 'talk' | null}
 */
export function shortcutOf({ key, code, ctrlKey, altKey, metaKey, target }, { talkKey = SPACE, byKeyboard = false } = {}) {
  if (ctrlKey || altKey || metaKey) return null;
  const types = key.length === 1 && target?.closest?.(FIELDS);
  if (types) return null;
  if (!isKey({ key, code }, talkKey)) return SHORTCUTS[key] ?? null;
  const presses = isKey({ key, code }, SPACE) && byKeyboard && target?.closest?.(CONTROLS);
  return presses ? null : 'talk';
}

/** On-screen keyboards and remote controls may send no `code`. */
function isKey({ key, code }, wanted) {
  return code ? code === wanted.code : key === wanted.label;
}

/** @param {KeyEvent} event; @returns {TalkKey | null} null if the key can't be the talk key */
export function talkKeyOf({ key, code, ctrlKey, altKey, metaKey }) {
  if (!code || !key || ctrlKey || altKey || metaKey || TAKEN.includes(key)) return null;
  return { code, label: key };
}

/**
 * @param {{active: () => boolean, talkKey: () => TalkKey, mute: () => void, hand: () => void, keys: () => void,
 *   talk: (held: boolean) => boolean}} actions talk: returns whether the microphone mode is push to talk
 */
export function listenToKeys({ active, talkKey, mute, hand, keys, talk }) {
  let held = '';
  let moves = false;
  // The elements that got the focus by the keyboard since the last click. A button that opened a panel by a click is not one of them when the panel is
  // closed, even if the user has used arrow keys in the panel.
  let reached = new WeakSet();
  const release = () => {
    if (held) talk(false);
    held = '';
  };
  document.addEventListener('pointerdown', () => {
    moves = false;
    reached = new WeakSet();
  }, true);
  document.addEventListener('focusin', ({ target }) => {
    if (moves) reached.add(target);
  });
  document.addEventListener('keydown', (event) => {
    moves = MOVES.includes(event.key);
    const byKeyboard = reached.has(event.target);
    const shortcut = active() ? shortcutOf(event, { talkKey: talkKey(), byKeyboard }) : null;
    if (shortcut === 'talk' && (held || talk(true))) {
      held = event.code || event.key;
      event.preventDefault();
    }
    if (event.repeat) return;
    if (shortcut === 'mute') mute();
    if (shortcut === 'hand') hand();
    if (shortcut === 'keys') keys();
  });
  document.addEventListener('keyup', (event) => {
    if (!held || (event.code || event.key) !== held) return;
    // Firefox presses the focused button when the space bar is released, even if the key press was prevented.
    event.preventDefault();
    release();
  });
  // The push-to-talk key may be released while another window has the focus, and then this page gets no `keyup`.
  window.addEventListener('blur', release);
  document.addEventListener('visibilitychange', release);
}
