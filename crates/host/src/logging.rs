//! The log: one line per event on standard error, or the journal if standard error is connected to it.
//!
//! A line is `palabre-listener[alice]: warning: text`. An error has no level before its text, which begins with `unable to`.
//! There are no timestamps, because journald and other loggers add them. Control characters are escaped, so that a text from outside, such
//! as the status of a child or the content of a file, can't forge another line.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::unistd::getppid;
use systemd_journal_logger::{JournalLog, connected_to_journal};

static SET_UP: AtomicBool = AtomicBool::new(false);

/// Sets up the log. A second call has no effect.
///
/// `verbosity` is the number of `-v` on the command line: 0 shows errors, warnings and info, 1 adds debug, 2 adds trace. In
/// the journal the identifier is `prog` or `prog@instance`, and the field `PALABRE_INSTANCE` contains the instance.
pub fn init(prog: &str, instance: Option<&str>, verbosity: u8) {
    let level = level(verbosity);
    if !(to_journal(prog, instance) || to_stderr(prog, instance, level)) {
        return;
    }
    log::set_max_level(level);
    SET_UP.store(true, Ordering::Relaxed);
}

/// Returns whether [`init`] has set up the log.
pub(crate) fn is_set_up() -> bool {
    SET_UP.load(Ordering::Relaxed)
}

/// Logs the error that ends this process.
///
/// journald finds the unit of a message's sender in `/proc`, so the last message of a process that has ended may have no unit, and
/// `journalctl --unit` doesn't show it. systemd has named the unit of standard error to journald. So the main process of a unit, whose
/// parent is process 1, writes its last error there, with a level as in sd-daemon(3).
pub(crate) fn last_error(text: &str) {
    if connected_to_journal() && getppid().as_raw() == 1 {
        let line = format!("<3>{}\n", escape(text.to_owned()));
        // Nothing can be done if the journal is gone.
        let _ = io::stderr().write_all(line.as_bytes());
    } else {
        log::error!("{text}");
    }
}

fn level(verbosity: u8) -> LevelFilter {
    match verbosity {
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    }
}

/// Sets up logging to the journal. Returns `false` if standard error is not connected to the journal: JOURNAL_STREAM of
/// systemd.exec(5).
fn to_journal(prog: &str, instance: Option<&str>) -> bool {
    if !connected_to_journal() {
        return false;
    }
    let Ok(journal) = JournalLog::empty() else {
        return false;
    };
    let journal = match instance {
        Some(instance) => {
            journal.with_syslog_identifier(format!("{prog}@{instance}")).add_extra_field("PALABRE_INSTANCE", instance)
        }
        None => journal.with_syslog_identifier(prog.to_owned()),
    };
    log::set_boxed_logger(Box::new(Escaped(journal))).is_ok()
}

fn to_stderr(prog: &str, instance: Option<&str>, level: LevelFilter) -> bool {
    let name = name(prog, instance);
    let logger = env_logger::Builder::new()
        .filter_level(level)
        .format(move |out, record| writeln!(out, "{name}: {}{}", word(record.level()), record.args()))
        .build();
    log::set_boxed_logger(Box::new(Escaped(logger))).is_ok()
}

/// A logger that escapes control characters in each text, and passes the text to another logger.
struct Escaped<L>(L);

impl<L: Log> Log for Escaped<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let text = escape(record.args().to_string());
        self.0.log(&record.to_builder().args(format_args!("{text}")).build());
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Escapes the characters that end a line, control a terminal, or change the order of the other characters.
fn escape(text: String) -> String {
    let is_unsafe = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(is_unsafe) {
        return text;
    }
    text.chars().map(|c| if is_unsafe(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

fn name(prog: &str, instance: Option<&str>) -> String {
    match instance {
        Some(instance) => format!("{prog}[{instance}]"),
        None => prog.to_owned(),
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "",
        Level::Warn => "warning: ",
        Level::Info => "info: ",
        Level::Debug => "debug: ",
        Level::Trace => "trace: ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_contains_program_and_instance() {
        assert_eq!(name("palabre-mixer", None), "palabre-mixer");
        assert_eq!(name("palabre-listener", Some("alice")), "palabre-listener[alice]");
    }

    #[test]
    fn text_with_control_characters_stays_one_line() {
        let forged = "exit: x\npalabre-listener[a]: info: connected\r\u{1b}[2J\u{202e}".to_owned();
        assert_eq!(escape(forged), r"exit: x\npalabre-listener[a]: info: connected\r\u{1b}[2J\u{202e}");
        assert_eq!(escape("L’été: 'é'".to_owned()), "L’été: 'é'");
        assert_eq!(escape("a\u{61c}\u{200e}\u{200f}\u{2028}".to_owned()), r"a\u{61c}\u{200e}\u{200f}\u{2028}");
    }

    #[test]
    fn each_v_adds_a_level() {
        assert_eq!(
            [0, 1, 2, 9].map(level),
            [LevelFilter::Info, LevelFilter::Debug, LevelFilter::Trace, LevelFilter::Trace]
        );
    }
}
