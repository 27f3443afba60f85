//! WAVs with their chunks in many orders, read in each way that the programs read WAVs.

#![allow(clippy::unwrap_used)]

use std::io::Write;

use super::{Head, Tail, samples_end};
use crate::convert::Converter;
use crate::wav_examples::wavs;

const RATE_HZ: u32 = 24_000;

fn samples() -> Vec<i16> {
    (0..1_001).map(|i| i * 7 - 3_000).collect()
}

#[test]
fn only_the_samples_of_a_stream_are_heard_whatever_chunks_it_has() {
    for (order, wav) in wavs(RATE_HZ, &samples()) {
        for piece in [1, 7, 4_096] {
            let mut stream = &wav[..];
            let mut converter = Converter::new(&Head::read(&mut stream).unwrap(), RATE_HZ).unwrap();
            let mut out = Vec::new();
            stream.chunks(piece).for_each(|piece| converter.push(piece, &mut out));
            converter.finish(&mut out);
            assert!(out == samples(), "{order} in pieces of {piece}: {} samples", out.len());
        }
    }
}

#[test]
fn the_end_of_the_samples_in_a_file_is_found_whatever_chunks_it_has() {
    for (order, wav) in wavs(RATE_HZ, &samples()) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&wav).unwrap();
        let mut rest = &wav[..];
        let head = Head::read(&mut rest).unwrap();
        let start = (wav.len() - rest.len()) as u64;
        assert_eq!(samples_end(&file, &head, start, wav.len() as u64).unwrap() - start, 2_002, "{order}");
    }
}

#[test]
fn only_the_samples_of_a_growing_file_are_heard_whatever_chunks_it_has() {
    for (order, wav) in wavs(RATE_HZ, &samples()) {
        for piece in [3, 500, 4_096] {
            let (mut file, mut tail, mut out) = (tempfile::tempfile().unwrap(), Tail::new(RATE_HZ), Vec::new());
            for piece in wav.chunks(piece) {
                file.write_all(piece).unwrap();
                tail.update(&file).unwrap();
                tail.read(&file, 2_000, &mut out).unwrap();
            }
            assert!(out == samples(), "{order} in pieces of {piece}: {} samples", out.len());
        }
    }
}
