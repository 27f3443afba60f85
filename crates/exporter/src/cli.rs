//! The command-line options of `palabre-exporter`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Parser};

/// Name of the program in its log lines and error messages.
pub(crate) const PROGRAM: &str = "palabre-exporter";

const AFTER: &str = "\
Examples:
  palabre-exporter
      Serve http://127.0.0.1:9190/metrics to a Prometheus server on this machine
  palabre-exporter --listen [::]:9190
      Serve other machines too; there is no password, so restrict access with a firewall
  palabre-exporter --print >/var/lib/node_exporter/palabre.prom
      Write the metrics once, for the textfile collector of node_exporter

Exit status: 0 success, 2 usage error, 111 system error.";

/// Serves metrics of a Palabre server to Prometheus, by HTTP
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER)]
pub(crate) struct Args {
    /// Address and port of the HTTP server
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9190")]
    pub(crate) listen: SocketAddr,

    /// Runtime directory with the rooms and the control socket
    #[arg(long, value_name = "DIR", default_value = "/run/palabre")]
    pub(crate) run: PathBuf,

    /// Print the metrics once and exit
    #[arg(long)]
    pub(crate) print: bool,

    /// Log more: -v adds lines for debugging, -vv also those of libraries
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
