/**
 * Lists of Opus packets: for each packet its length as u16 little-endian, then the packet (docs/injected-stream.md). Also reads the duration
 * of a packet (RFC 6716 §3.1).
 */

const MAX_PACKET_BYTES = 1275;
/** Maximum number of packets in one list: two seconds of 20 ms. */
const MAX_PACKETS = 100;
/** Maximum duration of a packet. */
const MAX_PACKET_MS = 120;
/** Duration of a frame in ms: each configuration of SILK, of both together, and of CELT. */
const SILK_MS = [10, 20, 40, 60];
const HYBRID_MS = [10, 20];
const CELT_MS = [2.5, 5, 10, 20];

/**
 * @param {Uint8Array} bytes
 * @returns {Uint8Array[]} the packets
 * @throws {TypeError} if the bytes are not a list of valid packets
 */
export function readPackets(bytes) {
  const packets = [];
  for (let at = 0; at < bytes.length;) {
    const length = bytes[at] + 256 * bytes[at + 1];
    const packet = bytes.subarray(at + 2, at + 2 + length);
    const isValid = length > 0 && length <= MAX_PACKET_BYTES && packet.length === length && packetMs(packet) > 0;
    if (!isValid || packets.length === MAX_PACKETS) throw new TypeError('not a list of packets');
    packets.push(packet);
    at += 2 + length;
  }
  return packets;
}

/**
 * @param {Uint8Array[]} packets
 * @param {number} [headBytes] length of the space before the list
 * @returns {Uint8Array<ArrayBuffer>} the list, after the space
 */
export function writePackets(packets, headBytes = 0) {
  const out = new Uint8Array(headBytes + packets.reduce((sum, packet) => sum + 2 + packet.length, 0));
  let at = headBytes;
  for (const packet of packets) {
    out.set([packet.length & 255, packet.length >> 8], at);
    out.set(packet, at + 2);
    at += 2 + packet.length;
  }
  return out;
}

/**
 * @param {Uint8Array} packet at least one byte
 * @returns {number} its duration in ms, or 0 if the packet is invalid
 */
export function packetMs(packet) {
  const [head, second = 0] = packet;
  const configuration = head >> 3;
  const count = [1, 2, 2, second & 63][head & 3];
  const ms = count * frameMs(configuration);
  return ms <= MAX_PACKET_MS ? ms : 0;
}

function frameMs(configuration) {
  if (configuration < 12) return SILK_MS[configuration & 3];
  return configuration < 16 ? HYBRID_MS[configuration & 1] : CELT_MS[configuration & 3];
}
