import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Backoff } from '../page/backoff.js';
import { parseRecord } from '../page/records.js';
import { Renewal } from '../page/renewal.js';
import { SendQueue } from '../page/send-queue.js';
import { readWav, writeWav } from '../page/wav.js';

const document = readFileSync(new URL('../../../docs/injected-stream.md', import.meta.url), 'utf8');
const example = (title) => document.match(new RegExp(`\`\`\`${title}\n(.*)\n\`\`\``))[1];
const base64 = (value) => Buffer.from(JSON.stringify(value)).toString('base64');
const dataOf = (record) => record.match(/^<b>(.*)<\/b><script>p\(\)<\/script>$/)[1];

test('the documented records are read', () => {
  assert.deepEqual(parseRecord(dataOf(example('html record'))), { kind: 'silence', seq: 1700000000123, levels: null });
  const sound = parseRecord(dataOf(example('html sound')));
  assert.deepEqual({ ...sound, samples: [...sound.samples] }, { kind: 'sound', seq: 1700000000163, gap: true, rateHz: 24000, samples: [1], levels: null });
  assert.deepEqual(parseRecord('2,5,//8AAAAV').levels, [[65535, 0], [0, 21]]);
  const { people } = JSON.parse(example('json room'));
  const room = { kind: 'room', seq: 5, people, recording: false, states: [[1, 7]] };
  assert.deepEqual(parseRecord(`3,5,${base64({ people })},AAEH`), room);
  assert.ok(parseRecord(`3,5,${base64(JSON.parse(example('json recorded room')))},//8A`).recording);
  assert.deepEqual(parseRecord(dataOf(example('html hello'))), { kind: 'hello', seq: 1700000000100, me: JSON.parse(example('json me')) });
  const states = [[65535, 0], [0, 1], [1, 7]];
  assert.deepEqual(parseRecord(dataOf(example('html room'))), { kind: 'room', seq: 1700000000101, people, recording: false, states });
  assert.deepEqual(parseRecord(dataOf(example('html moved'))), { kind: 'moved', seq: 1700000000200 });
});

test('whatever is not exactly a record is nothing', () => {
  const bad = ['', ',', '9,1,', '1', '1,x,0,,', '1,5,0,AAAA,', '1,5,0,***,', '2,5,e30', '2,-5,', '3,5,e30=', '3,5,bnVsbA==',
    '0,5,', '__proto__,5,', 'constructor,5,', `3,5,${base64({ people: [{ name: 1, display: 'x' }] })},//8A`, '2,5,' + 'A'.repeat(500000)];
  const read = bad.filter((text) => parseRecord(text) !== null);
  assert.deepEqual(read, []);
});

test('a WAV comes back as it went', () => {
  const wav = readWav(new Uint8Array(writeWav([Int16Array.of(1, -2), Int16Array.of(32767, -32768)], 16000)));
  assert.deepEqual([wav.rateHz, ...wav.samples], [16000, 1, -2, 32767, -32768]);
});

test('a renewed stream overlaps: the first frame goes when the second speaks, and nothing is taken twice', () => {
  const renewal = new Renewal();
  const [first, second] = [{}, {}];
  renewal.candidate = first;
  assert.deepEqual(renewal.spoke(first, 10), { known: true, retired: null });
  assert.ok(renewal.isNews(100) && renewal.isNews(140) && !renewal.isNews(140));
  while (!renewal.due) renewal.spoke(first, 2600);
  renewal.candidate = second;
  assert.ok(!renewal.due);
  assert.ok(renewal.isNews(180));
  assert.equal(renewal.spoke(second, 10).retired, first);
  assert.ok(!renewal.isNews(180) && renewal.isNews(220));
  assert.ok(!renewal.due && !renewal.spoke(first, 10).known);
});

test('the first try is at once, the later ones wait longer, and a good connection forgets them', () => {
  const backoff = new Backoff();
  assert.deepEqual(Array.from({ length: 8 }, () => backoff.next()), [0, 500, 1000, 2000, 4000, 8000, 10000, 10000]);
  backoff.lived(4000);
  assert.equal(backoff.next(), 10000);
  backoff.lived(6000);
  assert.equal(backoff.next(), 0);
});

test('the queue keeps the newest 300 ms and leaves a hole in the numbers', () => {
  const queue = new SendQueue(24000);
  for (let i = 0; i < 12; i += 1) queue.push({ samples: new Int16Array(960), wallMs: 40 * i });
  const chunks = queue.takeAll();
  assert.deepEqual(chunks.map((chunk) => chunk.number), [5, 6, 7, 8, 9, 10, 11]);
  assert.equal(queue.dropped, 5);
  assert.equal(queue.takeAll().length, 0);
});
