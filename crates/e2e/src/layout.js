// Returns what is wrong with the layout of the page's present screen, as a list of sentences.
const problems = [];
const say = (element, what) => problems.push(`${element.id ? `#${element.id}` : element.outerHTML.slice(0, 80)} ${what}`);
const seen = (element) => element?.checkVisibility({ visibilityProperty: true }) && element.getBoundingClientRect().width > 1;
const box = (element) => element.getBoundingClientRect();
const all = (selector) => [...document.querySelectorAll(selector)].filter(seen);
const root = document.documentElement;

if (Math.max(root.scrollWidth, document.body.scrollWidth) > innerWidth) say(root, 'is wider than the window');
// Allow a deviation of half a pixel, because browsers round lengths.
const isInside = (inner, outer) => inner.left >= outer.left - 0.5 && inner.right <= outer.right + 0.5;
for (const element of all('button, input, select, summary, h1, h2, strong, .name, .message, .recorded, .connection')) {
  if (!isInside(box(element), { left: 0, right: innerWidth })) say(element, 'is beyond the edge of the window');
}
for (const element of all('button, main, .door h2, .door-room, .notice, .message-text, .advice, .settings-head h2, .settings-body')) {
  if (element.scrollWidth > element.clientWidth + 1) say(element, 'is wider than its space');
}
const language = document.getElementById('language');
if (seen(language) && box(language).left < innerWidth / 2) say(language, 'is alone in a row, at its left end');
const dock = document.getElementById('dock');
if (seen(dock)) {
  const { top, bottom } = box(dock);
  if (bottom > innerHeight + 0.5) say(dock, 'is partly below the window');
  for (const control of all('.dock button, .dock input')) {
    const { top: first, bottom: last } = box(control);
    if (first < top || last > bottom) say(control, 'is outside the controls');
  }
  const leave = box(document.getElementById('leave'));
  if (leave.height > 1.6 * Math.max(44, parseFloat(getComputedStyle(root).fontSize) * 2.75)) say(document.getElementById('leave'), 'wraps');
  // The microphone's state may take a row of its own only if no notice is urgent.
  const [action] = all('.notice.urgent button');
  if (action && (box(action).top + box(action).bottom) / 2 > top) say(action, 'is less than half above the controls');
  const words = document.querySelector('.mic-words');
  const level = document.getElementById('mic-level');
  if (seen(words) && level.checkVisibility() && box(words).bottom > box(level).top + 0.5) say(level, 'covers the words of the microphone');
  const head = document.querySelector('.top');
  const scrolls = getComputedStyle(document.body).overflowY === 'visible';
  const roomTop = scrolls || !seen(head) ? 0 : box(head).bottom;
  if (top - roomTop < 0.45 * innerHeight) say(dock, `and the head leave ${Math.round(top - roomTop)} of ${innerHeight} px to the room`);
  const texts = document.getElementById('message-list');
  if (seen(texts)) {
    if (box(document.getElementById('messages')).bottom > top + 0.5) say(texts, 'overlaps the controls');
    const lines = box(texts).height / parseFloat(getComputedStyle(texts).lineHeight);
    if (lines < 3) say(texts, `shows only ${lines.toFixed(1)} lines`);
    const counter = document.getElementById('message-room');
    if (seen(counter) && box(counter).bottom <= box(document.getElementById('messages-close')).top) say(counter, 'is above the row of the button that closes the messages');
  }
}
const join = document.getElementById('join');
if (seen(join)) {
  const recorded = document.getElementById('door-recorded');
  if (seen(recorded) && box(recorded).top > box(join).top) say(recorded, 'is below the button to join');
  join.scrollIntoView({ block: 'nearest' });
  const { top, bottom } = box(join);
  if (top < 0 || bottom > innerHeight + 0.5) say(join, 'is not reachable');
  join.closest('main').scrollTop = 0;
  scrollTo(0, 0);
}
for (const seat of all('.seat')) {
  const initials = seat.querySelector('.initials');
  if (initials.textContent === '') say(seat, 'is an empty circle');
  const text = box(initials);
  for (const sign of [...seat.querySelectorAll('.hand-sign, .mic-sign-small')].filter(seen)) {
    const { left, right, top } = box(sign);
    if (top < text.bottom - 1 && left < text.right - 1 && right > text.left + 1) say(sign, `covers the initials of ${seat.nextSibling.textContent}`);
  }
}
for (const name of all('.name')) {
  const { bottom, width } = box(name);
  const machine = name.querySelector('.machine');
  const nameLength = name.firstChild.length;
  // Returns the vertical position of the line that has this letter of the name, or of the machine's name after it; null if the line is hidden.
  const lineOf = (at) => {
    const range = document.createRange();
    const [text, begin] = at < nameLength ? [name.firstChild, at] : [machine.firstChild, at - nameLength];
    range.setStart(text, begin);
    range.setEnd(text, begin + 1);
    const { top } = range.getBoundingClientRect();
    return top < bottom - 2 ? Math.round(top) : null;
  };
  for (const { 0: word, index } of name.textContent.matchAll(/[^\s-]+/g)) {
    const lines = Array.from(word, (_, at) => lineOf(index + at)).filter(Number.isFinite);
    if (word.length <= 13 && new Set(lines).size > 1) say(name, `breaks inside the word ${word} after ${lines.lastIndexOf(lines[0]) + 1} letters (${Math.round(width)} px)`);
  }
  if (machine && lineOf(name.textContent.length - 1) === null) say(name, 'hides the machine');
}
if (matchMedia('(forced-colors: active)').matches) {
  // The system's colours replace those of the page, so only borders and the system's highlight colour show buttons, levels and what is pressed.
  const ground = getComputedStyle(document.body).backgroundColor;
  const shows = (element) => ![ground, 'rgba(0, 0, 0, 0)'].includes(getComputedStyle(element).backgroundColor);
  for (const button of all('button:not(.plain)')) if (parseFloat(getComputedStyle(button).borderTopWidth) < 1) say(button, 'has no border with forced colours');
  for (const button of all('button[aria-pressed=true]')) if (!shows(button)) say(button, 'does not look pressed with forced colours');
  for (const button of all('button + button')) {
    const [before, after] = [box(button.previousElementSibling), box(button)];
    const inOneRow = before.top < after.bottom && after.top < before.bottom;
    if (before.width > 1 && inOneRow && after.left > before.left && after.left < before.right + 1) say(button, 'touches the button before it with forced colours');
  }
  for (const meter of all('.meter-bar, .mic-level, .sound-test-meter span')) if (!shows(meter)) say(meter, 'has the colour of the ground with forced colours');
}
return problems;
