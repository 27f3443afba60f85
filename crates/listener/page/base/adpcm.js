/**
 * Reads a WAV in IMA ADPCM, 4 bits per sample (format tag 0x11). Not a general reader; the listener writes exactly this format, with a
 * header of 60 bytes. Browsers without WebCodecs get this format where others get Opus.
 */

const HEADER_BYTES = 60;
const BLOCK_HEADER_BYTES = 4;
/** Maximum number of samples in one WAV. */
const MAX_FRAMES = 480000;
const STEPS = [
  7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66, 73, 80, 88, 97, 107, 118, 130, 143, 157, 173, 190,
  209, 230, 253, 279, 307, 337, 371, 408, 449, 494, 544, 598, 658, 724, 796, 876, 963, 1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499,
  2749, 3024, 3327, 3660, 4026, 4428, 4871, 5358, 5894, 6484, 7132, 7845, 8630, 9493, 10442, 11487, 12635, 13899, 15289, 16818, 18500, 20350,
  22385, 24623, 27086, 29794, 32767,
];
const INDEX_CHANGES = [-1, -1, -1, -1, 2, 4, 6, 8];

/**
 * @param {Uint8Array} bytes a complete WAV
 * @returns {{rateHz: number, samples: Int16Array<ArrayBuffer>} | null} null if the bytes are not such a WAV
 */
export function readAdpcm(bytes) {
  if (bytes.length < HEADER_BYTES) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const blockBytes = view.getUint16(32, true);
  const frames = view.getUint32(48, true);
  const valid = view.getUint32(0) === 0x52494646 && view.getUint32(8) === 0x57415645 && view.getUint32(16, true) === 20
    && view.getUint16(20, true) === 0x11 && view.getUint16(22, true) === 1 && view.getUint16(34, true) === 4
    && view.getUint32(40) === 0x66616374 && view.getUint32(52) === 0x64617461 && blockBytes > BLOCK_HEADER_BYTES;
  if (!valid || frames > MAX_FRAMES) return null;
  const blockFrames = 1 + 2 * (blockBytes - BLOCK_HEADER_BYTES);
  const blocks = Math.ceil(frames / blockFrames);
  if (bytes.length < HEADER_BYTES + blocks * blockBytes) return null;
  const samples = new Int16Array(frames);
  for (let i = 0; i < blocks; i += 1) {
    readBlock(bytes.subarray(HEADER_BYTES + i * blockBytes, HEADER_BYTES + (i + 1) * blockBytes), samples.subarray(i * blockFrames, (i + 1) * blockFrames));
  }
  return { rateHz: view.getUint32(24, true), samples };
}

/** Decodes a block: the first sample, the index of its step, a zero, and then two codes in each byte, the lower bits first. */
function readBlock(block, out) {
  let sample = ((block[0] + 256 * block[1]) << 16) >> 16;
  let index = Math.min(STEPS.length - 1, block[2]);
  out[0] = sample;
  for (let i = 1; i < out.length; i += 1) {
    const byte = block[BLOCK_HEADER_BYTES + ((i - 1) >> 1)];
    const code = i % 2 === 1 ? byte & 15 : byte >> 4;
    const step = STEPS[index];
    const change = (step >> 3) + (code & 4 ? step : 0) + (code & 2 ? step >> 1 : 0) + (code & 1 ? step >> 2 : 0);
    sample = Math.max(-32768, Math.min(32767, sample + (code & 8 ? -change : change)));
    index = Math.max(0, Math.min(STEPS.length - 1, index + INDEX_CHANGES[code & 7]));
    out[i] = sample;
  }
}
