//! The real `palabre-listener` over real TLS and real FIFOs, with these tests in the parts of browser, program, mixer,
//! supervisor and crook.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod client;
mod crowd;
mod desk;
mod hostile;
mod http;
mod leave;
mod rig;
mod source;
mod speak;
mod speak_ws;
mod stream;
mod stream_wav;
