//! `palabre check`: what is wrong here, each with what mends it, before anybody is invited.
//!
//! It only looks. A *fault* keeps somebody out or silent, now or when it comes to many; a *warning* will be one some day, or
//! is the operator's to judge.

mod certificate;
mod files;
mod limits;
mod modes;
mod system;

use std::path::{Path, PathBuf};

use palabre_config::control::{State, Status};
use palabre_config::{Participant, SERVER_FILE, Server};
use palabre_host::exit::Failure;
use serde_json::{Value, json};

use crate::cli::{self, Cli};
use crate::output::print;
use crate::{control, table};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Not yet a fault.
    Warning,
    /// Somebody is kept out or silent.
    Fault,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, in a word.
    area: &'static str,
    level: Level,
    /// What is so.
    text: String,
    /// A line for a shell that mends it or says more, words behind `#`; what to do in words where no command could.
    mend: Option<String>,
}

impl Finding {
    fn ok(area: &'static str, text: impl Into<String>) -> Self {
        Self { area, level: Level::Ok, text: text.into(), mend: None }
    }

    fn warning(area: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { area, level: Level::Warning, text: text.into(), mend: Some(mend.into()) }
    }

    fn fault(area: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Fault, ..Self::warning(area, text, mend) }
    }

    fn row(&self) -> [String; 3] {
        let mend = self.mend.as_ref().map(|mend| format!(": {mend}")).unwrap_or_default();
        [self.level.word().to_owned(), self.area.to_owned(), format!("{}{mend}", self.text)]
    }

    fn json(&self) -> Value {
        json!({ "level": self.level.word(), "area": self.area, "text": self.text, "mend": self.mend })
    }
}

/// Where it is checked.
#[derive(Debug, Clone, Copy)]
struct Places<'a> {
    config: &'a Path,
    run: &'a Path,
}

impl Places<'_> {
    /// This command, to be typed for these places.
    fn palabre(&self) -> String {
        let mut words = vec!["palabre".to_owned()];
        for (flag, path, default) in [("--config", self.config, cli::CONFIG), ("--run", self.run, cli::RUN)] {
            if path != Path::new(default) {
                words.extend([flag.to_owned(), word(path)]);
            }
        }
        words.join(" ")
    }

    /// Where somebody must write what only they know; editors take the line, where it is known, as vi(1) does.
    fn edit(&self, file: &Path, line: Option<usize>) -> String {
        let line = line.map(|line| format!("+{line} ")).unwrap_or_default();
        format!("${{EDITOR:-vi}} {line}{} && {} reload", word(file), self.palabre())
    }
}

/// A path as a word of a shell.
fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

fn has_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// What is checked.
struct Scene<'a> {
    places: Places<'a>,
    server: Server,
    participants: Vec<Participant>,
    /// What the supervisor says, where one runs.
    status: Option<Status>,
}

impl Scene<'_> {
    fn people(&self) -> u64 {
        self.participants.len() as u64
    }

    /// `palabre.toml`.
    fn file(&self) -> PathBuf {
        self.places.config.join(SERVER_FILE)
    }
}

/// Looks at everything and prints what it found.
///
/// # Errors
/// There is a fault (configuration).
pub fn run(cli: &Cli, options: &cli::Check) -> Result<(), Failure> {
    let findings = look(cli);
    let count = |level: Level| findings.iter().filter(|finding| finding.level == level).count();
    let (faults, warnings) = (count(Level::Fault), count(Level::Warning));
    if options.json {
        let checks: Vec<Value> = findings.iter().map(Finding::json).collect();
        let all = json!({ "faults": faults, "warnings": warnings, "checks": checks });
        print(serde_json::to_string_pretty(&all).map_err(Failure::system)? + "\n")?;
    } else {
        let rows: Vec<[String; 3]> = findings.iter().map(Finding::row).collect();
        print(table::lines(&rows).iter().map(|line| format!("{line}\n")).collect::<String>())?;
    }
    match faults {
        0 => Ok(()),
        1 => Err(Failure::config("1 fault")),
        _ => Err(Failure::config(format!("{faults} faults"))),
    }
}

fn look(cli: &Cli) -> Vec<Finding> {
    let places = Places { config: cli.config_dir(), run: cli.run_dir() };
    let (mut findings, server) = files::server(places);
    let (participants, errors) = Participant::load_all(places.config);
    findings.extend(files::participants(places, &participants, &errors));
    findings.extend(modes::look(places, server.as_ref()));
    findings.extend(files::rooms(places, &participants));
    let (state, status) = supervisor(places);
    findings.push(state);
    // Without a configuration nobody knows which certificate and which ports.
    if let Some(server) = server {
        let scene = Scene { places, server, participants, status };
        findings.extend(certificate::look(&scene));
        findings.extend(system::look(&scene));
    }
    findings
}

fn supervisor(places: Places<'_>) -> (Finding, Option<Status>) {
    const AREA: &str = "supervisor";
    if !control::is_running(places.run) {
        let text = format!("none runs in '{}'", places.run.display());
        let (config, run) = (word(places.config), word(places.run));
        let mend = match has_systemd() {
            true => "systemctl start palabre.target".to_owned(),
            false => format!("palabre-supervisor --config {config} --run {run} &"),
        };
        return (Finding::warning(AREA, text, mend), None);
    }
    match control::status(places.run) {
        Ok(status) => (failed(places, &status), Some(status)),
        Err(error) => (Finding::fault(AREA, error.to_string(), "systemctl restart palabre-supervisor"), None),
    }
}

/// Whether anybody's listener was given up.
fn failed(places: Places<'_>, status: &Status) -> Finding {
    const AREA: &str = "supervisor";
    let failed: Vec<_> = status.participants.iter().filter(|one| one.state == State::Failed).collect();
    let Some(first) = failed.first() else {
        return Finding::ok(AREA, format!("{} runs, with {} participants", status.version, status.participants.len()));
    };
    let names: Vec<&str> = failed.iter().map(|one| one.name.as_str()).collect();
    let why = first.note.as_deref().unwrap_or("see its log");
    let text = format!("the listener of {} has failed: {why}", names.join(", "));
    Finding::fault(AREA, text, format!("{} start {}  # when the cause is mended", places.palabre(), first.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_wrong_and_what_mends_it() {
        let rows = [Finding::ok("clock", "is set"), Finding::fault("ports", "9001 is taken", "ss -ltnp")];
        let lines = table::lines(&rows.map(|finding| finding.row()));
        assert_eq!(lines, ["ok     clock  is set", "fault  ports  9001 is taken: ss -ltnp"]);
    }

    #[test]
    fn what_is_to_be_typed_is_of_these_places() {
        let usual = Places { config: Path::new(cli::CONFIG), run: Path::new(cli::RUN) };
        assert_eq!(usual.palabre(), "palabre");
        let other = Places { config: Path::new("/a b/c"), run: Path::new("/tmp/run") };
        assert_eq!(other.palabre(), "palabre --config '/a b/c' --run /tmp/run");
        assert_eq!(word(Path::new("it's")), "'it'\\''s'");
    }
}
