//! `palabre check`: what is wrong here, each with what mends it, before anybody is invited.
//!
//! It only looks. A *fault* keeps somebody out or silent, now or when it comes to many; a *warning* will be one some day, or
//! is the operator's to judge.

mod certificate;
mod files;
mod system;

use std::path::Path;

use palabre_config::control::Status;
use palabre_config::{Participant, Server};
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
    /// The command that mends it, or what to do where no command could.
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

/// What is checked.
struct Scene<'a> {
    config: &'a Path,
    run: &'a Path,
    server: Server,
    participants: Vec<Participant>,
    /// What the supervisor says, where one runs.
    status: Option<Status>,
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
    let (config, run) = (cli.config_dir(), cli.run_dir());
    let (mut findings, server) = files::server(config);
    let (participants, errors) = Participant::load_all(config);
    findings.extend(files::participants(config, &participants, &errors));
    findings.extend(files::directories(config, run));
    let (state, status) = supervisor(run);
    findings.push(state);
    // Without a configuration nobody knows which certificate and which ports.
    if let Some(server) = server {
        let scene = Scene { config, run, server, participants, status };
        findings.extend(certificate::look(&scene));
        findings.extend(system::look(&scene));
    }
    findings
}

fn supervisor(run: &Path) -> (Finding, Option<Status>) {
    const AREA: &str = "supervisor";
    if !control::is_running(run) {
        let text = format!("none runs in '{}'", run.display());
        let mend = if Path::new("/run/systemd/system").exists() {
            "systemctl start palabre.target"
        } else {
            "start palabre-supervisor"
        };
        return (Finding::warning(AREA, text, mend), None);
    }
    match control::status(run) {
        Ok(status) => {
            let failed = status.participants.iter().filter(|one| one.state == palabre_config::control::State::Failed);
            let names: Vec<&str> = failed.map(|one| one.name.as_str()).collect();
            let finding = if names.is_empty() {
                Finding::ok(AREA, format!("{} runs, with {} participants", status.version, status.participants.len()))
            } else {
                let text = format!("the listener of {} has failed", names.join(", "));
                Finding::fault(AREA, text, format!("palabre status says why, palabre start {} tries again", names[0]))
            };
            (finding, Some(status))
        }
        Err(error) => (Finding::fault(AREA, error.to_string(), "systemctl restart palabre-supervisor"), None),
    }
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
}
