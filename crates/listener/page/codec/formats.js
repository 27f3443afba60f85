/**
 * The formats of the stream's sound: the name that the details and the reports show, and the part of the stream's address that asks for the format.
 */

/** @typedef {{name: string, query: string}} Format */

/** The format that every listener sends. */
export const PCM = { name: 'PCM 16', query: '' };
/** The format for browsers that can't decode Opus. */
export const ADPCM = { name: 'ADPCM', query: 'codec=adpcm' };

/** Bit rate of Opus at which the listener joins several chunks into one. */
const THIN_KBPS = 16;
/** Minimum length of a joined chunk. */
const THIN_MS = 80;

/** @param {number} kbps; @returns {Format} */
export function opusAt(kbps) {
  return { name: `Opus ${kbps}`, query: `codec=opus&kbps=${kbps}` };
}

/**
 * @param {string} name of a format
 * @param {number} chunkMs of the room
 * @returns {number} length of a chunk of this format
 */
export function chunkMsOf(name, chunkMs) {
  return name === opusAt(THIN_KBPS).name ? chunkMs * Math.ceil(THIN_MS / chunkMs) : chunkMs;
}
