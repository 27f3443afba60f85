//! A point in time with a resolution of one second: `2026-12-31T18:00:00Z` (RFC 3339).

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(OffsetDateTime);

/// Error: the text is not a point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a time with a zone, such as 2026-12-31T18:00:00Z", .0.escape_default())]
pub struct NotAMoment(String);

impl Moment {
    /// Returns the moment `time` after `now`, in whole seconds; `None` after the year 9999.
    #[must_use]
    pub fn after(now: SystemTime, time: Duration) -> Option<Self> {
        let now = OffsetDateTime::from(now).replace_nanosecond(0).ok()?;
        now.checked_add(time::Duration::try_from(time).ok()?).map(Self)
    }

    /// Returns the moment one second later; `None` after the year 9999.
    pub(crate) fn one_second_later(self) -> Option<Self> {
        self.0.checked_add(time::Duration::SECOND).map(Self)
    }

    /// Returns the time from `now` to this moment; `None` if the moment has passed.
    #[must_use]
    pub fn left(self, now: SystemTime) -> Option<Duration> {
        Duration::try_from(self.0 - OffsetDateTime::from(now)).ok().filter(|left| !left.is_zero())
    }

    /// Returns the time from `now` to this moment in whole seconds: positive if the moment is in the future, negative if it has passed.
    #[must_use]
    pub fn seconds_from(self, now: SystemTime) -> i64 {
        (self.0 - OffsetDateTime::from(now)).whole_seconds()
    }

    /// Returns whether this moment has passed.
    #[must_use]
    pub fn has_passed(self, now: SystemTime) -> bool {
        self.left(now).is_none()
    }
}

impl FromStr for Moment {
    type Err = NotAMoment;

    fn from_str(text: &str) -> Result<Self, NotAMoment> {
        let parsed = OffsetDateTime::parse(text, &Rfc3339).ok().and_then(|time| time.replace_nanosecond(0).ok());
        parsed.map(Self).ok_or_else(|| NotAMoment(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn a_moment_is_parsed_and_formatted() {
        for text in ["2026-12-31T18:00:00Z", "1999-01-01T00:00:00+05:30"] {
            assert_eq!(text.parse::<Moment>().unwrap().to_string(), text);
        }
        // date -ud @86400 +%FT%TZ
        assert_eq!(Moment::after(UNIX_EPOCH, Duration::from_secs(86_400)).unwrap().to_string(), "1970-01-02T00:00:00Z");
    }

    #[test]
    fn the_time_left_ends_at_the_moment() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let moment = Moment::after(now, Duration::from_secs(60)).unwrap();
        assert_eq!(moment.left(now), Some(Duration::from_secs(60)));
        assert!(moment.has_passed(now + Duration::from_secs(60)) && moment.has_passed(now + Duration::from_secs(61)));
        assert_eq!(Moment::after(now, Duration::MAX), None);
    }

    #[test]
    fn a_time_without_a_zone_is_refused() {
        for bad in ["2026-12-31", "2026-12-31T18:00:00", "18:00", "", "tomorrow", "2026-02-30T00:00:00Z"] {
            assert!(bad.parse::<Moment>().is_err(), "{bad}");
        }
    }
}
