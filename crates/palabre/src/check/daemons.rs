//! Checks that the daemons work: the mixer, the recorders and the exporter.

use palabre_config::control::{RecordingState, Status, Storage};
use palabre_config::{ConfigError, Server};

use super::context::Directories;
use super::finding::Finding;
use crate::record;
use crate::snapshot::{Daemon, Snapshot};

const AREA: &str = "daemons";

/// Checks the daemons of a running supervisor. `errors` are the invalid files of participants, which another check reports.
pub(super) fn check(directories: Directories<'_>, status: &Status, errors: &[ConfigError]) -> Vec<Finding> {
    let mut snapshot = Snapshot::now(directories.run, status);
    snapshot.add_systemd(directories.run);
    let mut all = findings(directories, &snapshot, status);
    all.extend(refused(directories, status, errors));
    all
}

/// Reports settings that the supervisor or a listener can't use, so that it serves with earlier settings.
fn refused(directories: Directories<'_>, status: &Status, errors: &[ConfigError]) -> Vec<Finding> {
    let server = Server::load(directories.config).err();
    let files: Vec<String> = errors.iter().chain(&server).map(ToString::to_string).collect();
    let remedy = format!("{} reload  # after fixing the cause", directories.palabre());
    let kept = status.errors.iter().filter(|error| !files.contains(error));
    kept.map(|why| Finding::fault("reload", why.clone(), remedy.clone())).collect()
}

fn findings(directories: Directories<'_>, snapshot: &Snapshot, status: &Status) -> Vec<Finding> {
    let faults = snapshot.faults(directories.run).into_iter();
    let mut findings: Vec<Finding> = faults.map(|(text, command)| Finding::fault(AREA, text, command)).collect();
    let is_failed = |daemon: &&Daemon| daemon.state() == "failed" && daemon.program != "palabre-mixer";
    findings.extend(snapshot.daemons.iter().filter(is_failed).map(|daemon| {
        let program = &daemon.program;
        let text = format!("{program} has failed: {}", daemon.last_exit().map_or("see its log", String::as_str));
        Finding::fault(AREA, text, format!("systemctl restart {program}  # after 'journalctl -u {program}'"))
    }));
    let broken = status.recordings.iter().filter(|one| one.state == RecordingState::Failed);
    findings.extend(broken.map(|one| {
        let room = &one.room;
        let text = format!("room '{room}' is no longer recorded: {}", one.note.as_deref().unwrap_or("see the log"));
        let start = format!("{} record start --room {room}  # after fixing the cause", directories.palabre());
        Finding::fault(AREA, text, start)
    }));
    if findings.is_empty() {
        findings.push(Finding::ok(AREA, "the mixer and all recorders run"));
    }
    findings.extend(status.storage.as_ref().map(disk));
    findings
}

/// Reports whether the disk of the recordings is nearly full.
fn disk(storage: &Storage) -> Finding {
    const AREA: &str = "recordings";
    let text = record::disk(storage);
    match storage.nearly_full {
        true => Finding::warning(AREA, format!("the disk is nearly full: {text}"), record::remedy()),
        false => Finding::ok(AREA, text),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use palabre_config::control::Recording;

    #[test]
    fn remedy_for_a_failed_recording_has_the_flags_for_the_directories() {
        let (status, _) = crate::status::tests::scene();
        let failed = Recording {
            room: "main".into(),
            state: RecordingState::Failed,
            directory: None,
            began: None,
            bytes: None,
            since_ms: 0,
            restarts: 0,
            note: Some("disk full".into()),
        };
        let status = Status { recordings: vec![failed], ..status };
        let directories = Directories { config: Path::new("/a"), run: Path::new("/b") };
        let all = findings(directories, &Snapshot::default(), &status);
        let remedy = all.iter().find_map(|one| one.remedy.as_deref());
        let expected = "palabre --config /a --run /b record start --room main  # after fixing the cause";
        assert_eq!(remedy, Some(expected));
    }

    #[test]
    fn nearly_full_disk_of_the_recordings_is_a_warning() {
        let storage = |nearly_full| Storage {
            directory: "/r".into(),
            free_bytes: 1 << 20,
            total_bytes: 1 << 30,
            recordings_bytes: 0,
            left_s: Some(60),
            nearly_full,
        };
        assert_eq!(disk(&storage(false)).remedy, None);
        let [level, area, text] = disk(&storage(true)).row();
        assert_eq!([level.as_str(), area.as_str()], ["warning", "recordings"]);
        assert!(
            text.starts_with("the disk is nearly full: '/r': 1.0 MiB of 1.0 GiB are free")
                && text.contains("keep-days")
        );
    }
}
