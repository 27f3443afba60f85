/**
 * Reactions: one sign, which every page shows beside the sender for some seconds. A reaction is a message that is not kept and has no ID,
 * so that listeners and programs treat it as any other message.
 */

/** The signs. A page shows any other text as a message. */
export const REACTIONS = ['👍', '👏', '❤️', '😂', '😮', '🎉'];
/** Time for which a reaction is shown. */
export const REACTION_MS = 5000;

/** @param {import('../stream/records.js').Text} text; @returns {boolean} whether it is a reaction */
export function isReaction({ text, id }) {
  return id === undefined && REACTIONS.includes(text);
}
