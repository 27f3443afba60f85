//! Tests of the real `palabre-listener` over real TLS and real FIFOs. The tests act as browser, program, mixer, supervisor and attacker.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod client;
mod crowd;
mod desk;
mod handover;
mod hostile;
mod http;
mod idle;
mod leave;
mod machines;
mod meeting;
mod origins;
mod rig;
mod source;
mod speak;
mod speak_opus;
mod speak_ws;
mod stream;
mod stream_opus;
mod stream_wav;
