import assert from 'node:assert/strict';
import { test } from 'node:test';

const { withLinks } = await import('../page/view/links.js');

globalThis.document = { createElement: (name) => ({ name }) };

/** Returns the text with each link in brackets. */
function shown(text) {
  return withLinks(text).map((part) => (typeof part === 'string' ? part : `[${part.textContent}]`)).join('');
}

test('web addresses become links that open in a new tab and are shown whole', () => {
  const [before, link, after] = withLinks('see https://example.org/a?b=c&d=<é now');
  assert.deepEqual([before, after], ['see ', '<é now']);
  assert.deepEqual(link, {
    name: 'a', href: 'https://example.org/a?b=c&d=', target: '_blank', rel: 'noopener noreferrer', textContent: 'https://example.org/a?b=c&d=', dir: 'ltr',
  });
  assert.equal(shown('http://a.org/ HTTPS://B.org:8443/#x'), '[http://a.org/] [HTTPS://B.org:8443/#x]');
  assert.equal(shown('http://[::1]:80/ http://münchen.example/ü?q=%20'), '[http://[::1]:80/] [http://münchen.example/ü?q=%20]');
  assert.equal(shown('nothing here: http:// https:/x example.org'), 'nothing here: http:// https:/x example.org');
});

test('punctuation of the sentence is not part of the link', () => {
  assert.equal(shown('(https://a.org/b), «https://a.org/c».'), '([https://a.org/b]), «[https://a.org/c]».');
  assert.equal(shown('https://a.org/x_(y) and [https://a.org/z]!'), '[https://a.org/x_(y)] and [[https://a.org/z]]!');
  assert.equal(shown('https://a.org/?.. https://a.org/…'), '[https://a.org/]?.. [https://a.org/]…');
});

test('other schemes, markup and addresses that deceive the reader are not links', () => {
  for (const text of [
    'javascript:alert(1)', 'data:text/html,<script>alert(1)</script>', 'vbscript:x', 'file:///etc/passwd', 'ftp://a.org/',
    'xhttp://a.org/', 'https:javascript:alert(1)', 'https://user@evil.example/', 'https://bank.example:x@evil.example/',
    'https://bank.example%2f@evil.example/', 'http://a.org:99999/', 'https://%00/', 'http://[::1/',
    'https://bank.example\u2044login.evil.org/', 'https://bank.example\u2215x.evil.org/', 'https://bank.example\u2800\u2800.evil.org',
  ]) assert.equal(shown(text), text, text);
  assert.equal(shown('<a href="https://a.org/" onclick="x()">y</a>'), '<a href="[https://a.org/]" onclick="x()">y</a>');
  assert.equal(shown('https://a.org/"><img/src=x>'), '[https://a.org/]"><img/src=x>');
  assert.equal(shown('https://a.org/\\evil'), '[https://a.org/]\\evil');
  // The linked address ends before a direction mark or an invisible character.
  for (const hidden of ['\u202e', '\u2066', '\u200b', '\u200f', '\u00ad', '\u2028', '\u3164', '\ufeff', '\ufe0f', '\u034f', '\u180b', '\uffa0', '\u{e0041}', '\u{e0100}']) {
    assert.equal(shown(`https://a.org/${hidden}gro.live`), `[https://a.org/]${hidden}gro.live`, escape(hidden));
  }
});

test('every text of 500 characters is searched quickly and loses no character', () => {
  for (const unit of ['https://', 'http://a', 'https://a.org/).', '(', '.', 'https://a.org/' + '('.repeat(200) + ')'.repeat(200), 'https://a.org/' + ').'.repeat(240)]) {
    const text = unit.repeat(500).slice(0, 500);
    const parts = withLinks(text).map((part) => part.textContent ?? part);
    assert.equal(parts.join(''), text);
  }
});
