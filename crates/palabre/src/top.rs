//! `palabre top`: shows the status continuously, with level meters.
//!
//! The status is requested every second, and the levels are read from the room directories ten times per second. The terminal is
//! restored at the end, also after a panic.

mod view;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

use palabre_config::control::Status;
use palabre_host::exit::Failure;
use palabre_host::signals::{SIGINT, SIGTERM, Signals};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::control;
use crate::snapshot::Snapshot;
use view::View;

/// Interval between two readings of the levels.
const LEVEL_INTERVAL: Duration = Duration::from_millis(100);
/// Interval between status requests.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Shows the status until the user quits or a signal arrives.
pub(crate) fn run(run: &Path) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        return Err(Failure::usage("unable to run 'top': standard output is not a terminal; use 'palabre status'"));
    }
    let status = control::status(run)?;
    // SIGHUP keeps its default action, which ends this process when the terminal is closed: crossterm's read of a closed terminal never
    // returns.
    let signals = Signals::new(&[SIGINT, SIGTERM]).map_err(Failure::system)?;
    // Enables raw mode and the alternate screen, and installs a panic hook that restores the terminal.
    let mut terminal = ratatui::try_init().map_err(|error| unable(&error))?;
    let shown = Top::new(run, status, signals).show(&mut terminal);
    let restored = ratatui::try_restore();
    shown.and(restored).map_err(|error| unable(&error))
}

fn unable(error: &io::Error) -> Failure {
    Failure::system(format!("unable to show the status in this terminal: {error}; use 'palabre status'"))
}

/// What `palabre top` shows: the last status, the levels and the scroll position.
struct Top<'a> {
    run: &'a Path,
    signals: Signals,
    status: Status,
    snapshot: Snapshot,
    requested: Instant,
    /// Why the last status request failed.
    error: Option<String>,
    /// Index of the first participant shown.
    first: usize,
}

impl<'a> Top<'a> {
    fn new(run: &'a Path, status: Status, signals: Signals) -> Self {
        let snapshot = Snapshot::now(run, &status);
        Self { run, signals, status, snapshot, requested: Instant::now(), error: None, first: 0 }
    }

    fn show(mut self, terminal: &mut DefaultTerminal) -> io::Result<()> {
        loop {
            let view = View {
                status: &self.status,
                snapshot: &self.snapshot,
                error: self.error.as_deref(),
                first: self.first,
            };
            terminal.draw(|frame| view.draw(frame))?;
            if self.signals.try_next().is_some() {
                return Ok(());
            }
            if event::poll(LEVEL_INTERVAL)? && self.handle(&event::read()?) {
                return Ok(());
            }
            self.update();
        }
    }

    /// Handles a key or another terminal event. Returns true if the user quits.
    fn handle(&mut self, event: &Event) -> bool {
        let Event::Key(key) = event else { return false };
        if key.kind == KeyEventKind::Release {
            return false;
        }
        let last = self.status.participants.len().saturating_sub(1);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Up | KeyCode::Char('k') => self.first = self.first.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.first = (self.first + 1).min(last),
            KeyCode::Home => self.first = 0,
            KeyCode::End => self.first = last,
            _ => {}
        }
        false
    }

    fn update(&mut self) {
        if self.requested.elapsed() < STATUS_INTERVAL {
            self.snapshot.read_levels(self.run, &self.status);
            return;
        }
        self.requested = Instant::now();
        match control::status(self.run) {
            Ok(status) => (self.status, self.error) = (status, None),
            Err(error) => self.error = Some(error.to_string()),
        }
        self.snapshot = Snapshot::now(self.run, &self.status);
    }
}
