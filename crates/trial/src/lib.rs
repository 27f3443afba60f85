//! `palabre try`: a complete room in the foreground, without configuration and without root.
//!
//! [`run`] prepares a directory (a temporary one or `--dir`), writes a configuration into it, and starts the real mixer and supervisor.
//! When a signal arrives, it ends both daemons and cleans up. `palabre swarm` starts its [`Room`] in the same way.
//!
//! With `--machines`, `machines` runs several such rooms, and connects them with bridges and a NATS server.
//!
//! The melody and the echo (`bots`) are participants without a listener. Threads of this process write their sound.

mod addresses;
mod bots;
mod browser;
mod daemon;
mod log_file;
mod machines;
mod messages;
mod name_file;
mod options;
mod room;
mod roster;
mod trial_dir;

use std::time::Instant;

use palabre_host::exit::Failure;
use palabre_host::signals::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, Signals};

pub use options::Options;
pub use room::Room;

use bots::Bots;
use browser::Browser;

/// Runs a room until SIGINT, SIGTERM or SIGHUP arrives. The caller must have set up the log.
///
/// `verbosity` is the number of `-v`; from 1 on, all log lines of the daemons are shown. `qr` returns a link as a QR code for the terminal.
///
/// # Errors
/// Returns an error if the trial can't be started. Later failures are logged and retried.
pub fn run(options: &Options, verbosity: u8, qr: fn(&str) -> Option<String>) -> Result<(), Failure> {
    // Handle signals from now on, so that this process can clean up before it ends.
    let mut signals = Signals::new(&[SIGINT, SIGTERM, SIGHUP, SIGCHLD]).map_err(Failure::system)?;
    if let Some(count) = options.machines {
        return machines::run(options, usize::from(count), verbosity, &mut signals);
    }
    let room = Room::start(options, "", verbosity)?;
    let bots = (!options.no_voices).then(|| room.start_bots()).transpose()?;
    let browser = options.open.then(|| find_browser(&room)).flatten();
    messages::starting(room.addresses(), room.entries().len());
    let mut trial = Trial { browser, _bots: bots, room };
    let result = trial.watch(&mut signals, options, qr);
    messages::ending();
    // End the processes in this order: windows, bots, the supervisor with its listeners, the mixer. Afterwards their directory is removed.
    drop(trial);
    result
}

/// A running trial. The fields are dropped in the order of their declaration, which ends the processes in the right order.
struct Trial {
    browser: Option<Browser>,
    _bots: Option<Bots>,
    room: Room,
}

impl Trial {
    fn watch(
        &mut self,
        signals: &mut Signals,
        options: &Options,
        qr: fn(&str) -> Option<String>,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        let mut reported = false;
        loop {
            let restart = self.room.supervise();
            if let Some(browser) = &mut self.browser {
                browser.reap();
            }
            if self.room.is_starting() {
                self.show_ready(options, qr);
                if !reported && began.elapsed() > room::READY_TIMEOUT {
                    reported = true;
                    self.room.report_late();
                }
            }
            let status = self.room.is_starting().then(|| Instant::now() + self.room.status_interval());
            let wake = restart.into_iter().chain(status).min();
            let timeout = wake.map(|wake| wake.saturating_duration_since(Instant::now()));
            match signals.wait(timeout).map_err(Failure::system)? {
                Some(SIGCHLD) | None => {}
                Some(_) => {
                    self.room.silence();
                    return Ok(());
                }
            }
        }
    }

    /// Prints the link of each listener that has become ready. After the last one, writes the file `links`.
    fn show_ready(&mut self, options: &Options, qr: fn(&str) -> Option<String>) {
        let ready = self.room.newly_ready();
        let width = self.room.entries().iter().map(|entry| entry.display_name.chars().count()).max().unwrap_or(0);
        for (index, link) in ready {
            let entry = &self.room.entries()[index];
            messages::link(entry, width, &link, options.lan.then(|| qr(&link)).flatten());
            if let Some(browser) = &mut self.browser
                && let Err(error) = browser.open(entry.name.as_str(), &link)
            {
                log::warn!("unable to open a browser window for '{}': {error}; open the link yourself", entry.name);
            }
        }
        if !self.room.is_starting() {
            self.room.write_links();
            messages::ready(self.room.directory(), options, self.browser.is_some());
        }
    }
}

fn find_browser(room: &Room) -> Option<Browser> {
    let browser = Browser::find(&room.directory().browser(), room.pin());
    if browser.is_none() {
        log::warn!("unable to find 'chromium' or 'google-chrome' in PATH; install one, or open the links yourself");
    }
    browser
}
