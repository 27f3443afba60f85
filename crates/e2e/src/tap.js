// Records what a page renders and what its microphone delivers, for the tests: a worklet of the test's own is connected to
// whatever the page connects to its destination or makes from its microphone; and what came with the stream, as it came.
// Not part of the page.
(() => {
  if (window.top !== window || window.palabreTap) return;
  // Blocks of 1024 frames: a message for each 128 would keep the page busy with being watched.
  const RECORDER = `
    registerProcessor('palabre-tap', class extends AudioWorkletProcessor {
      #samples = new Float32Array(1024);
      #fill = 0;
      #time = 0;
      process([input]) {
        if (this.#fill === 0) this.#time = Date.now();
        if (input[0]) this.#samples.set(input[0], this.#fill);
        else this.#samples.fill(0, this.#fill, this.#fill + 128);
        this.#fill += 128;
        if (this.#fill === this.#samples.length) {
          this.port.postMessage([this.#time, this.#samples.slice()]);
          this.#fill = 0;
        }
        return true;
      }
    });`;
  const taps = { output: newTap(), microphone: newTap(), stream: newTap() };
  const modules = new WeakMap();
  const recorders = new WeakMap();
  const connect = AudioNode.prototype.connect;

  AudioNode.prototype.connect = function (target, ...rest) {
    if (target === this.context.destination && this.context instanceof AudioContext) attach(this, taps.output);
    if (this instanceof MediaStreamAudioSourceNode) attach(this, taps.microphone);
    return connect.call(this, target, ...rest);
  };
  const stages = { sent: [], arrived: [] };
  watchStages();

  window.palabreTap = {
    length: (name) => [taps[name].length, taps[name].rateHz],
    times: (name, from) => taps[name].times.filter(([sample]) => sample >= from),
    stages: () => stages,
    base64: (name, start, end) => base64(part(taps[name], start, end)),
  };

  function newTap() {
    return { rateHz: 0, length: 0, blocks: [], times: [] };
  }

  async function attach(node, tap) {
    const { context } = node;
    if (!modules.has(context)) {
      modules.set(context, context.audioWorklet.addModule(URL.createObjectURL(new Blob([RECORDER], { type: 'text/javascript' }))));
    }
    await modules.get(context);
    connect.call(node, recorder(context, tap));
  }

  // One for each context: whatever reaches the destination is summed in it, as the destination does.
  function recorder(context, tap) {
    const made = recorders.get(context) ?? new Map();
    recorders.set(context, made);
    if (!made.has(tap)) made.set(tap, makeRecorder(context, tap));
    return made.get(tap);
  }

  function makeRecorder(context, tap) {
    const node = new AudioWorkletNode(context, 'palabre-tap', { channelCount: 1, channelCountMode: 'explicit' });
    node.port.onmessage = ({ data: [time, samples] }) => {
      if (tap.length - (tap.times.at(-1)?.[0] ?? -4800) >= 4800) tap.times.push([tap.length, time]);
      tap.blocks.push(Int16Array.from(samples, (x) => Math.max(-32768, Math.min(32767, Math.round(x * 32768)))));
      tap.length += samples.length;
    };
    tap.rateHz = context.sampleRate;
    // A node that leads nowhere is not run: its output is silence.
    connect.call(node, context.destination);
    return node;
  }

  // What leaves: how old its first sample is, and how many samples it has. What comes: where in the stream's tap it begins,
  // what the clock says, and its SEQ.
  function watchStages() {
    const now = () => performance.timeOrigin + performance.now();
    const { send } = WebSocket.prototype;
    WebSocket.prototype.send = function (data) {
      if (data.byteLength > 16) stages.sent.push([now() - new DataView(data).getFloat64(8, true), (data.byteLength - 16) / 2]);
      return send.call(this, data);
    };
    const { fetch } = window;
    window.fetch = function (url, options) {
      const since = String(url).match(/^speak\?.*&t=(\d+)/)?.[1];
      if (since) stages.sent.push([now() - since, (options.body.byteLength - 44) / 2]);
      return fetch.call(this, url, options);
    };
    let take;
    Object.defineProperty(window, 'palabre', {
      configurable: true,
      get: () => take && ((win, text) => {
        if (text.startsWith('1,')) arrived(now(), text);
        return take(win, text);
      }),
      set: (given) => { take = given; },
    });
  }

  // While two streams overlap, both bring the same.
  function arrived(nowMs, text) {
    const [, seq, , base64] = text.split(',');
    if (Number(seq) <= (stages.arrived.at(-1)?.[2] ?? 0)) return;
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const tap = taps.stream;
    tap.rateHz = new DataView(bytes.buffer).getUint32(24, true);
    stages.arrived.push([tap.length, nowMs, Number(seq)]);
    tap.blocks.push(new Int16Array(bytes.buffer.slice(44)));
    tap.length += tap.blocks.at(-1).length;
  }

  function part(tap, start, end) {
    const all = new Int16Array(end - start);
    let at = 0;
    for (const block of tap.blocks) {
      if (at < end && at + block.length > start) {
        const [from, to] = [Math.max(start - at, 0), Math.min(end - at, block.length)];
        all.set(block.subarray(from, to), at + from - start);
      }
      at += block.length;
    }
    return all;
  }

  function base64(samples) {
    const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength);
    let text = '';
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return btoa(text);
  }
})();
