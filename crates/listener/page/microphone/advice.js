/**
 * Chooses the advice that the user sees during the test of a microphone. Pure.
 */

/** Time after which the page says that the microphone delivers no sound. */
const WAIT_MS = 3000;
const SILENT_PEAK = 0.0005;
const QUIET_PEAK = 0.02;

/**
 * @param {{state: string, systemMuted: boolean, listenedMs: number, peak: number, label: string, isDefault: boolean, others: number}} test
 *   peak: highest since the test began, 0 to 1; others: number of other microphones
 * @returns {string} the key of a text, see text/
 */
export function advice({ state, systemMuted, listenedMs, peak, label, isDefault, others }) {
  if (state === 'refused') return 'adviceBlocked';
  if (state === 'missing') return 'adviceMissing';
  if (state === 'busy') return 'adviceBusy';
  if (state !== 'on') return 'adviceAsking';
  if (systemMuted) return 'adviceSystemMuted';
  if (/monitor of|stereo mix|loopback|blackhole|virtual/i.test(label)) return 'adviceNotAMicrophone';
  if (peak > QUIET_PEAK) return 'adviceGood';
  if (listenedMs < WAIT_MS) return 'adviceSpeak';
  if (isDefault && others > 0) return peak > SILENT_PEAK ? 'adviceQuietDefault' : 'adviceSilentDefault';
  return peak > SILENT_PEAK ? 'adviceQuiet' : 'adviceSilent';
}
