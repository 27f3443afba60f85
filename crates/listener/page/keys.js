/**
 * The keys: m mutes, h raises a hand, the space bar is held to talk. They do nothing in fields and on controls, nor with
 * Ctrl, Alt or Meta, and can be switched off (WCAG 2.1.4).
 */

const CONTROLS = 'input, select, textarea, button, summary, a, dialog, [contenteditable], [tabindex="0"]';

/**
 * @param {{key: string, ctrlKey?: boolean, altKey?: boolean, metaKey?: boolean, repeat?: boolean, target?: object}} event
 * @returns {'mute' | 'hand' | 'talk' | null} what the key means
 */
export function meaning({ key, ctrlKey, altKey, metaKey, target }) {
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
    const what = active() ? meaning(event) : null;
    if (what === 'talk' && (held || talk(true))) {
      held = true;
      event.preventDefault();
    }
    if (event.repeat) return;
    if (what === 'mute') mute();
    if (what === 'hand') hand();
  });
  document.addEventListener('keyup', ({ key }) => { if (key === ' ') release(); });
  // Whoever lets go elsewhere has let go.
  window.addEventListener('blur', release);
  document.addEventListener('visibilitychange', release);
}
