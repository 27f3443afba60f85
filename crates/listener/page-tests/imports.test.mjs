import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const root = new URL('../page/', import.meta.url);
const names = readdirSync(root, { recursive: true }).filter((name) => name.endsWith('.js')).map((name) => name.split(path.sep).join('/'));
const sources = new Map(names.map((name) => [name, readFileSync(new URL(name, root), 'utf8')]));
/** The folders in the order that the header of app.js lists. */
const order = [...sources.get('app.js').split('*/')[0].matchAll(/^ \* {3}([a-z]+)\/ /gm)].map(([, folder]) => folder);
const folderOf = (name) => (name.includes('/') ? name.split('/')[0] : '');

/** Files that a file imports, also at run time or as a worklet, without those that the listener generates. */
function importsOf(name) {
  const code = sources.get(name).replace(/\/\*[\s\S]*?\*\//g, '');
  const found = [...code.matchAll(/(?:from |import\(|import |new URL\()['"`]([^'"`]+\.js)['"`]/g)].map(([, target]) => target);
  const targets = found.flatMap((target) => (target.includes('${') ? matching(name, target) : [resolved(name, target)]));
  return targets.filter((target) => target !== 'text/languages.js');
}

function resolved(name, target) {
  return path.posix.join(path.posix.dirname(name), target);
}

/** Files that a template such as `./text-${code}.js` may mean. */
function matching(name, template) {
  const [before, after] = resolved(name, template).split(/\$\{[^}]*\}/);
  return names.filter((other) => other.startsWith(before) && other.endsWith(after));
}

test('every import is a file of the page', () => {
  for (const name of names) for (const target of importsOf(name)) assert.ok(sources.has(target), `${name} imports ${target}`);
  assert.ok(importsOf('text/text.js').includes('text/text-en.js'));
  assert.ok(importsOf('player/player.js').includes('player/player-worklet.js'));
});

test('header of app.js lists every folder', () => {
  const folders = [...new Set(names.map(folderOf).filter(Boolean))];
  assert.deepEqual([...order].sort(), folders.sort());
});

test('files import only from their own folder and from folders earlier in the order', () => {
  const rank = (name) => (folderOf(name) ? order.indexOf(folderOf(name)) : order.length);
  const wrong = names.flatMap((name) => importsOf(name).filter((target) => rank(target) > rank(name)).map((target) => `${name} → ${target}`));
  assert.deepEqual(wrong, []);
});

test('files import only from folders that the main file of their folder names', () => {
  const mains = [...sources].filter(([, source]) => source.startsWith('/**\n * Folder '));
  const folders = mains.map(([name]) => folderOf(name));
  assert.deepEqual(folders.sort(), order.filter((folder) => folder !== 'base').sort(), 'one main file for each folder');
  for (const [main, source] of mains) {
    const header = source.split('*/')[0].replaceAll('\n *', '');
    const [, list] = header.match(/May import ([^.]+)\./);
    const allowed = [folderOf(main), ...[...list.matchAll(/([a-z]+)\//g)].map(([, folder]) => folder)];
    const files = names.filter((name) => folderOf(name) === folderOf(main));
    const used = new Set(files.flatMap(importsOf).map(folderOf));
    assert.deepEqual([...used].filter((folder) => !allowed.includes(folder)), [], main);
  }
});

test('no two files import each other, directly or through others', () => {
  const done = new Set();
  const visit = (name, chain) => {
    assert.ok(!chain.includes(name), [...chain, name].join(' → '));
    if (done.has(name)) return;
    for (const target of importsOf(name)) visit(target, [...chain, name]);
    done.add(name);
  };
  for (const name of names) visit(name, []);
});
