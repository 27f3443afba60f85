//! The log: one line per event on standard error, or the journal if standard error is connected to it.
//!
//! A line is `palabre-listener[alice]: warning: text`. An error has no level before its text, which begins with `unable to`.
//! There are no timestamps, because journald and other loggers add them.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use log::{Level, LevelFilter};
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
    fn the_name_contains_program_and_instance() {
        assert_eq!(name("palabre-mixer", None), "palabre-mixer");
        assert_eq!(name("palabre-listener", Some("alice")), "palabre-listener[alice]");
    }

    #[test]
    fn each_v_adds_a_level() {
        assert_eq!(
            [0, 1, 2, 9].map(level),
            [LevelFilter::Info, LevelFilter::Debug, LevelFilter::Trace, LevelFilter::Trace]
        );
    }
}
