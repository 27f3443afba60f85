//! `palabre status`: how every participant's listener is, for people and as JSON.

use std::env;
use std::io::{self, IsTerminal};
use std::path::Path;

use palabre_config::control::{ParticipantStatus, State, Status};
use palabre_host::exit::Failure;

use crate::output::print;
use crate::{cli, control, table};

/// SGR of ECMA-48: what stands out, and the end of it.
const FAILED: &str = "\x1b[1;31m";
const BACKING_OFF: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

const HEAD: [&str; 9] = ["STATE", "NAME", "ROOM", "PORT", "PID", "RESTARTS", "SINCE", "LAST EXIT", "NOTE"];

/// Prints the status. That a listener has failed is an answer and no failure of the question.
///
/// # Errors
/// The supervisor isn't there (system).
pub fn run(run: &Path, options: &cli::Status) -> Result<(), Failure> {
    let status = control::status(run)?;
    if options.json {
        return print(serde_json::to_string_pretty(&status).map_err(Failure::system)? + "\n");
    }
    print(table(&status, has_colours()))?;
    for error in &status.errors {
        eprintln!("palabre: warning: {error}");
    }
    Ok(())
}

/// On a terminal, unless somebody wants none: <https://no-color.org>
fn has_colours() -> bool {
    let says_no = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !says_no && env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

fn table(status: &Status, colours: bool) -> String {
    if status.participants.is_empty() {
        return "nobody; 'palabre invite NAME' adds a participant\n".to_owned();
    }
    let rows: Vec<[String; 9]> =
        std::iter::once(HEAD.map(str::to_owned)).chain(status.participants.iter().map(row)).collect();
    let states = std::iter::once(None).chain(status.participants.iter().map(|participant| Some(participant.state)));
    let mut text = String::new();
    for (line, state) in table::lines(&rows).iter().zip(states) {
        text.push_str(&painted(line, state.filter(|_| colours)));
        text.push('\n');
    }
    text
}

/// The line with its state, which comes first, in the colour of that state.
fn painted(line: &str, state: Option<State>) -> String {
    let colour = match state {
        Some(State::Failed) => FAILED,
        Some(State::BackingOff) => BACKING_OFF,
        _ => return line.to_owned(),
    };
    let word = state.map(|state| state.to_string()).unwrap_or_default();
    format!("{colour}{word}{PLAIN}{}", &line[word.len()..])
}

fn row(participant: &ParticipantStatus) -> [String; 9] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        participant.state.to_string(),
        participant.name.clone(),
        participant.room.clone(),
        participant.port.to_string(),
        or_dash(participant.pid.map(|pid| pid.to_string())),
        participant.restarts.to_string(),
        duration(participant.since_ms),
        or_dash(participant.last_exit.clone()),
        or_dash(participant.note.clone()),
    ]
}

/// The two largest units: `42 s`, `3 min 12 s`, `2 d 5 h`.
fn duration(ms: u64) -> String {
    let (s, min, h, d) = (ms / 1000 % 60, ms / 60_000 % 60, ms / 3_600_000 % 24, ms / 86_400_000);
    match (d, h, min) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, _) => format!("{min} min {s} s"),
        (0, _, _) => format!("{h} h {min} min"),
        _ => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> ParticipantStatus {
        ParticipantStatus {
            name: "alice".into(),
            display: "Alice".into(),
            room: "main".into(),
            port: 9001,
            state: State::Ready,
            pid: Some(4242),
            restarts: 0,
            last_exit: None,
            since_ms: 61_000,
            note: Some("streams=1".into()),
        }
    }

    #[test]
    fn columns_stand_below_each_other() {
        let bob = ParticipantStatus {
            name: "bob".into(),
            state: State::BackingOff,
            pid: None,
            last_exit: Some("killed by signal 9".into()),
            note: None,
            ..alice()
        };
        let carol = ParticipantStatus { name: "carol".into(), state: State::Failed, ..bob.clone() };
        let status = Status { version: "0".into(), participants: vec![alice(), bob, carol], errors: Vec::new() };
        let text = table(&status, false);
        let expected = "\
STATE        NAME   ROOM  PORT  PID   RESTARTS  SINCE      LAST EXIT           NOTE
ready        alice  main  9001  4242  0         1 min 1 s  -                   streams=1
backing off  bob    main  9001  -     0         1 min 1 s  killed by signal 9  -
failed       carol  main  9001  -     0         1 min 1 s  killed by signal 9  -
";
        assert_eq!(text, expected);
        let coloured = table(&status, true);
        assert!(coloured.contains("\n\x1b[33mbacking off\x1b[0m  bob "), "{coloured}");
        assert!(coloured.contains("\n\x1b[1;31mfailed\x1b[0m       carol "), "{coloured}");
        let plain = [FAILED, BACKING_OFF, PLAIN].iter().fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(plain, expected);
    }

    #[test]
    fn an_empty_roster_says_what_to_do() {
        let text = table(&Status { version: "0".into(), participants: Vec::new(), errors: Vec::new() }, true);
        assert!(text.contains("palabre invite"));
    }

    #[test]
    fn a_duration_has_at_most_two_units() {
        let shown = [0, 59_999, 192_000, 7_260_000, 190_800_000].map(duration);
        assert_eq!(shown, ["0 s", "59 s", "3 min 12 s", "2 h 1 min", "2 d 5 h"]);
    }
}
