/**
 * Folder codec/: decodes the stream's sound, encodes the microphone's, and chooses between PCM and Opus. May import base/.
 *
 * This file passes on sound and silence in the order of their records, although Opus is decoded asynchronously. It also joins PCM and Opus without a
 * click: Opus is 6.5 ms late, so this time is dropped when Opus follows PCM, and taken from the PCM of the previous chunk when PCM follows Opus. The
 * two then differ only by the errors of Opus, and the difference at the join is faded out.
 */

import { packetMs } from '../base/packets.js';
import { OpusDecoder } from './opus-decoder.js';

/** Delay of Opus: the encoder's lookahead. */
const LOOKAHEAD_MS = 6.5;
/** Time over which the difference between the last sample of one decoder and the first of another fades out. */
const JOIN_MS = 5;
/** Overlaps of two streams are a multiple of this time. SEQ, by which they are measured, is off by a few ms. */
const OVERLAP_STEP_MS = 20;

/**
 * @typedef {{samples: Int16Array<ArrayBuffer>, gap: boolean, lost: boolean, rateHz: number, format: string}} Chunk
 * @typedef {{onSound: (chunk: Chunk) => void, onSilence: () => void, onFailed: (why: string, seq: number) => void}} DecoderHandlers
 *   onFailed: the sound after the record `seq` is not decoded, so the page needs another format
 * @typedef {import('../stream/records.js').StreamRecord & {format: string, old?: boolean, overlapMs?: number, lost?: boolean}} FramedRecord
 *   format: name of the format of the record's stream; old: another stream has already brought this sound; overlapMs: length of the part at its start that
 *   another stream has already brought
 */

/** The decoders of one stay in the room. */
export class SoundDecoder {
  #handlers;
  #rateHz = 24000;
  /** The decoder whose sound is played, with its format. */
  #current = null;
  /** The decoder of a stream that takes over soon, with its format. */
  #next = null;
  /** Decoders whose last sound is not decoded yet. */
  #retiring = new Set();
  /** Sound and silence that was not passed on yet, oldest first. */
  #items = [];
  #before = { kind: '', format: '' };
  /** The PCM of the last old record. */
  #lead = null;
  #missed = false;
  /** Whether the next sound continues the previous sound and comes from another decoder. */
  #joins = false;
  /** The last two samples that were passed on. */
  #end = [0, 0];
  /** Whether decoding has failed and no stream in PCM has begun since. */
  #isBroken = false;
  #seq = 0;

  /** @param {DecoderHandlers} handlers */
  constructor(handlers) {
    this.#handlers = handlers;
  }

