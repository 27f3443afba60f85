//! Types and parsers of values on the command line.

use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use palabre_config::Moment;
use palabre_room::Gain;

/// Default of `--config`.
pub(crate) const CONFIG: &str = "/etc/palabre";
/// Default of `--run`.
pub(crate) const RUN: &str = "/run/palabre";

/// A command-line value: `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// A command-line value: when an access key expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    Never,
    At(Moment),
    /// The end of the given duration, which begins when the command line is parsed.
    After(Moment),
}

impl Expiry {
    /// Returns the time; `None` means never.
    pub(crate) fn moment(self) -> Option<Moment> {
        match self {
            Self::Never => None,
            Self::At(moment) | Self::After(moment) => Some(moment),
        }
    }

    /// Returns an error if the time has passed.
    pub(crate) fn check(self) -> Result<(), String> {
        match self.moment().filter(|moment| moment.has_passed(SystemTime::now())) {
            Some(moment) => Err(format!("{moment} has passed; use a time in the future")),
            None => Ok(()),
        }
    }
}

/// Parses `never`, or a time in the future in a format of [`any_expiry`].
pub(super) fn expiry(text: &str) -> Result<Expiry, String> {
    let expiry = any_expiry(text)?;
    expiry.check().map(|()| expiry)
}

/// Parses `never`, a time such as `2026-12-31T18:00:00Z`, which may have passed, or a duration such as `7d`, which is added to the current time.
pub(crate) fn any_expiry(text: &str) -> Result<Expiry, String> {
    if text == "never" {
        return Ok(Expiry::Never);
    }
    let unit = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let seconds = match unit {
        "min" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        "w" => 7 * 24 * 60 * 60,
        _ => {
            return text
                .parse()
                .map(Expiry::At)
                .map_err(|_| "use 30min, 12h, 7d, 2w, never, or a time like 2026-12-31T18:00:00Z".to_owned());
        }
    };
    let count: Option<u64> = text.strip_suffix(unit).and_then(|count| count.parse().ok());
    let time = count.and_then(|count| count.checked_mul(seconds)).map(Duration::from_secs);
    let moment = time.and_then(|time| Moment::after(SystemTime::now(), time));
    moment
        .map(Expiry::After)
        .ok_or_else(|| "use 30min, 12h, 7d or 2w; the link must expire before the year 10000".to_owned())
}

/// Parses a gain in decibels; `mute` is refused.
pub(super) fn decibels(text: &str) -> Result<Gain, String> {
    match text.parse() {
        Ok(gain) if gain != Gain::Mute => Ok(gain),
        _ => Err("a gain is a number of decibels from -60 to 20; to mute a participant, use 'palabre mute'".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_in_the_future_or_never() {
        assert_eq!(expiry("never"), Ok(Expiry::Never));
        assert!(expiry("1min").is_ok() && expiry("2999-12-31T18:00:00Z").is_ok());
        for past in ["0min", "0d", "2026-01-01T00:00:00Z", "1970-01-01T00:00:00Z"] {
            assert!(expiry(past).is_err_and(|error| error.ends_with("has passed; use a time in the future")), "{past}");
        }
    }

    #[test]
    fn expiry_is_a_time_or_a_duration() {
        assert_eq!(any_expiry("2026-12-31T18:00:00Z"), Ok(Expiry::At("2026-12-31T18:00:00Z".parse().unwrap())));
        let (now, week) = (SystemTime::now(), Duration::from_secs(7 * 24 * 60 * 60));
        for text in ["1w", "7d", "168h", "10080min"] {
            let Ok(Expiry::After(moment)) = any_expiry(text) else { panic!("{text}") };
            let left = moment.left(now);
            assert!(left.is_some_and(|left| left <= week + Duration::from_secs(60) && left > week / 2), "{text}");
        }
        for bad in ["", "d", "7", "7 d", "-1d", "7days", "99999999999999999999d", "999999999d", "2026-12-31"] {
            assert!(any_expiry(bad).is_err(), "{bad}");
        }
    }
}
