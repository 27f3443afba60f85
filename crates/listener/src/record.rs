//! Encodes the records of the injected stream. For their format see `docs/injected-stream.md`, section *GET /listen*.
//!
//! A record's data are in a `<b>` element, and a constant script follows. The script is constant because browsers keep every distinct
//! script text in memory, and because the policy can allow it by its hash.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use palabre_config::hex;
use sha2::{Digest as _, Sha256};

/// The `Content-Length` of the stream, which the stream never reaches: 10¹² bytes last 88 days at 131 kB/s.
pub(crate) const CONTENT_LENGTH: u64 = 1_000_000_000_000;

/// The script of the prologue. It defines `p`, which passes a record to the page and removes it from the document.
const PROLOGUE_SCRIPT: &str = "function p(){var s=document.currentScript,b=s.previousSibling,t=b.textContent;\
                               b.remove();s.remove();parent.palabre(self,t)}";

/// The script of every record.
const RECORD_SCRIPT: &str = "p()";

/// Returns the HTML before the first record.
pub(crate) fn prologue() -> String {
    format!("<!doctype html><meta charset=utf-8><title>Palabre</title><script>{PROLOGUE_SCRIPT}</script>")
}

/// Returns the `Content-Security-Policy` of the stream, which allows only the two scripts, by their SHA-256.
pub(crate) fn content_security_policy() -> String {
    format!(
        "default-src 'none'; script-src 'sha256-{}' 'sha256-{}'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
        hash(PROLOGUE_SCRIPT),
        hash(RECORD_SCRIPT)
    )
}

/// Encodes a hello record. `me`: the JSON of `GET /me`.
pub(crate) fn hello(seq: u64, me: &str) -> Vec<u8> {
    wrap(&format!("0,{seq},{}", BASE64.encode(me)))
}

/// Encodes a sound record. `gap`: samples are missing before it. `levels`: marks in base64, empty if no level has changed.
pub(crate) fn sound(seq: u64, gap: bool, rate_hz: u32, samples: &[i16], levels: &str) -> Vec<u8> {
    wav(seq, gap, &palabre_sound::wav::little(rate_hz, samples), levels)
}

/// Encodes a sound record as [`sound`] does, with the samples as ADPCM.
pub(crate) fn adpcm(seq: u64, gap: bool, rate_hz: u32, samples: &[i16], levels: &str) -> Vec<u8> {
    wav(seq, gap, &palabre_sound::adpcm::wav(rate_hz, samples), levels)
}

/// Encodes an Opus record. `preroll`: number of packets at the beginning of the list whose output isn't heard. `packets`: a list of packets.
pub(crate) fn opus(seq: u64, (gap, preroll): (bool, usize), packets: &[u8], levels: &str) -> Vec<u8> {
    wrap(&format!("10,{seq},{},{preroll},{},{levels}", u8::from(gap), BASE64.encode(packets)))
}

/// Encodes a silence record. `levels`: marks in base64, empty if no level has changed. `end`: the last packets of the sound before the silence, for a
/// stream with Opus.
pub(crate) fn silence(seq: u64, levels: &str, end: Option<&[u8]>) -> Vec<u8> {
    match end {
        None => wrap(&format!("2,{seq},{levels}")),
        Some(end) => wrap(&format!("2,{seq},{levels},{}", BASE64.encode(end))),
    }
}

/// Encodes a room record. `people`: the JSON list of people in base64. `states`: marks in base64.
pub(crate) fn room(seq: u64, people: &str, states: &str) -> Vec<u8> {
    wrap(&format!("3,{seq},{people},{states},{}", tag(people)))
}

/// Returns the tag that identifies a list of people: 64 bits of the list's SHA-256. It is the same in every process.
pub(crate) fn tag(people: &str) -> String {
    hex::encode(&Sha256::digest(people)[..8])
}

/// Encodes a message record. `text`: the message's JSON in base64.
pub(crate) fn message(seq: u64, text: &str) -> Vec<u8> {
    wrap(&format!("4,{seq},{text}"))
}

/// Encodes a record of messages that were sent earlier. `json`: the messages.
pub(crate) fn messages(seq: u64, json: &str) -> Vec<u8> {
    wrap(&format!("7,{seq},{}", BASE64.encode(json)))
}

/// Encodes a states record. `marks`: the changed states, encoded as in [`crate::marks`].
pub(crate) fn states(seq: u64, marks: &str) -> Vec<u8> {
    wrap(&format!("6,{seq},{marks}"))
}

