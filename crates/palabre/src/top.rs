//! `palabre top`: the status live, with a meter for everybody's sound.
//!
//! The supervisor is asked once a second; levels are read ten times a second from the rooms, where the mixer writes them. The
//! terminal is given back as it was, however this ends.

mod view;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

use palabre_config::control::Status;
use palabre_host::exit::Failure;
use palabre_host::signals::{SIGHUP, SIGINT, SIGTERM, Signals};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::control;
use crate::status::Seen;
use view::View;

/// How often levels are shown.
const LOOK: Duration = Duration::from_millis(100);
/// How often everything else is.
const ASK: Duration = Duration::from_secs(1);

/// Shows it until somebody has seen enough.
///
/// # Errors
/// Standard output is no terminal (usage), there is no supervisor at the beginning (system), or the terminal fails (system).
pub fn run(run: &Path) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        return Err(Failure::usage("unable to show 'top': standard output is no terminal; use 'palabre status'"));
    }
    let status = control::status(run)?;
    let signals = Signals::new(&[SIGINT, SIGTERM, SIGHUP]).map_err(Failure::system)?;
    // Raw mode and the other screen; its panic hook gives the terminal back too.
    let mut terminal = ratatui::try_init().map_err(|error| unable(&error))?;
    let shown = Top::new(run, status, signals).show(&mut terminal);
    let restored = ratatui::try_restore();
    shown.and(restored).map_err(|error| unable(&error))
}

fn unable(error: &io::Error) -> Failure {
    Failure::system(format!("unable to use the terminal: {error}"))
}

/// What is shown.
struct Top<'a> {
    run: &'a Path,
    signals: Signals,
    status: Status,
    seen: Seen,
    asked: Instant,
    /// Why the supervisor doesn't answer now.
    trouble: Option<String>,
    scrolled: usize,
}

impl<'a> Top<'a> {
    fn new(run: &'a Path, status: Status, signals: Signals) -> Self {
        let seen = Seen::now(run, &status);
        Self { run, signals, status, seen, asked: Instant::now(), trouble: None, scrolled: 0 }
    }

    fn show(mut self, terminal: &mut DefaultTerminal) -> io::Result<()> {
        loop {
            let view =
                View { status: &self.status, seen: &self.seen, trouble: self.trouble.as_deref(), from: self.scrolled };
            terminal.draw(|frame| view.draw(frame))?;
            if self.signals.try_next().is_some() {
                return Ok(());
            }
            if event::poll(LOOK)? && self.is_over(&event::read()?) {
                return Ok(());
            }
            self.look();
        }
    }

    /// Takes a key; whether it ends this.
    fn is_over(&mut self, event: &Event) -> bool {
        let Event::Key(key) = event else { return false };
        if key.kind == KeyEventKind::Release {
            return false;
        }
        let last = self.status.participants.len().saturating_sub(1);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Up | KeyCode::Char('k') => self.scrolled = self.scrolled.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scrolled = (self.scrolled + 1).min(last),
            KeyCode::Home => self.scrolled = 0,
            KeyCode::End => self.scrolled = last,
            _ => {}
        }
        false
    }

    fn look(&mut self) {
        if self.asked.elapsed() < ASK {
            self.seen.hear(self.run, &self.status);
            return;
        }
        self.asked = Instant::now();
        match control::status(self.run) {
            Ok(status) => (self.status, self.trouble) = (status, None),
            Err(error) => self.trouble = Some(error.to_string()),
        }
        self.seen = Seen::now(self.run, &self.status);
    }
}
