//! The connection to the supervisor.

use std::path::Path;

use palabre_config::control::{Request, check_connection, request_line};
use palabre_host::packet::{self, Packet};

/// Connects to the supervisor of the runtime directory `run`. Returns an error message if the supervisor doesn't accept this process as the signer.
pub(crate) fn connect(run: &Path) -> Result<Packet, String> {
    packet::request_connection(&run.join("control.sock"), &request_line(&Request::Sign), check_connection)
}
