//! Recorded speech for the tests, at any sample rate.

#![allow(clippy::unwrap_used)]

use crate::convert::Converter;
use crate::wav::Head;

const ENGLISH: &[u8] = include_bytes!("../../e2e/speech/english-man-16000Hz-mono.wav");
const FRENCH: &[u8] = include_bytes!("../../e2e/speech/french-woman-16000Hz-mono.wav");

pub(crate) fn english(rate_hz: u32) -> Vec<i16> {
    at(ENGLISH, rate_hz)
}

pub(crate) fn french(rate_hz: u32) -> Vec<i16> {
    at(FRENCH, rate_hz)
}

/// Returns the number of property test cases: the environment variable `PALABRE_CASES`, or `by_default`.
pub(crate) fn cases(by_default: u32) -> u32 {
    std::env::var("PALABRE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(by_default)
}

fn at(mut wav: &'static [u8], rate_hz: u32) -> Vec<i16> {
    let head = Head::read(&mut wav).unwrap();
    let mut converter = Converter::new(&head, rate_hz).unwrap();
    let mut samples = Vec::new();
    converter.push(wav, &mut samples);
    converter.finish(&mut samples);
    samples
}
