/**
 * Finds where sound can be cut out or repeated so that the ends match: at the lag with the highest correlation, which in a voice is a
 * whole number of periods. Pure.
 */

/** The first search looks at every second frame. */
const STRIDE = 2;
/** Factor by which the correlation of a smaller cut must exceed that of a larger cut: few large cuts are better than many small ones. */
const BETTER = 1.02;

/**
 * @param {Float32Array} before the sound that comes next
 * @param {Float32Array} after the sound to continue with: `before.length` samples and as many more as there are choices
 * @returns {number} index into `after` at which the two are best cross-faded
 */
export function bestJoin(before, after) {
  const last = after.length - before.length;
  const coarse = best(before, after, 0, last, STRIDE);
  return best(before, after, Math.max(0, coarse - STRIDE), Math.min(last, coarse + STRIDE), 1);
}

/**
 * @param {Float32Array} past the most recent sound
 * @param {number} length of the piece at its end that is compared, in samples
 * @param {number} minFrames
 * @returns {number} how many samples back the sound is most similar to its end, at least `minFrames`
 */
export function bestRepeat(past, length, minFrames) {
  const end = past.subarray(past.length - length);
  return past.length - length - bestJoin(end, past.subarray(0, past.length - minFrames));
}

function best(before, after, from, to, stride) {
  let found = { at: from, match: -Infinity };
  for (let at = to; at >= from; at -= stride) {
    const match = correlation(before, after, at, stride);
    if (match > found.match * (found.match > 0 && stride > 1 ? BETTER : 1)) found = { at, match };
  }
  return found.at;
}

/** Returns the correlation, normalised by the level of `after` only: that of `before` is the same for all choices. */
function correlation(before, after, at, stride) {
  let product = 0;
  let power = 1e-9;
  for (let i = 0; i < before.length; i += stride) {
    const x = after[at + i];
    product += before[i] * x;
    power += x * x;
  }
  return product / Math.sqrt(power);
}
