/**
 * Keyboard shortcuts: m mutes, h raises a hand, the space bar is held to talk. They have no effect in fields, on controls, or with Ctrl,
 * Alt or Meta, and can be switched off (WCAG 2.1.4).
 */

const CONTROLS = 'input, select, textarea, button, summary, a, dialog, [contenteditable], [tabindex="0"]';

/**
 * @param {{key: string, ctrlKey?: boolean, altKey?: boolean, metaKey?: boolean, target?: object}} event
 * @returns {'mute' | 'hand' | 'talk' | null}
 */
export function shortcutOf({ key, ctrlKey, altKey, metaKey, target }) {
  if (ctrlKey || altKey || metaKey || target?.closest?.(CONTROLS)) return null;
  return { m: 'mute', M: 'mute', h: 'hand', H: 'hand', ' ': 'talk' }[key] ?? null;
}

/** @param {{active: () => boolean, mute: () => void, hand: () => void, talk: (held: boolean) => boolean}} actions */
export function listenToKeys({ active, mute, hand, talk }) {
  let held = false;
  const release = () => {
    if (held) talk(false);
    held = false;
  };
  document.addEventListener('keydown', (event) => {
    const shortcut = active() ? shortcutOf(event) : null;
    if (shortcut === 'talk' && (held || talk(true))) {
      held = true;
      event.preventDefault();
    }
    if (event.repeat) return;
    if (shortcut === 'mute') mute();
    if (shortcut === 'hand') hand();
  });
  document.addEventListener('keyup', ({ key }) => { if (key === ' ') release(); });
  // The key may be released while another window has the focus.
  window.addEventListener('blur', release);
  document.addEventListener('visibilitychange', release);
}
