// For tests: records the sound that a page renders, the sound of its microphone, and the sound in its stream. A worklet is connected to every node
// that the page connects to its destination, and to its microphone. A worker stores the recordings, so that recording doesn't keep the page busy.
(() => {
  if (window.top !== window || window.palabreTap) return;
  // Sends blocks of 1024 frames from the audio thread to the worker.
  const RECORDER = `
    registerProcessor('palabre-tap', class extends AudioWorkletProcessor {
      #samples = new Float32Array(1024);
      #fill = 0;
      #time = 0;
      #keeper;
      constructor() {
        super();
        this.port.onmessage = ({ data }) => { this.#keeper = data; };
      }
      process([input]) {
        if (!this.#keeper) return true;
        if (this.#fill === 0) this.#time = Date.now();
        if (input[0]) this.#samples.set(input[0], this.#fill);
        else this.#samples.fill(0, this.#fill, this.#fill + 128);
        this.#fill += 128;
        if (this.#fill === this.#samples.length) {
          const samples = this.#samples.slice();
          this.#keeper.postMessage([this.#time, samples], [samples.buffer]);
          this.#fill = 0;
        }
        return true;
      }
    });`;
  const KEEPER = `(${keep})()`;
  const modules = new WeakMap();
  const recorders = new WeakMap();
  const connect = AudioNode.prototype.connect;
  let keeper;

  AudioNode.prototype.connect = function (target, ...rest) {
    if (target === this.context.destination && this.context instanceof AudioContext) attach(this, 'output');
    if (this instanceof MediaStreamAudioSourceNode) attach(this, 'microphone');
    return connect.call(this, target, ...rest);
  };
  const sent = [];
  watchStages();

  window.palabreTap = {
    length: (name) => ask('length', name),
    times: (name, from) => ask('times', name, from),
    counts: async () => [sent.length, await ask('arrivals')],
    stages: async (sentFrom, arrivedFrom) => ({ sent: sent.slice(sentFrom), arrived: await ask('arrived', arrivedFrom) }),
    base64: (name, start, end) => ask('base64', name, start, end),
    keep: (kept) => post(['keep', kept]),
  };

  // The worker's code. It can't use variables of the page.
  function keep() {
    const newTap = () => ({ rateHz: 0, length: 0, blocks: [], times: [] });
    const taps = { output: newTap(), microphone: newTap(), stream: newTap() };
    const arrivals = [];
    let keeps = true;
    const tell = {
      recorder(port, name, rateHz) {
        taps[name].rateHz = rateHz;
        port.onmessage = ({ data: [time, samples] }) => rendered(taps[name], time, samples);
      },
      chunk: (_, ms, seq, text) => arrived(ms, seq, text),
      keep: (_, kept) => { keeps = kept; },
    };
    const answer = {
      length: (name) => [taps[name].length, taps[name].rateHz],
      times: (name, from) => taps[name].times.filter(([sample]) => sample >= from),
      arrivals: () => arrivals.length,
      arrived: (from) => arrivals.slice(from),
      base64: (name, start, end) => base64(part(taps[name], start, end)),
    };
    self.onmessage = ({ data: [what, ...rest], ports: [port] }) => {
      if (what in tell) tell[what](port, ...rest);
      else port.postMessage(answer[what](...rest));
    };

    function rendered(tap, time, samples) {
      if (tap.length - (tap.times.at(-1)?.[0] ?? -4800) >= 4800) tap.times.push([tap.length, time]);
      const round = () => Int16Array.from(samples, (x) => Math.max(-32768, Math.min(32767, Math.round(x * 32768))));
      add(tap, samples.length, round);
    }

    function arrived(ms, seq, text) {
      const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      taps.stream.rateHz = new DataView(bytes.buffer).getUint32(24, true);
      arrivals.push([taps.stream.length, ms, seq]);
      add(taps.stream, (bytes.length - 44) / 2, () => new Int16Array(bytes.buffer.slice(44)));
    }

    function add(tap, length, samples) {
      if (keeps) tap.blocks.push([tap.length, samples()]);
      tap.length += length;
    }

    function part(tap, start, end) {
      const all = new Int16Array(end - start);
      for (const [at, block] of tap.blocks) {
        if (at < end && at + block.length > start) {
          const [from, to] = [Math.max(start - at, 0), Math.min(end - at, block.length)];
          all.set(block.subarray(from, to), at + from - start);
        }
      }
      return all;
    }

    function base64(samples) {
      const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength);
      let text = '';
      for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
      return btoa(text);
    }
  }

  function post(message, ports = []) {
    keeper ??= new Worker(URL.createObjectURL(new Blob([KEEPER], { type: 'text/javascript' })));
    keeper.postMessage(message, ports);
  }

  function ask(...question) {
    const { port1, port2 } = new MessageChannel();
    const answer = new Promise((resolve) => { port1.onmessage = ({ data }) => resolve(data); });
    post(question, [port2]);
    return answer;
  }

  async function attach(node, name) {
    const { context } = node;
    if (!modules.has(context)) {
      modules.set(context, context.audioWorklet.addModule(URL.createObjectURL(new Blob([RECORDER], { type: 'text/javascript' }))));
    }
    await modules.get(context);
    connect.call(node, recorder(context, name));
  }

  // Returns the recorder of a context with this name. The recorder sums its inputs, as the destination does.
  function recorder(context, name) {
    const made = recorders.get(context) ?? new Map();
    recorders.set(context, made);
    if (!made.has(name)) made.set(name, makeRecorder(context, name));
    return made.get(name);
  }

  function makeRecorder(context, name) {
    const node = new AudioWorkletNode(context, 'palabre-tap', { channelCount: 1, channelCountMode: 'explicit' });
    const { port1, port2 } = new MessageChannel();
    post(['recorder', name, context.sampleRate], [port1]);
    node.port.postMessage(port2, [port2]);
    // A browser only runs nodes that are connected to a destination. The recorder's own output is silence, so it isn't heard.
    connect.call(node, context.destination);
    return node;
  }

  // Records for each chunk sent the age of its first sample and its number of samples; for each chunk received its position in the recording of
  // the stream, the time and its SEQ.
  function watchStages() {
    const now = () => performance.timeOrigin + performance.now();
    const { send } = WebSocket.prototype;
    WebSocket.prototype.send = function (data) {
      if (data.byteLength > 16) sent.push([now() - new DataView(data).getFloat64(8, true), (data.byteLength - 16) / 2]);
      return send.call(this, data);
    };
    const { fetch } = window;
    window.fetch = function (url, options) {
      const since = String(url).match(/^speak\?.*&t=(\d+)/)?.[1];
      if (since) sent.push([now() - since, (options.body.byteLength - 44) / 2]);
      return fetch.call(this, url, options);
    };
    let take;
    let newest = 0;
    Object.defineProperty(window, 'palabre', {
      configurable: true,
      get: () => take && ((win, text) => {
        const [kind, seq, , sound] = text.split(',');
        // Streams that overlap contain the same chunks, so record each chunk once.
        if (kind === '1' && Number(seq) > newest) {
          newest = Number(seq);
          post(['chunk', now(), newest, sound]);
        }
        return take(win, text);
      }),
      set: (given) => { take = given; },
    });
  }
})();
