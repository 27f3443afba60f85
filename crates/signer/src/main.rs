//! `palabre-signer`: keeps the private key of the TLS certificate, and signs the handshakes of the listeners.
//!
//! The signer has one thread, uses no network and has no data of participants. The supervisor passes it one connection for each listener. A
//! listener gets the certificate chain from the signer, and a signature for each handshake. The signer signs only messages that a TLS server
//! signs. It reads the certificate and the key again when they have changed, and uses a certificate only together with its own key.
//!
//! ```text
//!                            ┌─ orders, reports ─▶ palabre-supervisor
//! cert.pem, key.pem ──▶ palabre-signer
//!                            └─ one connection each ─▶ palabre-listener
//! ```

mod cli;
mod client;
mod form;
mod link;
mod pair;
mod run;
mod server;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    palabre_host::exit::main(cli::PROGRAM, || run::run(&args))
}
