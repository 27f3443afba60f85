//! Parses configuration values, for serde's `deserialize_with`. The errors name the allowed values.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use palabre_room::{Name, Rate, display_name_is_valid};
use serde::{Deserialize, Deserializer, Serializer, de::Error};
use toml::Value;

use crate::Moment;

/// Allowed gains in dB, as in a participant's `gain` file.
const GAIN_DB: RangeInclusive<f32> = -60.0..=20.0;

/// Parses a value that a file contains as a string.
pub(crate) fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(from: D) -> Result<T, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

/// Parses an optional value that a file contains as a string.
pub(crate) fn some_parsed<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(from: D) -> Result<Option<T>, D::Error> {
    parsed(from).map(Some)
}

/// Writes a value as a string.
pub(crate) fn shown<S: Serializer>(value: &impl ToString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&value.to_string())
}

pub(crate) fn display_name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(from)?;
    if display_name_is_valid(&text) {
        return Ok(Some(text));
    }
    Err(D::Error::custom(
        "the display name is invalid; use 1 to 64 characters, not only spaces, and no control characters",
    ))
}

pub(crate) fn gain_db<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f32>, D::Error> {
    let value = Value::deserialize(from)?;
    let gain = value.as_float().or_else(|| value.as_integer().map(|db| db as f64)).map(|db| db as f32);
    match gain.filter(|db| GAIN_DB.contains(db)) {
        Some(gain) => Ok(Some(gain)),
        None => Err(D::Error::custom(format!("{value} is not a gain; use -60 to 20 dB"))),
    }
}

pub(crate) fn port<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
    integer(from, "a port; use 1 to 65535, or 0 for any free port")
}

/// Parses a sample rate in Hz.
pub(crate) fn rate_hz<'de, D: Deserializer<'de>>(from: D) -> Result<Rate, D::Error> {
    const RATES: &str = "a sample rate; use 16000, 24000 or 48000";
    let hz: u32 = integer(from, RATES)?;
    Rate::try_from(hz).map_err(|_| D::Error::custom(format!("{hz} is not {RATES}")))
}

/// Parses a chunk length: whole frames of 20 ms, from 20 to 1000 ms.
pub(crate) fn chunk_ms<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    const LENGTHS: &str = "a chunk length in ms; use a multiple of 20 from 20 to 1000";
    let ms = integer(from, LENGTHS)?;
    if (20..=1000).contains(&ms) && ms % palabre_room::FRAME_MS == 0 {
        return Ok(ms);
    }
    Err(D::Error::custom(format!("{ms} is not {LENGTHS}")))
}

/// Parses the length of the sound in a message to other machines: whole frames of 20 ms, from 20 to 100 ms.
pub(crate) fn message_ms<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    const LENGTHS: &str =
        "a length in ms for the sound in a message to other machines; use a multiple of 20 from 20 to 100";
    let ms = integer(from, LENGTHS)?;
    if (20..=100).contains(&ms) && ms % palabre_room::FRAME_MS == 0 {
        return Ok(ms);
    }
    Err(D::Error::custom(format!("{ms} is not {LENGTHS}")))
}

/// Parses the bit rate of Opus between machines, from 16 to 256 kbit/s.
pub(crate) fn bridge_kbps<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    const RATES: &str = "a bit rate in kbit/s; use 16 to 256";
    within(from, 16..=256, RATES)
}

pub(crate) fn count<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    const LIMITS: &str = "a number of connections or streams; use 1 to 10000";
    within(from, 1..=10_000, LIMITS)
}

/// Parses an integer. The error contains the value, and `what` as the description of the allowed values.
/// Parses an integer of this range. `what` describes the range.
fn within<'de, D, T>(from: D, range: RangeInclusive<T>, what: &str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64> + PartialOrd + Display,
{
    let value = integer(from, what)?;
    if range.contains(&value) { Ok(value) } else { Err(D::Error::custom(format!("{value} is not {what}"))) }
}

fn integer<'de, D: Deserializer<'de>, T: TryFrom<i64>>(from: D, what: &str) -> Result<T, D::Error> {
    let value = Value::deserialize(from)?;
    let number = value.as_integer().and_then(|number| T::try_from(number).ok());
    // Otherwise "64" would be refused with a range that contains 64.
    let is_quoted = value.as_str().is_some_and(|text| text.parse::<i64>().is_ok());
    let hint = if is_quoted { ", without quotes" } else { "" };
    number.ok_or_else(|| D::Error::custom(format!("{value} is not {what}{hint}")))
}

/// Parses the host of links and certificates: a DNS name or an IP address.
pub(crate) fn host<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if is_host(&text) {
        return Ok(text);
    }
    Err(D::Error::custom("a host must be a DNS name (in ASCII) or an IP address, without port or brackets"))
}

/// Returns whether the text is a DNS name or an IP address.
pub(crate) fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || is_dns_name(text)
}

/// Returns whether the text is a DNS name. Browsers take a name whose last label is a number for an IPv4 address.
fn is_dns_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let letters = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        (1..=63).contains(&label.len()) && letters && !label.starts_with('-') && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253 && name.split('.').all(is_label) && !last.bytes().all(|b| b.is_ascii_digit())
}

/// Reads and writes a [`Name`] for serde's `with`, since the crate of [`Name`] doesn't use serde.
pub(crate) mod name {
    use super::{Deserializer, Name, Serializer};

    pub(crate) fn serialize<S: Serializer>(name: &Name, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(name.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Name, D::Error> {
        super::parsed(from)
    }
}

/// Reads and writes a [`Moment`] for serde's `with`. A file contains TOML's datetime type or a string.
pub(crate) mod moment {
    use super::{Deserialize, Deserializer, Error, Moment, Serializer, Value};
    use serde::Serialize;

    #[expect(
        clippy::ref_option,
        reason = "serde calls this function with a reference to the whole field, so the parameter has this type"
    )]
    pub(crate) fn serialize<S: Serializer>(moment: &Option<Moment>, to: S) -> Result<S::Ok, S::Error> {
        let datetime = moment.and_then(|moment| moment.to_string().parse::<toml::value::Datetime>().ok());
        datetime.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Moment>, D::Error> {
        let text = match Value::deserialize(from)? {
            Value::Datetime(datetime) => datetime.to_string(),
            Value::String(text) => text,
            other => other.to_string(),
        };
        text.parse().map(Some).map_err(D::Error::custom)
    }
}
