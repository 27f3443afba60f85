//! Measures how much later a message is than the fastest message of the last minute. The clocks of the two machines may differ.

use std::collections::VecDeque;
use std::time::Duration;

/// Length of the window over which the minimum delay is taken. In a longer window, the drift of the clocks would count as delay.
const WINDOW: Duration = Duration::from_secs(60);
/// Time after the first message during which the delay is unknown. Messages that waited while this process was stopped arrive at once, so their
/// delays are wrong.
const SETTLE: Duration = Duration::from_millis(300);
/// Length of a part of the window. Of each part, only the minimum delay is stored.
const PART: Duration = Duration::from_secs(5);

/// The delays of one sender: the local time of arrival minus the sender's time, in µs.
#[derive(Debug, Default)]
pub(crate) struct Delay {
    first: Option<Duration>,
    /// Start of each part of the window, with the minimum of the part.
    parts: VecDeque<(Duration, i128)>,
}

impl Delay {
    /// Adds a message that was sent at `sent_us` of the sender's clock. Returns how much longer it took than the fastest message of the last minute;
    /// `None` while this is unknown.
    pub(crate) fn measure(&mut self, now: Duration, sent_us: u64) -> Option<Duration> {
        let delay = now.as_micros().cast_signed() - i128::from(sent_us);
        match self.parts.back_mut() {
            Some((start, least)) if now < *start + PART => *least = delay.min(*least),
            _ => self.parts.push_back((now, delay)),
        }
        while self.parts.front().is_some_and(|(start, _)| *start + WINDOW + PART <= now) {
            self.parts.pop_front();
        }
        let first = *self.first.get_or_insert(now);
        let least = self.parts.iter().map(|(_, least)| *least).min()?;
        let more = u64::try_from(delay - least).map_or(Duration::MAX, Duration::from_micros);
        (now >= first + SETTLE).then_some(more)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn delay_is_relative_to_the_fastest_message_whatever_the_clocks_show() {
        for sender_ms in [0, 1_000_000_000_000] {
            let mut delay = Delay::default();
            assert_eq!(delay.measure(ms(5_000), sender_ms * 1000), None);
            assert_eq!(delay.measure(ms(6_030), (sender_ms + 1_000) * 1000), Some(ms(30)));
            assert_eq!(delay.measure(ms(6_990), (sender_ms + 2_000) * 1000), Some(ms(0)));
            assert_eq!(delay.measure(ms(8_490), (sender_ms + 3_000) * 1000), Some(ms(500)));
        }
    }

    #[test]
    fn messages_that_arrive_at_once_say_nothing_about_an_unknown_sender() {
        let mut delay = Delay::default();
        for sent_ms in 0..250 {
            assert_eq!(delay.measure(ms(9_000) + Duration::from_micros(sent_ms), sent_ms * 20_000), None);
        }
        assert_eq!(delay.measure(ms(9_320), 249 * 20_000), Some(Duration::from_micros(319_751)));
    }

    #[test]
    fn clock_that_drifts_is_followed() {
        let mut delay = Delay::default();
        delay.measure(ms(0), 0);
        for minute in 1..20 {
            // In this test, the sender's clock is slower than the receiver's clock by 12 ms a minute.
            let more = delay.measure(ms(60_000 * minute), (60_000 - 12) * minute * 1000).unwrap();
            assert!(more <= ms(24), "{more:?}");
        }
    }
}
