//! Checks that the log lines in the code, in palabre(7) and in docs/operations.md agree. Log lines that palabre(7) doesn't document are
//! listed here.

use std::fs;
use std::path::{Path, PathBuf};

/// A log line in the source, with `*` for each inserted value.
struct Line {
    file: String,
    text: String,
}

/// Warnings and errors that palabre(7) doesn't document: the source file, the text with `*` for each inserted value, and the reason.
const NOT_AN_INTERFACE: &[(&str, &str, &str)] = &[
    ("host/src/logging.rs", "*", "the last line of a program; the exit status is the interface"),
    ("mixer/src/context.rs", "*", "passes on a message that is checked where it is made"),
    ("mixer/src/daemon.rs", "*", "'unable to execute', which is documented"),
    ("supervisor/src/run.rs", "*", "'unable to execute', made in upgrade.rs"),
    ("mixer/src/restart.rs", "unable to *", "only 'palabre restart mixer' needs the socket, and reports the error"),
    ("mixer/src/room.rs", "*", "the room was removed"),
    ("bridge/src/bridge.rs", "*", "passes on a message about another machine; the main ones are documented"),
    ("bridge/src/peer.rs", "*", "a file or pipe of another machine can't be removed"),
    ("bridge/src/room.rs", "*", "an error of the room's directory"),
    ("bridge/src/run.rs", "*", "problems of the NATS server, which are documented"),
    ("mixer/src/context.rs", "unable to watch '*': *", "as above; 'palabre check' reports a lack of watches"),
    (
        "host/src/process.rs",
        "unable to protect the memory of this process from other processes: *",
        "no supported kernel refuses it",
    ),
    (
        "supervisor/src/run.rs",
        "unable to adopt orphaned processes: *; the control socket can't recognize processes that a listener has left behind",
        "as above",
    ),
    ("launcher/src/run.rs", "unable to adopt orphaned processes: *", "as above"),
    ("host/src/process.rs", "unable to set no_new_privs for this process: *", "as above"),
    (
        "host/src/priority.rs",
        "unable to restore the niceness * of a thread: *",
        "the right to restore the niceness is checked when the listener starts",
    ),
    ("signer/src/pair.rs", "*", "an invalid palabre.toml, which the supervisor reports"),
    (
        "signer/src/server.rs",
        "unable to understand an order of the supervisor: *; use programs of one release",
        "programs of different releases; new listeners don't start, and report it",
    ),
    (
        "signer/src/server.rs",
        "unable to sign for one more listener: *; raise LimitNOFILE= of palabre-signer",
        "'palabre check' reports the limit of open files",
    ),
    ("signer/src/server.rs", "unable to sign for the listener of '*': *", "as above"),
    (
        "launcher/src/run.rs",
        "unable to understand an order of the supervisor: *; use programs of one release",
        "programs of different releases; the listener doesn't start, and the supervisor reports it",
    ),
    ("launcher/src/run.rs", "unable to send a signal to listener process *: *", "the listener has ended"),
    (
        "supervisor/src/launcher.rs",
        "unable to understand a report of palabre-launcher: *; use programs of one release",
        "programs of different releases",
    ),
    (
        "supervisor/src/launcher.rs",
        "unable to receive reports of palabre-launcher, so it is not used: *",
        "no thread could be started",
    ),
    (
        "supervisor/src/signer/link.rs",
        "unable to understand a report of palabre-signer: *; use programs of one release",
        "programs of different releases",
    ),
    (
        "supervisor/src/signer.rs",
        "unable to receive reports of palabre-signer, so this signer is not used: *",
        "no thread could be started",
    ),
    ("supervisor/src/signer/link.rs", "*", "'did not answer', which is documented"),
    ("supervisor/src/signer.rs", "*", "the signer's program is missing; 'palabre status' has the same text"),
    (
        "listener/src/state.rs",
        "unable to start a thread that reads the certificate: *; keeping the previous certificate",
        "no thread could be started; 'palabre reload' reports it",
    ),
    ("listener/src/setup.rs", "*", "an invalid file 'levelling', which the mixer reports"),
    (
        "listener/src/enter.rs",
        "unable to record the use of the invitation link: *",
        "the supervisor refused it, and has logged the reason",
    ),
    (
        "listener/src/api/own_name.rs",
        "unable to store the chosen display name: *",
        "also sent to the page that asked; the supervisor has logged its own errors",
    ),
    ("listener/src/api/request.rs", "*", "also sent to the page that asked; the room is full or was removed"),
    ("listener/src/meeting.rs", "*", "passes on a message of the same file, which is documented"),
    ("supervisor/src/process.rs", "unable to * process *: *", "the child has ended"),
    ("supervisor/src/recordings/recording.rs", "unable to * the recorder of room '*': *", "the recorder has ended"),
    (
        "supervisor/src/recordings/recording.rs",
        "*",
        "the recorder's program is missing; 'palabre record status' shows it",
    ),
    ("supervisor/src/control.rs", "*", "a caller without permission, who gets the same text"),
    (
        "supervisor/src/control.rs",
        "unable to start a thread for a client of the control socket: *",
        "no thread could be started; the command reports it",
    ),
    ("supervisor/src/departed.rs", "*", "a directory of a room cannot be removed; the line names it"),
    ("supervisor/src/roster.rs", "*", "an invalid file; 'palabre status' has the same text"),
    ("supervisor/src/roster/own_names.rs", "*", "an invalid record; 'palabre status' has the same text"),
    ("supervisor/src/roster/rooms.rs", "*", "a room's files cannot be written; the line names them"),
    ("supervisor/src/service.rs", "*", "'palabre reload' and 'palabre status' have the same text"),
    (
        "supervisor/src/service/entrance.rs",
        "*",
        "also in 'palabre status', and sent to the page whose button was pressed",
    ),
    (
        "host/src/inherit.rs",
        "unable to use the inherited descriptor '*': *",
        "an unknown entry in systemd's descriptor store",
    ),
    (
        "exporter/src/run.rs",
        "unable to start a thread for a client: *",
        "the machine has no threads left, which other programs report too",
    ),
    (
        "mixer/src/ear.rs",
        "* of '*' is too slow: * frames of 20 ms were lost",
        "counted in the metrics and in 'palabre status --json'",
    ),
    ("mixer/src/recording.rs", "'*' is read too slowly: *", "recording.log has the gap"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(directory: &Path, files: &mut Vec<PathBuf>) {
    for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() && !path.ends_with("tests") {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
}

/// Returns the sources of the daemons and libraries, without comments and tests.
fn code() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for program in [
        "mixer",
        "listener",
        "recorder",
        "bridge",
        "signer",
        "launcher",
        "supervisor",
        "exporter",
        "room",
        "host",
        "config",
    ] {
        sources(&root().join("crates").join(program).join("src"), &mut files);
    }
    let crates = root().join("crates");
    let name = |path: &Path| path.strip_prefix(&crates).unwrap().display().to_string();
    let without = |text: String| {
        let text = text.split("#[cfg(test)]").next().unwrap();
        text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
    };
    files.iter().map(|path| (name(path), without(fs::read_to_string(path).unwrap()))).collect()
}

/// Finds the first string literal in `code`. Returns the literal, with `*` for each inserted value, and the code that follows it.
fn literal(code: &str) -> Option<(String, &str)> {
    let (_, inside) = code.split_once('"')?;
    let bytes = inside.as_bytes();
    let end = (0..bytes.len()).find(|&at| bytes[at] == b'"' && (at == 0 || bytes[at - 1] != b'\\'))?;
    // After a backslash at the end of a line the indentation is ignored.
    let mut lines = inside[..end].split("\\\n");
    let first = lines.next()?.to_owned();
    let text = lines.fold(first, |text, line| text + line.trim_start());
    let mut parts = text.split('{');
    let first = parts.next()?.to_owned();
    let filled = parts.fold(first, |text, part| text + "*" + part.split_once('}').map_or(part, |(_, rest)| rest));
    Some((filled, &inside[end + 1..]))
}

/// Returns all warnings and errors that the code logs.
fn complaints() -> Vec<Line> {
    let begins = ["error!(", "warn!(", ".warn(format_args!(", "warn_if_new("];
    let mut lines = Vec::new();
    for (file, code) in code() {
        for begin in begins {
            for (at, _) in code.match_indices(begin) {
                let (text, _) = literal(&code[at..]).unwrap();
                lines.push(Line { file: file.clone(), text });
            }
        }
    }
    assert!(lines.len() > 40, "only {} warnings and errors were found", lines.len());
    lines
}

/// Returns whether `text` matches `pattern`; `*` matches anything.
fn fits(pattern: &str, text: &str) -> bool {
    let parts: Vec<&str> = pattern.split('*').collect();
    let [first, middle @ .., last] = parts.as_slice() else { return pattern == text };
    let Some(rest) = text.strip_prefix(first) else { return false };
    let Some(mut rest) = rest.strip_suffix(last) else { return false };
    middle.iter().all(|part| match rest.split_once(part) {
        Some((_, behind)) => {
            rest = behind;
            true
        }
        None => false,
    })
}

/// Replaces words in capitals by `*`.
fn pattern(line: &str) -> String {
    let words = line.split_inclusive(|c: char| !c.is_ascii_uppercase());
    let fill = |word: &str| {
        let end = word.trim_start_matches(|c: char| c.is_ascii_uppercase());
        if word.len() > end.len() { format!("*{end}") } else { word.to_owned() }
    };
    words.map(fill).collect()
}

/// Returns the log lines in palabre(7).
fn documented() -> Vec<String> {
    let page = fs::read_to_string(root().join("docs/man/palabre.7")).unwrap();
    let section = page.split(".SH LOG LINES\n").nth(1).unwrap().split(".SH ").next().unwrap();
    let lines = section.split(".TP\n.B ").skip(1).map(|entry| entry.lines().next().unwrap());
    let lines: Vec<String> = lines.map(|line| line.replace("\\(aq", "'").replace("\\-", "-")).collect();
    assert!(lines.len() > 20, "{lines:?}");
    lines
}

#[test]
fn every_line_in_the_manual_is_logged() {
    let mut literals = Vec::new();
    for (_, code) in code() {
        // Remove the character literal of a quote, which would be taken for the start of a string.
        let code = code.replace("'\"'", "");
        let mut rest = code.as_str();
        while let Some((text, behind)) = literal(rest) {
            literals.push(text);
            rest = behind;
        }
    }
    for line in documented() {
        let pattern = pattern(&line);
        let is_written = literals.iter().any(|text| text.len() > 2 && fits(&pattern, text));
        assert!(is_written, "docs/man/palabre.7 has a line that no program logs: {line}");
    }
}

#[test]
fn every_warning_and_error_is_in_the_manual_or_not_an_interface() {
    let documented: Vec<String> = documented().iter().map(|line| pattern(line)).collect();
    let complaints = complaints();
    let is_listed = |line: &Line, (file, text, _): &(&str, &str, &str)| {
        line.file.starts_with(file) && if *text == "*" { line.text == "*" } else { fits(text, &line.text) }
    };
    for line in &complaints {
        let known = documented.iter().any(|pattern| fits(pattern, &line.text));
        let listed = NOT_AN_INTERFACE.iter().any(|entry| is_listed(line, entry));
        assert!(known || listed, "crates/{} logs a line that is not in palabre(7): {}", line.file, line.text);
    }
    for entry in NOT_AN_INTERFACE {
        assert!(
            complaints.iter().any(|line| is_listed(line, entry)),
            "no such line in {}: {} ({})",
            entry.0,
            entry.1,
            entry.2
        );
    }
}

#[test]
fn table_of_failures_has_lines_of_the_manual() {
    let text = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let section = text.split("## What happens when\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<Vec<&str>> =
        section.lines().filter(|line| line.starts_with("| ")).map(|line| line.split(" | ").collect()).collect();
    assert!(rows.len() > 10 && rows[0][1] == "in the journal", "{rows:?}");
    let documented = documented();
    for row in &rows[2..] {
        let lines: Vec<&str> = row[1].split('`').skip(1).step_by(2).collect();
        assert!(row.len() == 4 && !lines.is_empty(), "{row:?}");
        for line in lines {
            assert!(documented.iter().any(|known| known == line), "palabre(7) doesn't have this line: {line}");
        }
    }
}

#[test]
fn star_matches_anything() {
    assert!(fits("a '*': *; b", "a 'x': y: z; b") && fits("*", "x") && fits("x", "x"));
    assert!(!fits("a '*': *; b", "a 'x'; b") && !fits("x", "xy") && !fits("*; x", "; y"));
}
