//! A bar on standard error for work that takes long; nothing where nobody looks at it.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// What is done by then needs no bar.
const SHOWN_AFTER: Duration = Duration::from_millis(500);
/// Between two drawings.
const PERIOD: Duration = Duration::from_millis(100);
const CELLS: usize = 30;

/// A line that says how far something is; it goes when this is dropped.
pub struct Progress {
    what: String,
    /// `None` where standard error is no terminal.
    next: Option<Instant>,
    drawn: bool,
}

impl Progress {
    /// For the work called `what`, which begins now.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        let next = io::stderr().is_terminal().then(|| Instant::now() + SHOWN_AFTER);
        Self { what: what.into(), next, drawn: false }
    }

    /// So much of it is done, from 0 to 1, if anybody can know.
    pub fn show(&mut self, done: Option<f64>, note: impl Display) {
        let now = Instant::now();
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        self.next = Some(now + PERIOD);
        self.drawn = true;
        let _ = write!(io::stderr(), "\r\x1b[K{}", line(&self.what, done, note));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(what: &str, done: Option<f64>, note: impl Display) -> String {
    let Some(done) = done else { return format!("{what}  {note}") };
    let done = done.clamp(0.0, 1.0);
    let full = (done * CELLS as f64) as usize;
    format!("{what}  [{}{}] {:3.0} %  {note}", "#".repeat(full), ".".repeat(CELLS - full), done * 100.0)
}

/// Minutes and seconds, hours where there are any.
#[must_use]
pub fn clock(time: Duration) -> String {
    let (seconds, minutes, hours) = (time.as_secs() % 60, time.as_secs() / 60 % 60, time.as_secs() / 3600);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_every_terminal() {
        assert_eq!(line("mixing", Some(0.5), "0:12 left"), "mixing  [###############...............]  50 %  0:12 left");
        assert_eq!(line("mixing", Some(7.0), ""), "mixing  [##############################] 100 %  ");
        assert_eq!(line("playing '-'", None, "0:12"), "playing '-'  0:12");
    }

    #[test]
    fn times_are_read_as_on_a_clock() {
        assert_eq!([0, 71, 3671].map(|s| clock(Duration::from_secs(s))), ["0:00", "1:11", "1:01:11"]);
    }
}
