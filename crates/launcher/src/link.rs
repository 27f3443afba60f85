//! The connection to the supervisor.

use std::path::Path;
use std::time::Duration;

use palabre_config::control::{Request, check_connection, request_line};
use palabre_host::exit::Failure;
use palabre_host::packet::{self, Packet};
use palabre_host::signals::{SIGHUP, SIGINT, SIGTERM, Signals};

use crate::renewal::Renewal;

/// First and longest interval between attempts to connect to the supervisor.
const INTERVALS: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

/// Connects to the supervisor of the runtime directory `run`, and tries again until it succeeds. Returns `None` if a signal ends the launcher.
pub(crate) fn connect(run: &Path, signals: &mut Signals, renewal: &Renewal) -> Result<Option<Packet>, Failure> {
    let (socket, request) = (run.join("control.sock"), request_line(&Request::Launch));
    let (mut interval, mut last_error) = (INTERVALS[0], None);
    loop {
        match packet::request_connection(&socket, &request, check_connection) {
            Ok(link) => return Ok(Some(link)),
            Err(error) if last_error.as_ref() != Some(&error) => {
                log::info!("unable to connect to the supervisor: {error}; trying again");
                last_error = Some(error);
            }
            Err(_) => {}
        }
        match signals.wait(Some(interval)).map_err(Failure::system)? {
            Some(SIGTERM | SIGINT) => return Ok(None),
            Some(SIGHUP) => renewal.replace(None),
            _ => {}
        }
        // The interval is about a sixth of the time since the first attempt, so a supervisor that starts soon waits only briefly.
        interval = (interval * 6 / 5).min(INTERVALS[1]);
    }
}
