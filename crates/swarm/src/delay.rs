//! Measures the delay of each talker's voice in the mix of one listener, by the times at which the level of the voice's tone changes.

use crate::tones::Tones;

/// Minimum difference between the amplitudes before and after a change of level, as a part of the full change. Smaller differences are ignored,
/// so the error of a delay is at most 4 % of a record's length.
const CHANGE_MIN: f32 = 0.96;

/// The tones in the last two records of a stream.
#[derive(Debug, Default)]
pub(crate) struct DelayMeter {
    talkers: Vec<Past>,
    arrival_ms: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Past {
    /// Amplitude in the record before the previous record, and in the previous record.
    amplitudes: [Option<f32>; 2],
}

impl DelayMeter {
    /// Notes a record's tones. Calls `found` with the number of a talker and the delay in ms, from the capture of a sample to the time at which a
    /// page can play it. `origin_ms` is the time at which sample 0 of all tones was captured.
    pub(crate) fn record(
        &mut self,
        tones: &Tones,
        amplitudes: &[f32],
        arrival_ms: f64,
        length_ms: f64,
        origin_ms: f64,
        mut found: impl FnMut(usize, f64),
    ) {
        self.talkers.resize(amplitudes.len(), Past::default());
        for (talker, (past, &now)) in self.talkers.iter_mut().zip(amplitudes).enumerate() {
            let [before, changing] = past.amplitudes;
            past.amplitudes = [changing, Some(now)];
            let (Some(before), Some(changing)) = (before, changing) else { continue };
            let change = now - before;
            // The lower level is half of the higher level.
            if change.abs() < CHANGE_MIN * tones.high / 2.0 {
                continue;
            }
            // Don't find the same change again in the next record.
            past.amplitudes = [None, Some(now)];
            let place = f64::from(((changing - now) / (before - now)).clamp(0.0, 1.0));
            let heard_ms = self.arrival_ms + place * length_ms - origin_ms;
            let rate = f64::from(tones.rate_hz()) / 1000.0;
            if let Some(said) = tones.change_before(talker, (heard_ms.max(0.0) * rate) as u64, change > 0.0) {
                found(talker, heard_ms - said as f64 / rate);
            }
        }
        self.arrival_ms = arrival_ms;
    }

    /// Forgets the last records, because the next record doesn't follow them.
    pub(crate) fn restart(&mut self) {
        self.talkers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_of_each_talker_is_found_within_2_ms() {
        let tones = Tones::new(24_000, 3);
        for delays in [[30.0, 55.5, 180.25], [90.0, 100.0, 400.0]] {
            let (mut meter, mut found) = (DelayMeter::default(), vec![Vec::new(); 3]);
            for number in 1..150_u64 {
                // The record's samples of each talker are `delay` old at the end of the record. The record arrives 7 ms after its end.
                let end_ms = 1000.0 + number as f64 * 40.0;
                let mut sum = vec![0.0_f32; 960];
                for (talker, delay) in delays.iter().enumerate() {
                    let from = ((end_ms - 40.0 - delay) * 24.0) as u64;
                    let mut bytes = Vec::new();
                    tones.write(talker, from, 960, &mut bytes);
                    for (sum, pair) in sum.iter_mut().zip(bytes.as_chunks::<2>().0) {
                        *sum += f32::from(i16::from_le_bytes(*pair)) / 32_768.0;
                    }
                }
                let mut amplitudes = Vec::new();
                tones.measure(&sum, &mut amplitudes);
                let arrival = 5000.0 + end_ms + 7.0;
                meter.record(&tones, &amplitudes, arrival, 40.0, 5000.0, |talker, ms| found[talker].push(ms));
            }
            for (found, delay) in found.iter().zip(delays) {
                assert!(found.len() >= 4, "{found:?}");
                // The first sample of a record can be played when the record arrives: 47 ms after its capture if `delay` is 0.
                assert!(found.iter().all(|ms| (ms - delay - 47.0).abs() < 1.7), "{delay}: {found:?}");
            }
        }
    }
}
