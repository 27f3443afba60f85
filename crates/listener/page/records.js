/**
 * Reads the records of the injected stream (docs/injected-stream.md). Pure: text in, object out.
 *
 * Everything in a record is digits or base64. Whatever is not exactly that, or is longer than a record can be, is null
 * and the caller counts it: nothing half understood is ever played or shown.
 */

import { readWav } from './wav.js';

const MAX_RECORD_CHARS = 400000;
const KINDS = { 0: hello, 1: sound, 2: silence, 3: room, 4: message, 5: moved, 6: states };
const MAX_MESSAGE_CHARS = 500;

/**
 * @typedef {{kind: 'hello', seq: number, me: object}
 *   | {kind: 'sound', seq: number, gap: boolean, rateHz: number, samples: Int16Array<ArrayBuffer>, levels: Mark[] | null}
 *   | {kind: 'silence', seq: number, levels: Mark[] | null}
 *   | {kind: 'room', seq: number, people: {name: string, display: string}[], recording: boolean, states: Mark[], tag: string}
 *   | {kind: 'message', seq: number, from: string, text: string}
 *   | {kind: 'states', seq: number, states: Mark[]}
 *   | {kind: 'moved', seq: number, last: boolean}} StreamRecord
 * @typedef {[place: number, value: number]} Mark a person's place in the list of people, 65535 for everybody, and a byte
 */

/**
 * @param {string} text the text of a record's element, with commas between its fields
 * @returns {StreamRecord | null}
 */
export function parseRecord(text) {
  if (typeof text !== 'string' || text.length > MAX_RECORD_CHARS) return null;
  const [kind, seqText, ...fields] = text.split(',');
  const read = Object.hasOwn(KINDS, kind) ? KINDS[kind] : null;
  const seq = Number(seqText);
  if (!read || !/^\d{1,15}$/.test(seqText ?? '')) return null;
  try {
    return read(seq, fields);
  } catch {
    return null;
  }
}

function hello(seq, [data]) {
  return { kind: 'hello', seq, me: object(data) };
}

function sound(seq, [gap, data, levels]) {
  const wav = readWav(bytes(data));
  return wav && { kind: 'sound', seq, gap: gap === '1', ...wav, levels: levels ? marks(levels) : null };
}

function silence(seq, [levels]) {
  return { kind: 'silence', seq, levels: levels ? marks(levels) : null };
}

function room(seq, [data, states, tag = '']) {
  const { people, recording } = object(data);
  const right = people.every((p) => typeof p.name === 'string' && typeof p.display === 'string');
  if (!right || !/^(?:[0-9a-f]{16})?$/.test(tag)) return null;
  return { kind: 'room', seq, people, recording: recording === true, states: marks(states), tag };
}

function message(seq, [data]) {
  const { from, text } = object(data);
  const right = typeof from === 'string' && typeof text === 'string' && text.length <= 2 * MAX_MESSAGE_CHARS;
  return right ? { kind: 'message', seq, from, text } : null;
}

function states(seq, [data]) {
  return { kind: 'states', seq, states: marks(data) };
}

function moved(seq, [last]) {
  return { kind: 'moved', seq, last: last !== '0' };
}

/** Three bytes each: the place, high byte first, and the value. */
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
