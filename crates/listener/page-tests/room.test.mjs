import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Quality } from '../page/room/quality.js';
import { Participants } from '../page/room/participants.js';
import { parseRecord } from '../page/stream/records.js';
import { TitleStatus } from '../page/view/title-status.js';

const document = readFileSync(new URL('../../../docs/injected-stream.md', import.meta.url), 'utf8');
const example = (title) => document.match(new RegExp(`\`\`\`${title}\n(.*)\n\`\`\``))[1];
const base64 = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64');
const hex = (title) => Buffer.from(example(title).replaceAll(' ', ''), 'hex').toString('base64');
const ALL = 65535;

function room(count) {
  const people = Array.from({ length: count }, (_, i) => ({ name: `p${i}`, display: `Person ${i}` }));
  const participants = new Participants();
  participants.setPeople(people, [[ALL, 1]]);
  return participants;
}

test('documented marks set presence, states and levels', () => {
  const record = parseRecord(`3,5,${base64(example('json room'))},${hex('hex states')}`);
  const { levels } = parseRecord(`2,6,${hex('hex levels')}`);
  const people = new Participants();
  people.setPeople(record.people, record.states);
  assert.deepEqual(people.setLevels(levels), [0, 1]);
  const [alice, bob] = [people.at(0), people.named('bob')];
  assert.deepEqual([alice.here, alice.hand, alice.talking, alice.dbfs], [true, false, true, -21]);
  assert.deepEqual([bob.here, bob.hand, bob.muted, bob.mutedByHost, bob.talking], [true, true, true, true, false]);
  assert.deepEqual(people.hush(), [0, 1]);
  assert.equal(people.named('carol'), null);
});

test('raised hands are in the order of their queue, after the page\'s own participant and before the others', () => {
  const people = room(6);
  people.setStates([[5, 3 + 2 * 16], [2, 3 + 16], [4, 3 + 15 * 16], [1, 2]]);
  assert.deepEqual(people.seated('p3').here.map(({ name }) => name), ['p3', 'p2', 'p5', 'p4', 'p0']);
  assert.deepEqual([people.at(5).queue, people.at(0).queue, people.isQueue], [2, 0, true]);
  people.setStates([[5, 1], [4, 1]]);
  assert.equal(people.isQueue, false);
});

test('people of other machines have their machine in their label, and are cut off together', () => {
  const { people: all, states, machines } = parseRecord(`3,5,${base64(example('json room with other machines'))},//8BAAED`);
  const people = new Participants();
  people.setPeople(all, states, machines);
  const [alice, theirs] = [people.named('alice'), people.named('alice@paris')];
  assert.deepEqual([alice.machine, alice.label, alice.cutOff], ['', 'Alice', false]);
  assert.deepEqual([theirs.machine, theirs.label, theirs.cutOff, theirs.hand, theirs.queue], ['paris', 'Alice B. · paris', false, true, 0]);
  people.setLevels([[1, 20]]);
  assert.deepEqual([people.named('alice').talking, people.named('alice@paris').talking], [false, true]);
  people.setPeople([...all, { name: 'bob@lyon', display: '' }], states, machines);
  assert.deepEqual([people.named('bob@lyon').cutOff, people.named('bob@lyon').label], [true, 'bob · lyon']);
  assert.deepEqual(people.seated('alice').here.map(({ name }) => name), ['alice', 'alice@paris', 'bob@lyon']);
});

test('message is parsed, and invalid records are rejected', () => {
  const parsed = parseRecord(`4,7,${base64(example('json message'))}`);
  assert.deepEqual(parsed, { kind: 'message', seq: 7, from: 'bob', text: 'It is 20 °C here', id: '7f3a', ageMs: 0 });
  const { kind, texts } = parseRecord(`7,7,${base64(example('json messages'))}`);
  assert.deepEqual([kind, texts], ['messages', [{ from: 'bob', text: 'It is 20 °C here', id: '7f3a', ageMs: 65000 }]]);
  const bad = ['4,7,', `4,7,${base64({ from: 1, text: 'x' })}`, `4,7,${base64({ from: 'bob', text: 'x'.repeat(1001) })}`,
    `4,7,${base64({ from: 'bob', text: 'x', id: '' })}`, `7,7,${base64({ messages: [{ from: 'bob', text: 'x', id: '7', age_ms: -1 }] })}`,
    `7,7,${base64({ messages: [{ from: 'bob' }] })}`, `7,7,${base64({})}`,
    '6,7,AAAA,', '6,7,AAA=', '6,7', '2,7,AAAAAA==', `3,7,${base64({ people: [] })},AA==`];
  assert.deepEqual(bad.map(parseRecord).filter(Boolean).map(({ kind }) => kind), ['states']);
});

