//! Encodes the records of the injected stream. For their format see `docs/injected-stream.md`, section *GET /listen*.
//!
//! A record's data are in a `<b>` element, and a constant script follows. The script is constant because browsers keep every distinct
//! script text in memory, and because the policy can allow it by its hash.

use crate::spare;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use palabre_config::hex;
use palabre_sound::wav::{HEAD_BYTES, sized_head};
use sha2::{Digest as _, Sha256};

/// The `Content-Length` of the stream, which the stream never reaches: 10¹² bytes last 88 days at 131 kB/s.
pub(crate) const CONTENT_LENGTH: u64 = 1_000_000_000_000;

/// The script of the prologue. It defines `p`, which passes a record to the page and removes it from the document.
const PROLOGUE_SCRIPT: &str = "function p(){var s=document.currentScript,b=s.previousSibling,t=b.textContent;\
                               b.remove();s.remove();parent.palabre(self,t)}";

/// The script of every record, as in [`END`].
const RECORD_SCRIPT: &str = "p()";
/// Text before the data of a record.
const START: &str = "<b>";
/// Text after the data of a record.
const END: &str = "</b><script>p()</script>";
/// Number of bytes that are encoded at once: a multiple of 3, so that the text of a piece has no padding.
const PIECE_BYTES: usize = 3 * 1024;

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
    wav(seq, gap, HEAD_BYTES + samples.len() * 2, levels, |bytes| push_wav(bytes, rate_hz, samples))
}

/// Encodes a sound record as [`sound`] does, with the samples as ADPCM.
pub(crate) fn adpcm(seq: u64, gap: bool, rate_hz: u32, samples: &[i16], levels: &str) -> Vec<u8> {
    let adpcm = palabre_sound::adpcm::wav(rate_hz, samples);
    wav(seq, gap, adpcm.len(), levels, |bytes| push_base64(bytes, &adpcm))
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

/// Encodes a record with a WAV of `wav_bytes`, which `push` appends in base64.
fn wav(seq: u64, gap: bool, wav_bytes: usize, levels: &str, push: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = spare::bytes(wav_bytes.div_ceil(3) * 4 + levels.len() + 64);
    bytes.extend_from_slice(format!("{START}1,{seq},{},", u8::from(gap)).as_bytes());
    push(&mut bytes);
    bytes.push(b',');
    bytes.extend_from_slice(levels.as_bytes());
    bytes.extend_from_slice(END.as_bytes());
    bytes
}

/// Appends a WAV in base64. A long chunk needs no memory in addition to the record.
fn push_wav(out: &mut Vec<u8>, rate_hz: u32, samples: &[i16]) {
    let mut piece = [0; PIECE_BYTES];
    piece[..HEAD_BYTES].copy_from_slice(&sized_head(rate_hz, samples.len() as u64 * 2));
    let (mut start, mut left) = (HEAD_BYTES, samples);
    loop {
        let (now, rest) = left.split_at(left.len().min((PIECE_BYTES - start) / 2));
        for (bytes, sample) in piece[start..].as_chunks_mut::<2>().0.iter_mut().zip(now) {
            *bytes = sample.to_le_bytes();
        }
        push_base64(out, &piece[..start + now.len() * 2]);
        if rest.is_empty() {
            return;
        }
        (start, left) = (0, rest);
    }
}

/// Appends bytes in base64. Bytes may follow if the number of these bytes is a multiple of 3.
fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut text = [0; PIECE_BYTES / 3 * 4];
    for piece in bytes.chunks(PIECE_BYTES) {
        // The text of a piece always fits into the buffer, so no error occurs.
        let length = BASE64.encode_slice(piece, &mut text).unwrap_or_default();
        out.extend_from_slice(&text[..length]);
    }
}

fn wrap(text: &str) -> Vec<u8> {
    [START, text, END].concat().into_bytes()
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
    fn sound_of_any_length_is_a_complete_wav_in_base64() {
        let samples: Vec<i16> = (0..24_000).map(|at| (at * 7919 % 65_536 - 32_768) as i16).collect();
        for length in [0, 1, 2, 480, 1513, 1514, 1515, 1516, 3050, 3051, 24_000] {
            let samples = &samples[..length];
            let text = String::from_utf8(sound(9, false, 24_000, samples, "")).unwrap();
            let data = text.strip_prefix("<b>1,9,0,").unwrap().strip_suffix(",</b><script>p()</script>").unwrap();
            assert_eq!(decode(data), palabre_sound::wav::little(24_000, samples), "{length} samples");
        }
        let adpcm = String::from_utf8(adpcm(9, true, 24_000, &samples, "AAAA")).unwrap();
        let data = adpcm.strip_prefix("<b>1,9,1,").unwrap().strip_suffix(",AAAA</b><script>p()</script>").unwrap();
        assert_eq!(decode(data), palabre_sound::adpcm::wav(24_000, &samples));
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
