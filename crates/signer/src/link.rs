//! The connection to the supervisor.

use std::path::Path;
use std::time::Duration;

use palabre_config::control::{Request, check_connection, request_line};
use palabre_host::packet::{self, Packet};

/// Timeout for the supervisor's answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum length of the answer, in bytes.
const MAX_ANSWER_BYTES: usize = 4096;

/// Connects to the supervisor of the runtime directory `run`. Returns an error message if the supervisor doesn't accept this process as the signer.
pub(crate) fn connect(run: &Path) -> Result<Packet, String> {
    let path = run.join("control.sock");
    let asked = packet::ask(&path, &request_line(&Request::Sign), MAX_ANSWER_BYTES, TIMEOUT);
    let (answer, connection) = asked.map_err(|error| format!("'{}': {error}", path.display()))?;
    check_connection(&answer, connection.is_some())?;
    connection.map(Packet::from).ok_or_else(|| "the answer carries no connection".to_owned())
}
