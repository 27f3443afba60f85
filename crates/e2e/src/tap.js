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
  const recorders = new WeakMap();
  const connect = AudioNode.prototype.connect;

  AudioNode.prototype.connect = function (target, ...rest) {
    if (target === this.context.destination && this.context instanceof AudioContext) attach(this, taps.output);
    if (this instanceof MediaStreamAudioSourceNode) attach(this, taps.microphone);
    return connect.call(this, target, ...rest);
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
    node.port.onmessage = ({ data: [, time, samples] }) => {
      if (tap.length % 4800 < 128) tap.times.push([tap.length, time]);
      tap.blocks.push(Int16Array.from(samples, (x) => Math.max(-32768, Math.min(32767, Math.round(x * 32768)))));
      tap.length += samples.length;
    };
    tap.rateHz = context.sampleRate;
    // A node that leads nowhere is not run: its output is silence.
    connect.call(node, context.destination);
    return node;
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
