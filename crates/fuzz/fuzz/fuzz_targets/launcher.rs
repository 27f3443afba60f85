//! See `palabre_fuzz::TARGETS`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| palabre_fuzz::run("launcher", input));
