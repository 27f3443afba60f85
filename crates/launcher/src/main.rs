//! `palabre-launcher`: starts the listeners with a user of their own.
//!
//! The supervisor has the participants' files, the secret of the cookies and the sockets of the ports. A listener gets only what belongs to its
//! participant. So a listener that an attacker has taken over can't read the rest, also on a kernel without Landlock, if its user differs from the
//! supervisor's. A process can't give its child another user without privileges. So this program, which has the listeners' user, starts them: the
//! supervisor sends it an order with the listener's descriptors.
//!
//! ```text
//! palabre-supervisor ── orders, descriptors ─▶ palabre-launcher ── starts ─▶ palabre-listener
//!         ▲                                          │
//!         └────────── process ids, exit statuses ────┘
//! ```

mod cli;
mod link;
mod renewal;
mod run;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    palabre_host::exit::main(cli::PROGRAM, || run::run(&args))
}
