//! `palabre-signer`: has the private key of the TLS certificate, and signs the handshakes of the listeners.
//!
//! The signer has one thread, no network and no data of participants. The supervisor passes it one connection for each listener. A listener
//! gets the certificate chain from the signer, and a signature for each handshake. The signer signs only what a TLS server signs. It reads
//! the certificate and the key again when they have changed, and always uses a certificate together with its own key.
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
