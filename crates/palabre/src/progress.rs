//! A progress bar on standard error, shown only if standard error is a terminal.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Time after the start of a command at which the progress bar appears.
const SHOWN_AFTER: Duration = Duration::from_millis(500);
/// Minimum interval between two drawings of the progress bar.
const PERIOD: Duration = Duration::from_millis(100);
/// Width of the progress bar, in characters.
const CELLS: usize = 30;

/// A progress bar. Dropping this erases the bar from the terminal.
pub(crate) struct Progress {
    label: String,
    /// Time of the next drawing; `None` if standard error is not a terminal.
    next: Option<Instant>,
    drawn: bool,
}

impl Progress {
    pub(crate) fn new(label: impl Into<String>) -> Self {
        let next = io::stderr().is_terminal().then(|| Instant::now() + SHOWN_AFTER);
        Self { label: label.into(), next, drawn: false }
    }

    /// Draws the bar, unless the last drawing was too recent. `done` is a fraction from 0 to 1, or `None` if the total is unknown.
    pub(crate) fn show(&mut self, done: Option<f64>, note: impl Display) {
        let now = Instant::now();
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = Some(now + PERIOD);
        self.drawn = true;
        let _ = write!(io::stderr(), "\r\x1b[K{}", line(&self.label, done, note));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(label: &str, done: Option<f64>, note: impl Display) -> String {
    let Some(done) = done else { return format!("{label}  {note}") };
    let done = done.clamp(0.0, 1.0);
    let full = (done * CELLS as f64) as usize;
    format!("{label}  [{}{}] {:3.0} %  {note}", "#".repeat(full), ".".repeat(CELLS - full), done * 100.0)
}

/// Formats a duration as `M:SS` or `H:MM:SS`.
pub(crate) fn clock(time: Duration) -> String {
    let (seconds, minutes, hours) = (time.as_secs() % 60, time.as_secs() / 60 % 60, time.as_secs() / 3600);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_bar_percentage_and_note() {
        assert_eq!(line("mixing", Some(0.5), "0:12 left"), "mixing  [###############...............]  50 %  0:12 left");
        assert_eq!(line("mixing", Some(7.0), ""), "mixing  [##############################] 100 %  ");
        assert_eq!(line("playing '-'", None, "0:12"), "playing '-'  0:12");
    }

    #[test]
    fn time_is_formatted_as_a_clock() {
        assert_eq!([0, 71, 3671].map(|s| clock(Duration::from_secs(s))), ["0:00", "1:11", "1:01:11"]);
    }
}
