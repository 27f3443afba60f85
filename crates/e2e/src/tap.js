// Records what a page renders and what its microphone delivers, for the tests: a worklet of the test's own is connected to
// whatever the page connects to its destination or makes from its microphone. Not part of the page.
(() => {
  if (window.top !== window || window.palabreTap) return;
  const RECORDER = `
    registerProcessor('palabre-tap', class extends AudioWorkletProcessor {
      process([input]) {
        const samples = input[0] ?? new Float32Array(128);
        this.port.postMessage([currentFrame, Date.now(), samples.slice()]);
        return true;
      }
    });`;
  const taps = { output: newTap(), microphone: newTap() };
  const modules = new WeakMap();
  const connect = AudioNode.prototype.connect;
  const createSource = AudioContext.prototype.createMediaStreamSource;

  AudioNode.prototype.connect = function (target, ...rest) {
    if (target === this.context.destination && this.context instanceof AudioContext) attach(this, taps.output);
    return connect.call(this, target, ...rest);
  };
  AudioContext.prototype.createMediaStreamSource = function (stream) {
    const source = createSource.call(this, stream);
    attach(source, taps.microphone);
    return source;
  };
  window.palabreTap = {
    length: (name) => [taps[name].length, taps[name].rateHz],
    times: (name) => taps[name].times,
    base64: (name, start) => base64(joined(taps[name]).subarray(start)),
  };

  function newTap() {
    return { rateHz: 0, length: 0, blocks: [], times: [] };
  }

  async function attach(node, tap) {
    const context = node.context;
    if (!modules.has(context)) {
      modules.set(context, context.audioWorklet.addModule(URL.createObjectURL(new Blob([RECORDER], { type: 'text/javascript' }))));
    }
    await modules.get(context);
    const recorder = new AudioWorkletNode(context, 'palabre-tap', { numberOfOutputs: 1 });
    recorder.port.onmessage = ({ data: [frame, time, samples] }) => {
      if (tap.length % 4800 < 128) tap.times.push([tap.length, time]);
      tap.blocks.push(Int16Array.from(samples, (x) => Math.max(-32768, Math.min(32767, Math.round(x * 32768)))));
      tap.length += samples.length;
    };
    tap.rateHz = context.sampleRate;
    connect.call(node, recorder);
    // A node that leads nowhere is not run: its output is silence.
    connect.call(recorder, context.destination);
  }

  function joined(tap) {
    const all = new Int16Array(tap.length);
    let at = 0;
    for (const block of tap.blocks) {
      all.set(block, at);
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
