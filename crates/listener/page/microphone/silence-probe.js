/**
 * Detects a microphone that delivers only zeros although echo cancellation adds noise to them, which it does while the loudspeaker plays. That noise is
 * louder than the noise of some real microphones, so its level decides nothing. The probe opens the same device a second time, without
 * processing: there only zeros come from a dead microphone.
 *
 * Only Chromium on computers gives a page one device with two kinds of processing at once.
 */

/** Number of levels, one every 200 ms, that must be zero: a device may need more than a second until it delivers sound. */
const ZEROS = 15;
/** Interval between the beginnings of two probes. */
const INTERVAL_MS = 60_000;
const UNPROCESSED = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

/** The probe of one page. */
export class SilenceProbe {
  #connect;
  #media = null;
  #end = () => {};
  #zeros = 0;
  #dueMs = -Infinity;
  /** Counts the probes, because a probe may end before the browser has opened the device. */
  #probes = 0;
  #trusted = true;

  /** @param {(media: MediaStream, onPeak: (peak: number) => void) => () => void} connect measures the level; returns the function that ends this */
  constructor(connect) {
    this.#connect = connect;
  }

  /** @returns {boolean} whether the device delivers only zeros */
  get silent() {
    return this.#zeros >= ZEROS;
  }

  /**
   * Begins a probe if one is due. Call again and again while the microphone's sound is faint.
   * @param {MediaStreamTrack} track of the microphone
   * @param {number} nowMs
   */
  async look(track, nowMs) {
    const settings = track.getSettings?.() ?? {};
    const isPossible = navigator.userAgentData?.mobile === false && settings.echoCancellation && settings.deviceId;
    if (!isPossible || !this.#trusted || this.silent || nowMs < this.#dueMs) return;
    this.#dueMs = nowMs + INTERVAL_MS;
    this.end();
    const probe = this.#probes;
    try {
      const media = await navigator.mediaDevices.getUserMedia({ audio: { ...UNPROCESSED, deviceId: { exact: settings.deviceId } } });
      if (probe === this.#probes) this.#opened(media);
      else stop(media);
    } catch {
      // The browser can't open the device a second time, without echo cancellation. So the page doesn't notice a microphone that the system has
      // muted, because echo cancellation adds noise to its zeros.
      this.#trusted = false;
    }
  }

  /** Notes that the microphone's sound is loud enough to come from a voice. A device that delivers zeros at the same time proves nothing. */
  heard() {
    if (this.silent) this.#trusted = false;
    this.end();
  }

  /** Releases the device. */
  end() {
    this.#probes += 1;
    this.#zeros = 0;
    this.#end();
    this.#end = () => {};
    stop(this.#media);
    this.#media = null;
  }

  #opened(media) {
    this.#media = media;
    this.#end = this.#connect(media, (peak) => {
      if (peak === 0) this.#zeros += 1;
      else this.end();
    });
  }
}

function stop(media) {
  media?.getTracks().forEach((track) => track.stop());
}