test('marks beyond the list are ignored', () => {
  const people = room(3);
  assert.deepEqual(people.setLevels([[2, 20], [3, 20], [40000, 1]]), [2]);
  assert.deepEqual(people.setLevels([[2, 20], [0, 0]]), []);
});

test('own seat is first, then raised hands, then names; absent participants are apart', () => {
  const people = room(12);
  people.setStates([[11, 3], [4, 3], [7, 0], [2, 2]]);
  const { here, away } = people.seated('p5');
  assert.deepEqual(here.slice(0, 4).map(({ name }) => name), ['p5', 'p11', 'p4', 'p0']);
  assert.deepEqual(away.map(({ name }) => name), ['p2', 'p7']);
});

test('recent talkers keep their seats on the stage', () => {
  const people = room(500);
  for (let place = 0; place < 6; place += 1) people.setLevels([[place, 20]]);
  people.setLevels([[400, 20]]);
  assert.deepEqual(people.speakers, [0, 1, 2, 3, 4, 5], 'a talker keeps the seat');
  people.setLevels([[1, 0], [3, 0]]);
  people.setLevels([[400, 21]]);
  assert.deepEqual(people.speakers, [0, 400, 2, 3, 4, 5]);
  people.setPeople([{ name: 'p400', display: 'x' }, { name: 'p2', display: 'y' }], [[ALL, 1]]);
  assert.deepEqual(people.speakers, [0, 1], 'and with a new list of participants');
});

test('title and icon show talking, open or muted, without flicker', () => {
  const status = new TitleStatus();
  const seen = (microphone, talking, nowMs) => {
    const { prefix, icon, againMs } = status.show(microphone, talking, nowMs);
    return [prefix.trim(), icon.replace(/^icon-?|\.svg$/g, ''), againMs];
  };
  const [talks, open, muted, none] = [['🗣', 'talking'], ['🎙', 'open'], ['🔇', 'muted'], ['', '']];
  assert.deepEqual(seen('on', false, 0), [...open, 0]);
  assert.deepEqual(seen('on', true, 100), [...talks, 0]);
  assert.deepEqual(seen('on', false, 4000), [...talks, 1000]);
  assert.deepEqual(seen('on', false, 4400), [...talks, 600]);
  assert.deepEqual(seen('on', true, 4500), [...talks, 0]);
  assert.deepEqual(seen('on', false, 4600), [...talks, 1000]);
  assert.deepEqual(seen('on', false, 5599), [...talks, 1]);
  assert.deepEqual(seen('on', false, 5600), [...open, 0]);
  assert.deepEqual(seen('on', true, 6000), [...talks, 0]);
  assert.deepEqual(seen('muted', true, 6100), [...muted, 0], 'a mute shows at once');
  assert.deepEqual(seen('on', false, 6200), [...open, 0], 'and talking does not come back');
  for (const microphone of ['waiting', 'held', 'ready']) assert.deepEqual(seen(microphone, true, 7000), [...open, 0]);
  assert.deepEqual(seen('operator', false, 7000), [...muted, 0]);
  for (const microphone of ['off', 'listener', 'asking']) assert.deepEqual(seen(microphone, false, 7000), [...none, 0]);
});

test('connection is weak for 10 s after 400 ms of sound were missing, and while the delay is long', () => {
  const quality = new Quality();
  const well = { lost: 0, stretches: 3, dropped: 0, marginMs: 20 };
  const at = (second, change) => quality.isWeak({ ...well, ...change }, 1000 * second);
  assert.deepEqual([at(0), at(1, { lost: 9 }), at(2, { lost: 9, dropped: 1 }), at(10, { lost: 9, dropped: 1 })], [false, false, true, true]);
  assert.equal(at(12, { lost: 9, dropped: 1 }), false);
  assert.equal(at(13, { stretches: 0 }), false, 'the counters of a new player begin at 0');
  assert.equal(at(14, { marginMs: 300 }), true);
});
