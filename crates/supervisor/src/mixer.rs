//! Watches the mixer: a thread notices when it ends or is stopped, and when it runs again.
//!
//! The thread keeps a connection to the mixer's restart socket open, which ends with the mixer. The thread sends nothing, so it doesn't
//! wake the mixer. A process that is stopped keeps its connections, so the thread reads proc_pid_stat(5) too.

use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use palabre_config::control::MixerState;
use palabre_host::{restart, usage};
use palabre_room::MIXER_USER;

use crate::event::{self, Event};

/// Interval between checks whether the mixer is stopped. Pages must show this within 3 s.
const INTERVAL: Duration = Duration::from_secs(2);
/// Interval between attempts to connect while no mixer runs. A mixer that is restarted within this time isn't reported as missing.
const MISSING_INTERVAL: Duration = Duration::from_millis(500);

/// Starts the thread that sends an event for each change of the mixer's state.
pub(crate) fn watch(socket: PathBuf, events: SyncSender<Event>) -> io::Result<()> {
    event::named("mixer", move || {
        let mut last = None;
        let mut tell = |state| {
            let is_new = last.replace(state) != Some(state);
            !is_new || events.send(Event::Mixer(state)).is_ok()
        };
        while follow(&socket, &mut tell) {}
    })
}

/// Follows the mixer until its connection ends. Returns false when `tell` returns false.
fn follow(socket: &Path, tell: &mut impl FnMut(MixerState) -> bool) -> bool {
    let again = |_| {
        thread::sleep(MISSING_INTERVAL);
        restart::connect(socket, MIXER_USER)
    };
    let Ok((connection, pid)) = restart::connect(socket, MIXER_USER).or_else(again) else {
        return tell(MixerState::Missing);
    };
    let begun = Instant::now();
    loop {
        let state = if usage::is_stopped(pid) { MixerState::Stopped } else { MixerState::Running };
        if !tell(state) {
            return false;
        }
        if has_ended(&connection) {
            // Connect again at once, unless the mixer closes each connection.
            thread::sleep(MISSING_INTERVAL.saturating_sub(begun.elapsed()));
            return true;
        }
    }
}

/// Waits for the end of the connection, at most for [`INTERVAL`].
fn has_ended(mut connection: &UnixStream) -> bool {
    let waited = connection.set_read_timeout(Some(INTERVAL)).and_then(|()| connection.read(&mut [0]));
    !waited.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted))
}
