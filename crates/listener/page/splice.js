/**
 * Where a piece can be left out of a sound, or said again, so that its two ends fit: at the lag at which the sound is most
 * like itself, for a voice a whole number of its periods. Pure arithmetic on samples.
 */

const STRIDE = 2;
/** So much better must a smaller cut fit than a larger one: a few large ones are less than many small ones. */
const BETTER = 1.02;

/**
 * @param {Float32Array} before what would be heard next
 * @param {Float32Array} after what it may pass into: `before.length` and as many frames more as there is choice
 * @returns {number} the frame of `after` that continues best, where `before` and `after` are cross-faded
 */
export function bestJoin(before, after) {
  const last = after.length - before.length;
  const coarse = best(before, after, 0, last, STRIDE);
  return best(before, after, Math.max(0, coarse - STRIDE), Math.min(last, coarse + STRIDE), 1);
}

/**
 * @param {Float32Array} past the last of a sound
 * @param {number} length in frames, of the piece at its end whose like is looked for
 * @param {number} least frames back
 * @returns {number} so many frames back the sound was most like its end
 */
export function bestAgain(past, length, least) {
  const end = past.subarray(past.length - length);
  return past.length - length - bestJoin(end, past.subarray(0, past.length - least));
}

function best(before, after, from, to, stride) {
  let found = { at: from, match: -Infinity };
  for (let at = to; at >= from; at -= stride) {
    const match = likeness(before, after, at, stride);
    if (match > found.match * (found.match > 0 && stride > 1 ? BETTER : 1)) found = { at, match };
  }
  return found.at;
}

/** The correlation, normalised by the second sound alone: the first one's level is the same for all. */
function likeness(before, after, at, stride) {
  let product = 0;
  let power = 1e-9;
  for (let i = 0; i < before.length; i += stride) {
    const x = after[at + i];
    product += before[i] * x;
    power += x * x;
  }
  return product / Math.sqrt(power);
}
