/**
 * Reads the WAV of a sound record and writes the WAV of a POST: PCM, mono, 16 bits, with a header of 44 bytes. Not a general WAV
 * reader; the listener writes exactly this format.
 */

const HEADER_BYTES = 44;
/** Maximum number of samples in one WAV. */
const MAX_FRAMES = 480000;

/**
 * @param {Uint8Array} bytes a complete WAV
 * @returns {{rateHz: number, samples: Int16Array<ArrayBuffer>} | null} null if the bytes are not such a WAV
 */
export function readWav(bytes) {
  const frames = (bytes.length - HEADER_BYTES) >> 1;
  if (frames < 0 || frames > MAX_FRAMES) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const valid = view.getUint32(0) === 0x52494646 && view.getUint32(8) === 0x57415645
    && view.getUint16(20, true) === 1 && view.getUint16(22, true) === 1 && view.getUint16(34, true) === 16;
  if (!valid) return null;
  const samples = new Int16Array(frames);
  for (let i = 0; i < frames; i += 1) samples[i] = view.getInt16(HEADER_BYTES + 2 * i, true);
  return { rateHz: view.getUint32(24, true), samples };
}

/**
 * @param {Int16Array[]} chunks
 * @param {number} rateHz
 * @returns {ArrayBuffer} the chunks as one complete WAV
 */
export function writeWav(chunks, rateHz) {
  const frames = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const view = new DataView(new ArrayBuffer(HEADER_BYTES + 2 * frames));
  writeHeader(view, frames, rateHz);
  let at = HEADER_BYTES;
  for (const chunk of chunks) at = writeSamples(view, at, chunk);
  return view.buffer;
}

/**
 * @param {DataView} view
 * @param {number} at offset in bytes
 * @param {Int16Array} samples
 * @returns {number} the offset after the samples
 */
export function writeSamples(view, at, samples) {
  samples.forEach((sample, i) => view.setInt16(at + 2 * i, sample, true));
  return at + 2 * samples.length;
}

function writeHeader(view, frames, rateHz) {
  view.setUint32(0, 0x52494646); // RIFF
  view.setUint32(4, 36 + 2 * frames, true);
  view.setUint32(8, 0x57415645); // WAVE
  view.setUint32(12, 0x666d7420); // fmt
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rateHz, true);
  view.setUint32(28, 2 * rateHz, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  view.setUint32(36, 0x64617461); // data
  view.setUint32(40, 2 * frames, true);
}
