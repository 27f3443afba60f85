/**
 * Keeps the keyboard focus: if the element that has it is removed, hidden or disabled, the browser moves the focus to `body`, and a screen
 * reader starts again at the top of the page. This file moves the focus to a neighbour of that element, or to a replacement.
 */

const FOCUSABLE = 'button:not([hidden], :disabled)';

/** @param {() => HTMLElement} replacement returns the element that gets the focus if there is no neighbour */
export function keepFocus(replacement) {
  let last = null;
  document.addEventListener('focusin', ({ target }) => { last = target; });
  const observer = new MutationObserver((records) => {
    if (!last || ![document.body, last].includes(document.activeElement)) return;
    const removal = records.find(({ removedNodes }) => [...removedNodes].some((node) => node.contains(last)));
    // Ignore an attribute that was set to the value it had: `checkVisibility` makes the browser calculate styles.
    const isChange = ({ type, target, attributeName, oldValue }) => type === 'attributes' && target.getAttribute(attributeName) !== oldValue;
    if (!removal && !records.some(isChange)) return;
    const stays = last.isConnected && last.checkVisibility() && !last.disabled;
    // An element that was moved within the page loses the focus too.
    if (stays && removal) last.focus({ preventScroll: true });
    if (!stays) (neighbour(removal) ?? replacement()).focus({ preventScroll: true });
  });
  observer.observe(document.body, { subtree: true, childList: true, attributeFilter: ['hidden', 'disabled', 'open'], attributeOldValue: true });
}

function neighbour(removal) {
  return [removal?.nextSibling, removal?.previousSibling].map((node) => node?.querySelector?.(FOCUSABLE)).find(Boolean);
}
