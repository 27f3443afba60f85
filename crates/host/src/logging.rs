//! The log: one line an event on standard error, or the journal where it reads our standard error.
//!
//! A line is `palabre-listener[alice]: warning: text`. An error has no word before its text (its text begins with
//! `unable to`). There are no timestamps: who keeps the lines, journald or another, knows when they came.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use log::{Level, LevelFilter};
use systemd_journal_logger::{JournalLog, connected_to_journal};

static SET_UP: AtomicBool = AtomicBool::new(false);

/// Sets up the log for the rest of the process's life. A second call changes nothing.
///
/// `verbosity` counts the `-v` of the command line: 0 shows errors, warnings and what an operator wants to know
/// (info), 1 adds debug, 2 trace. In the journal the identifier is `prog` or `prog@instance`, and an instance stands
/// in the field `PALABRE_INSTANCE` too.
pub fn init(prog: &str, instance: Option<&str>, verbosity: u8) {
    let level = level(verbosity);
    if !(to_journal(prog, instance) || to_stderr(prog, instance, level)) {
        return;
    }
    log::set_max_level(level);
    SET_UP.store(true, Ordering::Relaxed);
}

/// Whether [`init`] has been called, so that `log::error!` reaches somebody.
#[must_use]
pub fn is_set_up() -> bool {
    SET_UP.load(Ordering::Relaxed)
}

fn level(verbosity: u8) -> LevelFilter {
    match verbosity {
        0 => LevelFilter::Info,
        1 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    }
}

/// False where journald doesn't read our standard error: JOURNAL_STREAM of systemd.exec(5).
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
    journal.install().is_ok()
}

fn to_stderr(prog: &str, instance: Option<&str>, level: LevelFilter) -> bool {
    let name = name(prog, instance);
    env_logger::Builder::new()
        .filter_level(level)
        .format(move |out, record| writeln!(out, "{name}: {}{}", word(record.level()), record.args()))
        .try_init()
        .is_ok()
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
    fn a_line_names_the_program_and_its_instance() {
        assert_eq!(name("palabre-mixer", None), "palabre-mixer");
        assert_eq!(name("palabre-listener", Some("alice")), "palabre-listener[alice]");
    }

    #[test]
    fn each_v_shows_one_level_more() {
        assert_eq!(
            [0, 1, 2, 9].map(level),
            [LevelFilter::Info, LevelFilter::Debug, LevelFilter::Trace, LevelFilter::Trace]
        );
    }
}
