//! Checks whether `palabre-bridge` can use the NATS server, if rooms are shared with other machines.

use std::process::Command;
use std::time::Duration;

use palabre_config::BridgeCheck;
use palabre_host::executable;

use super::context::{Context, has_systemd, word};
use super::finding::Finding;
use crate::command;

const AREA: &str = "bridge";
const PROGRAM: &str = "palabre-bridge";
/// Timeout for `palabre-bridge --check`, which itself ends after 7 s at most.
const TIMEOUT: Duration = Duration::from_secs(15);

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let bridge = &context.server.bridge;
    if bridge.rooms.is_empty() && bridge.machine.is_none() && bridge.servers.is_empty() {
        return Vec::new();
    }
    let config = word(context.directories.config);
    let Some(program) = executable::find(PROGRAM) else {
        return vec![Finding::fault(
            AREA,
            format!("the program '{PROGRAM}' is missing"),
            "install the package palabre again",
        )];
    };
    let mut command = Command::new(program);
    command.args(["--check", "--json", "--config"]).arg(context.directories.config);
    command.arg("--run").arg(context.directories.run);
    let again = format!("{PROGRAM} --check --config {config} --run {}", word(context.directories.run));
    let mut findings = match command::run(&mut command, TIMEOUT) {
        Some(ended) if ended.success => match serde_json::from_str(&ended.stdout) {
            Ok(check) => judge(&check, &again),
            Err(error) => {
                let text = format!("unable to understand the output of '{PROGRAM} --check': {error}");
                vec![Finding::fault(AREA, text, "install programs of one release of palabre")]
            }
        },
        Some(ended) => {
            let text = ended.stderr.trim().trim_start_matches(PROGRAM).trim_start_matches(": ").replace('\n', "; ");
            // Perhaps only the daemons' user can read a file of the bridge, such as the key. So this isn't a fault.
            if text.contains("Permission denied") {
                return vec![Finding::unseen(AREA, text, context.directories)];
            }
            vec![Finding::fault(AREA, text, format!("{again}  # after the correction"))]
        }
        None => vec![Finding::fault(AREA, format!("'{PROGRAM} --check' doesn't start or doesn't end"), again)],
    };
    if context.status.as_ref().is_some_and(|status| status.bridge.is_none()) {
        let remedy = match has_systemd() {
            true => format!("systemctl enable --now {PROGRAM}"),
            false => format!("{PROGRAM} --config {config} --run {} &", word(context.directories.run)),
        };
        findings.push(Finding::warning(AREA, format!("{PROGRAM} does not run, so no room is shared"), remedy));
    }
    findings
}

/// Returns the findings from the result of `palabre-bridge --check`. `again` is the command that repeats this check.
fn judge(check: &BridgeCheck, again: &str) -> Vec<Finding> {
    let mut texts = vec!["the NATS server is connected".to_owned()];
    texts.extend(check.machines.iter().map(ToString::to_string));
    if check.machines.is_empty() {
        texts.push("no other machine is connected now".to_owned());
    }
    let faults = check.faults().map(|text| Finding::fault(AREA, text, format!("{again}  # after the correction")));
    let warnings =
        check.warnings().map(|text| Finding::warning(AREA, text, "timedatectl set-ntp true  # on both machines"));
    std::iter::once(Finding::ok(AREA, texts.join("; "))).chain(faults).chain(warnings).collect()
}
