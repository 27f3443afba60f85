//! The continuous sound of a stream for programs: chunks, and zeros while the room is silent.

use std::time::Duration;

/// Places chunks and zeros in time by the number of samples sent since the start of the stream.
#[derive(Debug)]
pub(crate) struct Timeline {
    rate_hz: u64,
    sent: u64,
    /// Number of newest samples for which no zeros are sent yet, because their chunk may still arrive.
    margin: u64,
}

impl Timeline {
    pub(crate) fn new(rate_hz: u32, margin_ms: u64) -> Self {
        let rate_hz = u64::from(rate_hz);
        Self { rate_hz, sent: 0, margin: rate_hz * margin_ms / 1000 }
    }

    fn position(&self, elapsed: Duration) -> u64 {
        (elapsed.as_micros() * u128::from(self.rate_hz) / 1_000_000) as u64
    }

    /// Appends a chunk, whose last sample belongs to the time `elapsed`, to `out`. After a gap, first appends zeros up to the chunk's
    /// start. Drops the beginning of a chunk that is too early.
    pub(crate) fn sound(&mut self, elapsed: Duration, chunk: &[i16], gap: bool, out: &mut Vec<i16>) {
        let start = self.position(elapsed).saturating_sub(chunk.len() as u64);
        if gap {
            self.fill_to(start, out);
        }
        // Drop samples of chunks that arrive in a burst after a stall, so that the stream isn't delayed permanently.
        let ahead = self.sent.saturating_sub(start + self.margin);
        let cut = usize::try_from(ahead).unwrap_or(usize::MAX).min(chunk.len());
        out.extend_from_slice(&chunk[cut..]);
        self.sent += (chunk.len() - cut) as u64;
    }

    /// Appends the zeros for silence up to the time `elapsed` to `out`, except for the newest samples, whose chunk may still arrive.
    pub(crate) fn silence(&mut self, elapsed: Duration, out: &mut Vec<i16>) {
        self.fill_to(self.position(elapsed).saturating_sub(self.margin), out);
    }

    fn fill_to(&mut self, position: u64, out: &mut Vec<i16>) {
        // Append at most 10 s of zeros, to limit memory. A stall of 10 s ends the stream anyway, because a write times out after 5 s.
        let count = position.saturating_sub(self.sent).min(self.rate_hz * 10);
        out.resize(out.len() + count as usize, 0);
        self.sent = self.sent.max(position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn silence_does_not_drift() {
        let mut line = Timeline::new(24000, 140);
        let mut out = Vec::new();
        for tick in 1..=36_000 {
            line.silence(ms(tick * 100 + tick % 7), &mut out);
            out.truncate(0);
        }
        assert_eq!(line.sent, 24 * (3_600_000 + 36_000 % 7 - 140));
    }

    #[test]
    fn sound_after_silence_starts_at_its_time_and_continues_without_a_gap() {
        let mut line = Timeline::new(24000, 140);
        let mut out = Vec::new();
        line.silence(ms(1000), &mut out);
        assert_eq!(out.len(), 24 * 860);
        line.sound(ms(1060), &[1; 960], true, &mut out);
        assert_eq!(out.len(), 24 * 1060);
        // The next chunk is 9 ms late: no zeros are inserted.
        line.sound(ms(1109), &[2; 960], false, &mut out);
        line.silence(ms(1110), &mut out);
        assert_eq!(out.len(), 24 * 1100);
        assert!(out[24 * 860..24 * 1020].iter().all(|&s| s == 0));
        assert_eq!(out[24 * 1020], 1);
        assert_eq!(out[24 * 1060], 2);
    }

    #[test]
    fn burst_after_a_stall_does_not_delay_the_stream() {
        let mut line = Timeline::new(24000, 140);
        let mut out = Vec::new();
        line.silence(ms(2000), &mut out);
        for _ in 0..50 {
            line.sound(ms(2000), &[1; 960], false, &mut out);
        }
        assert!(line.sent <= 24 * (2000 + 140));
    }
}
