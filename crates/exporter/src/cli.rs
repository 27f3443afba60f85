//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Parser};

/// The program's name in its messages.
pub const PROGRAM: &str = "palabre-exporter";

const AFTER: &str = "\
Examples:
  palabre-exporter
      http://127.0.0.1:9190/metrics, for a Prometheus on this machine
  palabre-exporter --listen [::]:9190
      for one on another machine; there is no password, so let the firewall pass nobody else
  palabre-exporter --print >/var/lib/node_exporter/palabre.prom
      once, without a port: for node_exporter's textfile collector

Exit status: 0 ended by SIGTERM, 2 usage, 111 system failure.";

/// Says to Prometheus how a Palabre is.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER)]
pub struct Args {
    /// Where to answer, by HTTP
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9190")]
    pub listen: SocketAddr,

    /// The directory of the control socket and the rooms
    #[arg(long, value_name = "DIR", default_value = "/run/palabre")]
    pub run: PathBuf,

    /// Print the metrics once, and end
    #[arg(long)]
    pub print: bool,

    /// Say more: -v for what happens, -vv for everything
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }
}
