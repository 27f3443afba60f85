/**
 * Parses the records of the injected stream (docs/injected-stream.md). Pure: text in, object out.
 *
 * A record is digits and base64 only. Anything else, and anything too long, is rejected as a whole.
 */

import { readAdpcm } from '../base/adpcm.js';
import { readPackets } from '../base/packets.js';
import { readWav } from '../base/wav.js';

const MAX_RECORD_CHARS = 400000;
const MAX_MESSAGE_CHARS = 500;
const KINDS = { 0: hello, 1: sound, 2: silence, 3: room, 4: message, 5: moved, 6: states, 7: messages, 8: removed, 9: microphone, 10: opus };

/**
 * @typedef {{kind: 'hello', seq: number, me: object}
 *   | {kind: 'sound', seq: number, gap: boolean, rateHz: number, samples: Int16Array<ArrayBuffer>, levels: Mark[] | null}
 *   | {kind: 'opus', seq: number, gap: boolean, preroll: number, packets: Uint8Array[], levels: Mark[] | null}
 *   | {kind: 'silence', seq: number, packets?: Uint8Array[], levels: Mark[] | null}
 *   | {kind: 'room', seq: number, people: {name: string, display: string}[], recording: boolean, noMixer: boolean, machines: Machine[], states: Mark[], tag: string}
 *   | {kind: 'message', seq: number} & Text
 *   | {kind: 'messages', seq: number, texts: Text[]}
 *   | {kind: 'states', seq: number, states: Mark[]}
 *   | {kind: 'moved', seq: number, last: boolean}
 *   | {kind: 'removed', seq: number}
 *   | {kind: 'microphone', seq: number, used: boolean}} StreamRecord
 * @typedef {{from: string, text: string, id?: string, ageMs: number}} Text id: see room/texts.js; ageMs: time since it was sent
 *   preroll: number of packets at the start of the list with which a new decoder only settles; their sound is dropped
 *   packets of silence: the rest of the sound before it
 * @typedef {{name: string, cutOff: boolean}} Machine another machine that shares the room
 * @typedef {[place: number, value: number]} Mark a participant's index in the list of participants, or 65535 for all, and a byte
 */

/**
 * @param {string} text the text of a record's element
 * @returns {StreamRecord | null} null if it is not a valid record
 */
export function parseRecord(text) {
  if (typeof text !== 'string' || text.length > MAX_RECORD_CHARS) return null;
  const [kind, seqText, ...fields] = text.split(',');
  const parse = Object.hasOwn(KINDS, kind) ? KINDS[kind] : null;
  const seq = Number(seqText);
  if (!parse || !/^\d{1,15}$/.test(seqText ?? '')) return null;
  try {
    return parse(seq, fields);
  } catch {
    return null;
  }
}

function hello(seq, [data]) {
  return { kind: 'hello', seq, me: object(data) };
}

function sound(seq, [gap, data, levels]) {
  const raw = bytes(data);
  const wav = readWav(raw) ?? readAdpcm(raw);
  return wav && { kind: 'sound', seq, gap: gap === '1', ...wav, levels: levels ? marks(levels) : null };
}

function opus(seq, [gap, preroll, data, levels]) {
  const packets = readPackets(bytes(data));
  const valid = /^\d{1,3}$/.test(preroll) && Number(preroll) <= packets.length && packets.length > 0;
  return valid ? { kind: 'opus', seq, gap: gap === '1', preroll: Number(preroll), packets, levels: levels ? marks(levels) : null } : null;
}

function silence(seq, [levels, rest]) {
  const packets = rest ? { packets: readPackets(bytes(rest)) } : {};
  return { kind: 'silence', seq, ...packets, levels: levels ? marks(levels) : null };
}

function room(seq, [data, states, tag = '']) {
  const { people, recording, no_mixer: noMixer, machines = [] } = object(data);
  const valid = people.every((p) => typeof p.name === 'string' && typeof p.display === 'string') && machines.every((m) => typeof m.name === 'string');
  if (!valid || !/^(?:[0-9a-f]{16})?$/.test(tag)) return null;
  const others = machines.map(({ name, cut_off: cutOff }) => ({ name, cutOff: cutOff === true }));
  return { kind: 'room', seq, people, recording: recording === true, noMixer: noMixer === true, machines: others, states: marks(states), tag };
}

function message(seq, [data]) {
  return { kind: 'message', seq, ...text(object(data)) };
}

function messages(seq, [data]) {
  return { kind: 'messages', seq, texts: object(data).messages.map(text) };
}

function text({ from, text, id, age_ms: ageMs = 0 }) {
  // One character may consist of two UTF-16 code units, which `length` counts.
  const valid = typeof from === 'string' && typeof text === 'string' && text.length <= 2 * MAX_MESSAGE_CHARS
    && (id === undefined || /^[a-z0-9]{1,32}$/.test(id)) && Number.isFinite(ageMs) && ageMs >= 0;
  if (!valid) throw new TypeError('not a text');
  return { from, text, id, ageMs };
}

function states(seq, [data]) {
  return { kind: 'states', seq, states: marks(data) };
}

function moved(seq, [last]) {
  return { kind: 'moved', seq, last: last !== '0' };
}

function removed(seq) {
  return { kind: 'removed', seq };
}

function microphone(seq, [used]) {
  return ['0', '1'].includes(used) ? { kind: 'microphone', seq, used: used === '1' } : null;
}

/** Parses marks of three bytes each: the index, high byte first, and the value. */
function marks(base64) {
  const raw = bytes(base64);
  if (raw.length % 3 !== 0) throw new TypeError('not marks');
  return Array.from({ length: raw.length / 3 }, (_, i) => [256 * raw[3 * i] + raw[3 * i + 1], raw[3 * i + 2]]);
}

function object(base64) {
  const value = JSON.parse(new TextDecoder().decode(bytes(base64)));
  if (value === null || typeof value !== 'object') throw new TypeError('not an object');
  return value;
}

function bytes(base64) {
  const binary = atob(base64);
  const out = new Uint8Array(binary.length);
  for (let i = 0; i < out.length; i += 1) out[i] = binary.charCodeAt(i);
  return out;
}
