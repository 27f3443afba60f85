//! `palabre-listener`: the small HTTPS server of one participant.
//!
//! It serves the page, the injected stream and the microphone to the participant's browsers, and moves sound between TLS and the
//! participant's two pipes. It mixes nothing and opens no other participant's pipes. I/O blocks, in one thread per connection; the way from
//! a connection to the pipes is `server` → `routes` → `stream`, `wav_stream`, `speak`.

mod api;
mod auth;
mod chunker;
mod cli;
mod connection;
mod ear;
mod enter;
mod handover;
mod http;
mod marks;
mod me;
mod mic;
mod page;
#[cfg(test)]
mod protocol_doc;
mod record;
mod room_view;
mod routes;
mod server;
mod setup;
mod slots;
mod source;
mod speak;
mod state;
mod status;
mod stream;
mod tls;
mod tls_files;
mod traffic;
mod wav_stream;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    palabre_host::exit::main("palabre-listener", || setup::run(&args))
}