/// Encodes a moved record: another process answers new requests from now on. `last`: the stream ends with this record.
pub(crate) fn moved(seq: u64, last: bool) -> Vec<u8> {
    wrap(&format!("5,{seq},{}", u8::from(last)))
}

/// Encodes a removed record: the participant was removed from the room.
pub(crate) fn removed(seq: u64) -> Vec<u8> {
    wrap(&format!("8,{seq}"))
}

/// Encodes a microphone record. `is_used`: a page or a program has the participant's microphone.
pub(crate) fn microphone(seq: u64, is_used: bool) -> Vec<u8> {
    wrap(&format!("9,{seq},{}", u8::from(is_used)))
}

/// Returns JSON in base64.
pub(crate) fn encode(json: &str) -> String {
    BASE64.encode(json)
}

/// Returns bytes in base64.
pub(crate) fn encode_bytes(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) fn decode(text: &str) -> Vec<u8> {
    BASE64.decode(text).unwrap()
}

fn wav(seq: u64, gap: bool, wav: &[u8], levels: &str) -> Vec<u8> {
    let mut text = String::with_capacity(wav.len().div_ceil(3) * 4 + levels.len() + 32);
    text.push_str(&format!("1,{seq},{},", u8::from(gap)));
    BASE64.encode_string(wav, &mut text);
    text.push(',');
    text.push_str(levels);
    wrap(&text)
}

fn wrap(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 32);
    bytes.extend_from_slice(b"<b>");
    bytes.extend_from_slice(text.as_bytes());
    bytes.extend_from_slice(b"</b><script>");
    bytes.extend_from_slice(RECORD_SCRIPT.as_bytes());
    bytes.extend_from_slice(b"</script>");
    bytes
}

fn hash(script: &str) -> String {
    BASE64.encode(Sha256::digest(script))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol_doc::example;

    #[test]
    fn prologue_is_as_documented() {
        assert_eq!(prologue(), example("html prologue"));
    }

    #[test]
    fn silence_record_is_as_documented() {
        assert_eq!(silence(1_700_000_000_123, "", None), example("html record").as_bytes());
    }

    #[test]
    fn sound_record_is_as_documented() {
        assert_eq!(sound(1_700_000_000_163, true, 24000, &[1], ""), example("html sound").as_bytes());
    }

    #[test]
    fn records_with_opus_are_as_documented() {
        let mut list = Vec::new();
        for packet in [b"a", b"b", b"c", b"d"] {
            palabre_sound::opus::packets::push(&mut list, packet);
        }
        assert_eq!(opus(1_700_000_000_163, (false, 0), &list, ""), example("html opus").as_bytes());
        let end = silence(1_700_000_000_203, "", Some(&list[..3]));
        assert_eq!(end, example("html silence after Opus").as_bytes());
    }

    #[test]
    fn records_without_sound_are_as_documented() {
        assert_eq!(hello(1_700_000_000_100, example("json me")), example("html hello").as_bytes());
        let states = encode_bytes(&crate::protocol_doc::hex("hex states"));
        let people = encode(example("json room"));
        assert_eq!(room(1_700_000_000_101, &people, &states), example("html room").as_bytes());
        assert_eq!(moved(1_700_000_000_200, false), example("html moved").as_bytes());
        assert_eq!(removed(1_700_000_000_300), example("html removed").as_bytes());
        assert_eq!(microphone(1_700_000_000_400, false), example("html microphone").as_bytes());
    }

    #[test]
    fn policy_allows_only_the_two_scripts() {
        let policy = content_security_policy();
        assert_eq!(policy.matches("'sha256-").count(), 2);
        // The hash is the output of: printf 'p()' | openssl dgst -sha256 -binary | base64
        assert!(policy.contains("'sha256-qaAEuYCQWUNzO6MYI1sPGKThSJvYQFnEjU/4cSX4EfY='"));
        assert!(!policy.contains("unsafe-inline"));
    }

    #[test]
    fn record_contains_only_digits_and_base64() {
        let evil = encode("{\"people\":[{\"name\":\"x\",\"display\":\"</b><script>alert(1)</script>,\"}]}");
        let text = String::from_utf8(room(9, &evil, "//8A")).unwrap();
        let data = text.strip_prefix("<b>").unwrap().strip_suffix("</b><script>p()</script>").unwrap();
        assert!(data.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=,".contains(&b)));
        assert_eq!(data.matches(',').count(), 4);
    }
}
