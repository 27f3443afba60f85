//! `palabre-listener`: the mini HTTPS server of one participant.
//!
//! It serves the page, the injected stream and the microphone to one person's browsers, and moves their sound between TLS
//! and the participant's two pipes. It mixes nothing and knows no other participant. Blocking I/O, one thread for each
//! connection; the way from a connection to the pipes is `server` → `routes` → `stream`, `wav_stream`, `speak`.

mod auth;
mod chunker;
mod cli;
mod connection;
mod desk;
mod ear;
mod enter;
mod gate;
mod http;
mod marks;
mod mic;
mod page;
#[cfg(test)]
mod protocol_doc;
mod record;
mod renewal;
mod room_view;
mod routes;
mod server;
mod setup;
mod source;
mod speak;
mod state;
mod status;
mod stream;
mod tls;
mod traffic;
mod wav_stream;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    palabre_host::exit::main("palabre-listener", || setup::run(&args))
}
