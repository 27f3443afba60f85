//! `palabre check`: checks the installation and prints a remedy for each fault. It changes nothing.

mod access;
mod bridge;
mod certificate;
mod context;
mod daemons;
mod files;
mod finding;
mod limits;
mod modes;
mod sandbox;
mod system;

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;

use palabre_config::control::{State, Status};
use palabre_config::{Participant, SERVER_FILE};
use palabre_host::exit::Failure;
use serde_json::{Value, json};

use crate::cli::{self, Cli};
use crate::output::{print_json, print_table};
use crate::{control, processes};
use context::{Context, Directories, has_systemd, word};
use finding::{Finding, Level};

/// Prints all findings. If there is a fault, the exit status is that of a configuration error.
pub(crate) fn run(cli: &Cli, options: &cli::Check) -> Result<(), Failure> {
    let findings = all_findings(cli);
    let count = |level: Level| findings.iter().filter(|finding| finding.level == level).count();
    let (faults, warnings) = (count(Level::Fault), count(Level::Warning));
    if options.json {
        let checks: Vec<Value> = findings.iter().map(Finding::json).collect();
        let all = json!({ "faults": faults, "warnings": warnings, "checks": checks });
        print_json(&all)?;
    } else {
        let rows: Vec<[String; 3]> = findings.iter().map(Finding::row).collect();
        print_table(&rows)?;
    }
    match faults {
        0 => Ok(()),
        1 => Err(Failure::config("the check found 1 fault")),
        _ => Err(Failure::config(format!("the check found {faults} faults"))),
    }
}

fn all_findings(cli: &Cli) -> Vec<Finding> {
    let directories = Directories { config: cli.config_dir(), run: cli.run_dir() };
    let (mut findings, server) = files::server(directories);
    let (participants, errors) = Participant::load_all(directories.config);
    findings.extend(files::participants(directories, &participants, &errors));
    let access = access::check(directories, server.as_ref(), &participants);
    findings.extend(modes::check(directories, server.as_ref(), access));
    findings.extend(sandbox::check(directories.run));
    let (state, status) = supervisor(directories);
    findings.extend(files::rooms(directories, status.as_ref()));
    findings.push(state);
    if let Some(status) = &status {
        findings.extend(daemons::check(directories, status, &errors));
    }
    let Some(server) = server else {
        let text = format!(
            "the certificate, the ports, the limits and the clock were not checked, because '{SERVER_FILE}' can't be used"
        );
        let is_invalid =
            findings.iter().any(|finding| finding.area == files::AREA_CONFIGURATION && finding.level == Level::Fault);
        findings.push(match is_invalid {
            true => Finding::warning(
                files::AREA_CONFIGURATION,
                text,
                format!("{} check  # after fixing the file", directories.palabre()),
            ),
            false => Finding::unseen(files::AREA_CONFIGURATION, text, directories),
        });
        return findings;
    };
    if let Some(status) = &status {
        findings.extend(sandbox::listeners(status, server.sandbox));
        findings.extend(sandbox::mixer(status, server.sandbox));
    }
    let context = Context { directories, server, participants, status };
    findings.extend(files::links(&context));
    findings.extend(files::proxy(&context));
    findings.extend(certificate::check(&context));
    findings.extend(system::check(&context));
    findings.extend(bridge::check(&context));
    findings
}

fn supervisor(directories: Directories<'_>) -> (Finding, Option<Status>) {
    const AREA: &str = "supervisor";
    let socket = directories.run.join("control.sock");
    if UnixStream::connect(&socket).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) {
        let text = format!("can't see the supervisor as this user: no permission to use '{}'", socket.display());
        return (Finding::unseen(AREA, text, directories), None);
    }
    if !control::is_running(directories.run) {
        let alone = processes::listeners_without_supervisor(directories.run).len();
        if alone > 0 {
            return (
                Finding::ok(
                    AREA,
                    format!("no supervisor runs; this is normal for listeners without a supervisor ({alone} running)"),
                ),
                None,
            );
        }
        let text = format!("palabre-supervisor is not running in '{}'", directories.run.display());
        let (config, run) = (word(directories.config), word(directories.run));
        let remedy = match has_systemd() {
            true => "systemctl start palabre.target".to_owned(),
            false => format!("palabre-supervisor --config {config} --run {run} &"),
        };
        return (Finding::warning(AREA, text, remedy), None);
    }
    match control::status(directories.run) {
        Ok(status) => (failed(directories, &status), Some(status)),
        Err(error) => {
            let remedy = match processes::stopped_supervisor(directories.run) {
                Some(pid) => format!("kill -CONT {pid}"),
                None if has_systemd() => "systemctl restart palabre-supervisor".to_owned(),
                None => "stop palabre-supervisor and start it again".to_owned(),
            };
            (Finding::fault(AREA, error.to_string(), remedy), None)
        }
    }
}

/// Reports listeners in state `failed`.
fn failed(directories: Directories<'_>, status: &Status) -> Finding {
    const AREA: &str = "supervisor";
    let failed: Vec<_> = status.participants.iter().filter(|one| one.state == State::Failed).collect();
    let Some(first) = failed.first() else {
        return Finding::ok(
            AREA,
            format!(
                "palabre-supervisor {} runs; number of participants: {}",
                status.version,
                status.participants.len()
            ),
        );
    };
    let names: Vec<&str> = failed.iter().map(|one| one.name.as_str()).collect();
    let why = first.note.as_deref().unwrap_or("see the listener's log");
    let text = format!("failed listeners: {}; cause for {}: {why}", names.join(", "), first.name);
    Finding::fault(AREA, text, format!("{} start {}  # fix the cause first", directories.palabre(), first.name))
}