  /** @param {number} rateHz of the room */
  setRate(rateHz) {
    if (rateHz === this.#rateHz) return;
    this.#rateHz = rateHz;
    this.#closeAll();
  }

  /** @param {FramedRecord} record of sound or silence */
  take(record) {
    if (record.kind === 'opus') this.#takeOpus(record);
    else if (record.kind === 'silence') this.#takeSilence(record);
    else this.#takePcm(record);
    this.#deliver();
  }

  /** Closes all decoders. No handler is called afterwards. */
  stop() {
    this.#closeAll();
    this.#items = [];
  }

  #takeOpus(record) {
    const { format, gap, preroll, packets } = record;
    if (record.old) {
      if (!this.#isBroken && (format !== this.#before.format || !this.#current)) this.#warm(record);
      return;
    }
    if (this.#isBroken) return;
    let dropMs = overlapOf(record);
    if (this.#next?.format === format && preroll === 0) this.#switchTo(this.#next);
    else if (this.#current?.format !== format || preroll > 0) {
      this.#switchTo(this.#make(format));
      dropMs += msOf(packets.slice(0, preroll));
    }
    if (this.#before.kind === 'sound' && !gap) dropMs += LOOKAHEAD_MS;
    this.#note(record);
    if (this.#current.decoder.isFull) this.#missed = true;
    else this.#queueOpus(packets, dropMs, record);
  }

  /** Decodes sound that another stream has already brought, so that the decoder is ready when this stream takes over. */
  #warm({ format, preroll, packets }) {
    if (this.#next?.format !== format || preroll > 0) {
      this.#next?.decoder.close();
      this.#next = this.#make(format);
    }
    this.#next.decoder.decode(packets, () => {});
  }

  #takePcm(record) {
    const { old, gap, rateHz } = record;
    if (old) {
      if (this.#before.kind === 'opus') this.#lead = record.samples;
      return;
    }
    const skipped = record.samples.subarray((overlapOf(record) * rateHz) / 1000);
    const leadFrames = this.#before.kind === 'opus' && !gap ? Math.round((LOOKAHEAD_MS * rateHz) / 1000) : 0;
    const lead = this.#lead?.slice(-leadFrames);
    if (leadFrames > 0 && lead?.length !== leadFrames) this.#missed = true;
    const samples = leadFrames > 0 && lead ? joined(lead, skipped) : skipped.slice();
    this.#switchTo(null);
    this.#next?.decoder.close();
    this.#next = null;
    this.#isBroken = false;
    this.#note(record);
    this.#queue({ samples }, record);
  }

  #takeSilence(record) {
    if (record.old) return;
    if (record.packets && this.#current) this.#queueOpus(record.packets, 0, { ...this.#before, seq: record.seq, gap: false, lost: false });
    this.#items.push({ seq: record.seq, isReady: true, pass: () => this.#handlers.onSilence() });
  }

  #note({ kind, format }) {
    this.#before = { kind, format };
    this.#lead = null;
  }

  #queueOpus(packets, dropMs, record) {
    const result = { samples: null };
    this.#current.decoder.decode(packets, (samples) => {
      result.samples = samples.slice(Math.round((dropMs * this.#rateHz) / 1000));
      this.#deliver();
    });
    if (!this.#isBroken) this.#queue(result, record);
  }

  #queue(result, { seq, gap, lost, format, rateHz = this.#rateHz }) {
    const isTorn = this.#missed;
    const joins = this.#joins && !gap && !isTorn;
    this.#missed = false;
    this.#joins = false;
    const pass = () => {
      const { samples } = result;
      if (samples.length === 0) return;
      if (joins) join(this.#end, samples, (JOIN_MS * rateHz) / 1000);
      this.#end = [samples.at(-2) ?? this.#end[1], samples.at(-1)];
      this.#handlers.onSound({ samples, gap: gap || isTorn, lost: lost || isTorn, rateHz, format });
    };
    this.#items.push({ seq, get isReady() { return result.samples !== null; }, pass });
  }

  #deliver() {
    while (this.#items[0]?.isReady) {
      const { seq, pass } = this.#items.shift();
      this.#seq = seq;
      pass();
    }
  }

  #switchTo(next) {
    if (this.#current && this.#current !== next) {
      const { decoder } = this.#current;
      this.#retiring = new Set([...this.#retiring].filter((other) => other.isBusy));
      this.#retiring.add(decoder);
      decoder.retire();
    }
    if (this.#next === next) this.#next = null;
    if (this.#current !== next && this.#before.kind !== '') this.#joins = true;
    this.#current = next;
  }

  #make(format) {
    return { format, decoder: new OpusDecoder(this.#rateHz, (why) => this.#failed(why)) };
  }

  #failed(why) {
    this.#isBroken = true;
    this.#closeAll();
    this.#items = [];
    this.#handlers.onFailed(why, this.#seq);
  }

  /** Closes all decoders, also those whose sound was not passed on. */
  #closeAll() {
    for (const decoder of [this.#current?.decoder, this.#next?.decoder, ...this.#retiring]) decoder?.close();
    this.#items = this.#items.filter(({ isReady }) => isReady);
    this.#current = null;
    this.#next = null;
    this.#retiring.clear();
    this.#missed = this.#before.kind === 'opus';
    this.#before = { kind: '', format: '' };
  }
}

function msOf(packets) {
  return packets.reduce((sum, packet) => sum + packetMs(packet), 0);
}

function overlapOf({ overlapMs = 0 }) {
  return OVERLAP_STEP_MS * Math.round(overlapMs / OVERLAP_STEP_MS);
}

/** Adds to the start of `samples` what makes the wave continue straight from its last two samples; this part fades out over `length` samples. */
function join([before, last], samples, length) {
  const step = 2 * last - before - samples[0];
  for (let i = 0; i < Math.min(length, samples.length); i += 1) {
    const share = (1 + Math.cos((Math.PI * i) / length)) / 2;
    samples[i] = Math.max(-32768, Math.min(32767, Math.round(samples[i] + step * share)));
  }
}

function joined(first, second) {
  const all = new Int16Array(first.length + second.length);
  all.set(first);
  all.set(second, first.length);
  return all;
}
