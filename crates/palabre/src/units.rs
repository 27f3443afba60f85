//! The state of the daemons' systemd units, by systemctl(1): running or not, restarts, last exit.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::command;

/// Timeout for systemctl(1). If it passes, the status is shown without the data from systemd.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The programs that run in units.
pub(crate) const PROGRAMS: [&str; 6] =
    ["palabre-bridge", "palabre-exporter", "palabre-launcher", "palabre-mixer", "palabre-signer", "palabre-supervisor"];
/// The properties that [`parse`] reads.
const PROPERTIES: &str = "Id,LoadState,SubState,NRestarts,Result,MainPID,ExecMainCode,ExecMainStatus,User";
/// Exit codes of a unit whose sandbox systemd could not set up, and their names: systemd.exec(5).
const SANDBOX_EXITS: [(&str, &str); 3] = [("217", "USER"), ("225", "NETWORK"), ("226", "NAMESPACE")];

/// The state of a systemd unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// SubState of systemctl(1): `running`, `auto-restart`, `failed`, `dead`, …
    pub(crate) state: String,
    /// Process id of the unit's main process, if it runs.
    pub(crate) pid: Option<u32>,
    /// Number of automatic restarts since the unit was started.
    pub(crate) restarts: u64,
    /// If no process runs: how the last process ended.
    pub(crate) last_exit: Option<String>,
    /// The user that the unit gives its next process; `None` means root.
    pub(crate) user: Option<String>,
}

impl Unit {
    /// Returns the last exit if systemd could not set up the unit's sandbox.
    pub(crate) fn sandbox_exit(&self) -> Option<&str> {
        let exit = self.last_exit.as_deref()?;
        SANDBOX_EXITS.iter().any(|(_, name)| exit.ends_with(&format!("/{name}"))).then_some(exit)
    }
}

/// Returns the loaded units by program name. Returns an empty map if systemd doesn't run or doesn't answer.
pub(crate) fn query(programs: &[&str]) -> BTreeMap<String, Unit> {
    if !Path::new("/run/systemd/system").exists() {
        return BTreeMap::new();
    }
    let mut command = Command::new("systemctl");
    command.arg("show").arg(format!("--property={PROPERTIES}"));
    command.args(programs.iter().map(|program| format!("{program}.service")));
    command::run(&mut command, TIMEOUT).map(|ended| parse(&ended.stdout)).unwrap_or_default()
}

/// Parses the output of `systemctl show`: a paragraph of `KEY=VALUE` lines per unit.
fn parse(text: &str) -> BTreeMap<String, Unit> {
    let unit = |paragraph: &str| {
        let values: BTreeMap<&str, &str> = paragraph.lines().filter_map(|line| line.split_once('=')).collect();
        let number = |key: &str| values.get(key)?.parse::<u64>().ok();
        if *values.get("LoadState")? != "loaded" {
            return None;
        }
        let pid = number("MainPID").and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
        let unit = Unit {
            state: (*values.get("SubState")?).to_owned(),
            pid,
            restarts: number("NRestarts")?,
            last_exit: exit_text(&values).filter(|_| pid.is_none()),
            user: values.get("User").filter(|user| !user.is_empty()).map(|user| (*user).to_owned()),
        };
        Some((values.get("Id")?.strip_suffix(".service")?.to_owned(), unit))
    };
    text.split("\n\n").filter_map(unit).collect()
}

/// Formats how the process ended, in the supervisor's words. The codes are CLD_EXITED, CLD_KILLED and CLD_DUMPED of sigaction(2).
fn exit_text(values: &BTreeMap<&str, &str>) -> Option<String> {
    let status = values.get("ExecMainStatus")?;
    let how = match *values.get("ExecMainCode")? {
        "1" => {
            let name = SANDBOX_EXITS.iter().find(|(code, _)| code == status);
            name.map_or_else(|| format!("exit code {status}"), |(code, name)| format!("exit code {code}/{name}"))
        }
        "2" | "3" => format!("killed by signal {status}"),
        _ => return None,
    };
    let result = values.get("Result").filter(|result| ["watchdog", "timeout", "start-limit-hit"].contains(result));
    Some(result.map_or_else(|| how.clone(), |result| format!("{how} ({result})")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn output_of_systemctl_is_parsed() {
        let text = "\
MainPID=42\nUser=palabre-mixer\nNRestarts=3\nResult=success\nExecMainCode=0\nExecMainStatus=0\nId=palabre-mixer.service\nLoadState=loaded\nSubState=running\n
MainPID=0\nUser=\nNRestarts=1\nResult=watchdog\nExecMainCode=3\nExecMainStatus=6\nId=palabre-supervisor.service\nLoadState=loaded\nSubState=auto-restart\n
MainPID=0\nNRestarts=0\nResult=exit-code\nExecMainCode=1\nExecMainStatus=78\nId=palabre-exporter.service\nLoadState=loaded\nSubState=failed\n
MainPID=0\nNRestarts=0\nResult=success\nId=palabre-other.service\nLoadState=not-found\nSubState=dead\n";
        let units = parse(text);
        let unit = |state: &str, pid, restarts, last_exit: Option<&str>| Unit {
            state: state.to_owned(),
            pid,
            restarts,
            last_exit: last_exit.map(str::to_owned),
            user: None,
        };
        assert_eq!(units.len(), 3);
        let mixer = Unit { user: Some("palabre-mixer".to_owned()), ..unit("running", Some(42), 3, None) };
        assert_eq!(units["palabre-mixer"], mixer);
        let watchdog = unit("auto-restart", None, 1, Some("killed by signal 6 (watchdog)"));
        assert_eq!(units["palabre-supervisor"], watchdog);
        assert_eq!(units["palabre-exporter"], unit("failed", None, 0, Some("exit code 78")));
    }

    #[test]
    fn unit_whose_sandbox_cannot_be_set_up_is_recognised() {
        let of_status = |status: u32| {
            let text = format!(
                "MainPID=0\nNRestarts=9\nResult=exit-code\nExecMainCode=1\nExecMainStatus={status}\n\
                 Id=palabre-mixer.service\nLoadState=loaded\nSubState=auto-restart\n"
            );
            parse(&text).remove("palabre-mixer").unwrap()
        };
        assert_eq!(of_status(226).sandbox_exit(), Some("exit code 226/NAMESPACE"));
        assert_eq!(of_status(225).sandbox_exit(), Some("exit code 225/NETWORK"));
        assert_eq!(of_status(78).sandbox_exit(), None);
    }
}
