//! Checks whether systemd could set up the sandbox of each unit. In a container without the permission to mount it can't.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use super::context::word;
use super::finding::Finding;
use crate::cli;
use crate::units::{self, Unit};

const AREA: &str = "sandbox";
/// The drop-in for all units whose names begin with `palabre-`: systemd.unit(5).
const DROP_IN: &str = "/etc/systemd/system/palabre-.service.d/container.conf";

/// Checks the units, which use the default runtime directory.
pub(super) fn check(run: &Path) -> Option<Finding> {
    if run != Path::new(cli::RUN) {
        return None;
    }
    refused(&units::query(&units::PROGRAMS), &drop_in())
}

fn refused(units: &BTreeMap<String, Unit>, drop_in: &Path) -> Option<Finding> {
    let (program, exit) = units.iter().find_map(|(program, unit)| Some((program, unit.sandbox_exit()?)))?;
    let text = format!("systemd is unable to set up the sandbox of {program}.service: {exit}; usual in a container");
    let remedy = format!(
        "install -D -m 644 {} {DROP_IN} && systemctl daemon-reload && systemctl restart palabre.target",
        word(drop_in)
    );
    Some(Finding::fault(AREA, text, remedy))
}

/// Returns the path of the installed drop-in.
fn drop_in() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    let prefix = program.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
    prefix.join("lib/palabre/container.conf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_without_a_sandbox_is_a_fault_with_the_drop_in_as_remedy() {
        let unit = |last_exit: &str| Unit {
            state: "auto-restart".to_owned(),
            pid: None,
            restarts: 9,
            last_exit: Some(last_exit.to_owned()),
        };
        let units = |exit: &str| BTreeMap::from([("palabre-mixer".to_owned(), unit(exit))]);
        let drop_in = Path::new("/usr/lib/palabre/container.conf");
        let expected = Finding::fault(
            AREA,
            "systemd is unable to set up the sandbox of palabre-mixer.service: exit code 226/NAMESPACE; usual in a container",
            "install -D -m 644 /usr/lib/palabre/container.conf /etc/systemd/system/palabre-.service.d/container.conf && \
             systemctl daemon-reload && systemctl restart palabre.target",
        );
        assert_eq!(refused(&units("exit code 226/NAMESPACE"), drop_in), Some(expected));
        assert_eq!(refused(&units("exit code 78"), drop_in), None);
    }
}
