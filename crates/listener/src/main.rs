//! `palabre-listener`: the HTTPS server of one participant.
//!
//! The listener serves the page and the injected stream to the participant's browsers and receives their sound. It copies sound between
//! TLS connections and the participant's two pipes. It mixes nothing and opens no other participant's pipes. Each connection has a
//! thread with blocking I/O. Calls go from `server` to `routes`, and from there to `stream`, `program_stream` or `speak`.

mod access;
mod api;
mod auth;
mod certificate;
mod chunker;
mod cli;
mod codec;
mod connection;
mod ear;
mod enter;
mod handover;
mod hello;
mod hsts;
mod http;
mod marks;
mod me;
mod meeting;
mod mic;
mod opus_in;
mod other_machines;
mod page;
mod page_id;
mod paste;
mod pending;
mod people;
mod program_stream;
#[cfg(test)]
mod protocol_doc;
mod proxy_header;
mod record;
mod room_view;
mod routes;
mod sandbox;
mod server;
mod setup;
mod signer;
mod slots;
mod source;
mod spare;
mod speak;
mod state;
mod status;
mod stream;
mod timeline;
mod tls;
mod traffic;
mod waker;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    palabre_host::exit::main("palabre-listener", || setup::run(&args))
}
