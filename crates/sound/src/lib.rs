//! Sound as Palabre understands it: samples, frames, WAV, resampling, the jitter buffer, mix-minus and meters.
//!
//! Everything here is a pure function or a state machine. Time is an argument (a [`core::time::Duration`] since any fixed
//! start of the caller's own monotonic clock), so all of it can be tested without waiting. This crate knows nothing of
//! files, sockets, clocks, threads or the environment.
//!
//! A sample is a signed 16-bit integer unless said otherwise, a frame is 20 ms of one channel, and a level is in dBFS as
//! RMS, where a full-scale sine is at −3.0.

pub mod convert;
pub mod gain;
pub mod jitter;
mod kernel;
pub mod level;
pub mod limit;
pub mod measure;
pub mod meter;
pub mod mix;
pub mod wav;

#[cfg(test)]
mod speech;
