//! The connection to the supervisor.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use palabre_config::control::{Request, Response, WITH_CONNECTION, parse_response, write_request};
use palabre_host::packet::{self, Packet};
use palabre_host::wait;

/// Timeout for the supervisor's answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum length of the answer, in bytes.
const MAX_ANSWER_BYTES: usize = 4096;

/// Connects to the supervisor of the runtime directory `run`. Returns an error message if the supervisor doesn't accept this process as the signer.
pub(crate) fn connect(run: &Path) -> Result<Packet, String> {
    let path = run.join("control.sock");
    let stream = UnixStream::connect(&path).map_err(|error| format!("'{}': {error}", path.display()))?;
    write_request(&stream, &Request::Sign, TIMEOUT).map_err(|error| error.to_string())?;
    answer(&stream).map_err(|error| error.to_string())
}

fn answer(stream: &UnixStream) -> io::Result<Packet> {
    if !wait::is_readable(stream, TIMEOUT)? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut buffer = [0; MAX_ANSWER_BYTES];
    let (length, fd) = packet::recv_with(stream, &mut buffer)?;
    match (buffer.get(..length).unwrap_or_default(), fd) {
        ([WITH_CONNECTION, ..], Some(fd)) => Ok(fd.into()),
        (line, _) => Err(io::Error::other(match parse_response(line) {
            Ok(Response::Refused { why }) => why,
            Ok(other) => format!("the supervisor sent an unexpected answer, {other:?}; use programs of one release"),
            Err(error) => error.to_string(),
        })),
    }
}
