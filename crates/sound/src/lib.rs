//! Signal processing: WAV, Opus, resampling, the jitter buffer, levelling, mix-minus, the limiter and meters.
//!
//! Nearly everything here is a pure function or a state machine. Time is an argument (a [`core::time::Duration`] since any fixed
//! start of the caller's monotonic clock), so all of it can be tested without waiting. This crate opens no files or sockets
//! (some items in [`wav`] work on files that the caller has opened), and uses no clocks, threads or environment variables.
//!
//! Unless stated otherwise, a sample is a signed 16-bit integer, a frame is 20 ms of one channel, and a level is RMS in
//! dBFS, where a full-scale sine has −3.0.

pub mod adpcm;
pub mod convert;
pub mod gain;
pub mod jitter;
mod kernel;
pub mod level;
pub mod limit;
#[cfg(any(test, feature = "measure"))]
pub mod measure;
pub mod meter;
pub mod mix;
pub mod ogg;
pub mod opus;
mod sample;
pub mod wav;

pub use sample::Sample;

#[cfg(any(test, feature = "measure"))]
pub mod wav_examples;

#[cfg(test)]
mod speech;
