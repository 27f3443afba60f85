//! `palabre swarm` with the real mixer, supervisor and listeners.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use common::{descendants, is_running, palabre, sibling, signal, stderr, stdout, wait_for};
use serde_json::Value;

const SIX: [&str; 5] = ["--participants", "6", "--talkers", "2", "--json"];

/// A running swarm. Its files are in a temporary directory of its own.
struct Swarm {
    child: Option<Child>,
    progress: BufReader<ChildStderr>,
    printed: String,
    directory: tempfile::TempDir,
}

impl Swarm {
    fn start(arguments: &[&str]) -> Self {
        for name in ["palabre-mixer", "palabre-supervisor", "palabre-signer", "palabre-listener"] {
            sibling(name);
        }
        let directory = tempfile::Builder::new().prefix("palabre-t-").tempdir().unwrap();
        let mut command = palabre();
        command.arg("swarm").args(arguments).env("TMPDIR", directory.path()).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let progress = BufReader::new(child.stderr.take().unwrap());
        Self { child: Some(child), progress, printed: String::new(), directory }
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Waits until the measurement has begun.
    fn wait_for_measurement(&mut self) {
        while !self.printed.contains(" records missing, ") {
            assert!(self.progress.read_line(&mut self.printed).unwrap() > 0, "{}", self.printed);
        }
    }

    /// Returns the process id of a participant's listener.
    fn listener(&self, name: &str) -> u32 {
        let is_it = |pid: &u32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains("palabre-listener\0") && line.split('\0').any(|word| word == name)
        };
        wait_for("the listener", || descendants(self.pid()).into_iter().find(is_it))
    }

    /// Waits for the swarm's end. Returns its output; standard error includes the lines that were read before. Checks that no process and
    /// no file is left.
    fn end(mut self) -> Output {
        let children = descendants(self.pid());
        let mut output = self.child.take().unwrap().wait_with_output().unwrap();
        while self.progress.read_line(&mut self.printed).unwrap() > 0 {}
        output.stderr = std::mem::take(&mut self.printed).into_bytes();
        let running: Vec<_> = children.into_iter().filter(|pid| is_running(*pid)).collect();
        assert_eq!(running, Vec::<u32>::new(), "{output:?}");
        assert_eq!(fs::read_dir(self.directory.path()).unwrap().count(), 0, "{output:?}");
        output
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Returns this field of a participant's figures.
fn figure(report: &Value, name: &str, field: &str) -> u64 {
    let participants = report["participants"].as_array().unwrap();
    participants.iter().find(|one| one["name"] == name).unwrap()[field].as_u64().unwrap()
}

#[test]
fn no_record_is_missing_and_no_mix_is_wrong() {
    palabre_testing::undisturbed(|| {
        let output = Swarm::start(&[&SIX[..], &["--seconds", "2"]].concat()).end();
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!((&report["missing"], &report["wrong"]), (&0.into(), &0.into()), "{report}");
        for name in ["p01", "p02", "p03", "p04", "p05", "p06"] {
            assert!((45..=55).contains(&figure(&report, name, "records")), "{report}");
            assert_eq!(figure(&report, name, "checked"), figure(&report, name, "records"), "{report}");
        }
        let kinds: Vec<_> = report["processes"].as_array().unwrap().iter().map(|used| &used["kind"]).collect();
        assert_eq!(kinds, ["palabre-mixer", "palabre-listener", "palabre-supervisor", "palabre swarm"]);
        assert_eq!(report["processes"][1]["processes"], 6);
        let delays: Vec<_> =
            report["talkers"].as_array().unwrap().iter().map(|talker| &talker["delay_ms"]["p50"]).collect();
        assert!(delays.iter().all(|delay| (30.0..400.0).contains(&delay.as_f64().unwrap())), "{report}");
    });
}

#[test]
fn listeners_that_are_killed_or_stopped_are_named() {
    let _turn = palabre_testing::turn();
    let mut swarm = Swarm::start(&["--participants", "6", "--talkers", "2", "--seconds", "4"]);
    swarm.wait_for_measurement();
    signal(swarm.listener("p04"), "STOP");
    signal(swarm.listener("p05"), "KILL");
    let output = swarm.end();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |name: &str| report.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
    // A busy machine may add other faults to a line.
    for (name, fault) in [
        ("p04: ", " records missing"),
        ("p04: ", "; no record in the last "),
        ("p05: ", " records missing"),
        ("p05: ", "; the stream ended "),
    ] {
        assert!(line(name).contains(fault), "{fault}: {report}");
    }
    assert!(stderr(&output, 1).contains("records missing: "), "{output:?}");
}

#[test]
fn tone_that_is_missing_from_the_mixes_of_given_links_is_named() {
    let _turn = palabre_testing::turn();
    let directory = tempfile::Builder::new().prefix("palabre-t-").tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let mut command = palabre();
    command.args(["try", "--first-port", "0", "--no-voices", "--participants", "4", "--dir", &path("try")]);
    let mut room = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the links", || fs::exists(path("try/links")).unwrap().then_some(()));
    let (etc, run) = (path("try/etc"), path("try/run"));
    let muted = palabre().args(["--config", &etc, "--run", &run, "mute", "p02"]).output().unwrap();
    let (links, certificate) = (path("try/links"), path("try/etc/tls/cert.pem"));
    let swarm = ["--links", &links, "--certificate", &certificate, "--talkers", "3", "--seconds", "1", "--json"];
    let output = palabre().args(["--run", &run, "swarm"]).args(swarm).output().unwrap();
    signal(room.id(), "INT");
    room.wait().unwrap();
    stdout(&muted);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    // Every participant except the talker who is muted should hear the tone.
    let checked = |name| figure(&report, name, "checked");
    let count = checked("p01") + checked("p03") + checked("p04");
    assert!(count > 0);
    assert_eq!(report["faults"]["the tone of talker 2 is missing"], count, "{report}");
    for name in ["p01", "p03", "p04"] {
        assert_eq!(figure(&report, name, "wrong"), checked(name), "{report}");
        let participants = report["participants"].as_array().unwrap();
        let faults = participants.iter().find(|one| one["name"] == name).unwrap()["faults"].as_array().unwrap();
        let fault = faults.iter().find(|fault| fault["what"] == "the tone of talker 2 is missing").unwrap();
        assert_eq!(fault["records"], checked(name), "{report}");
        assert!(fault["at_s"].as_f64().unwrap() < 0.2 && fault["ms"].as_f64().unwrap() > 700.0, "{report}");
    }
    assert_eq!(report["processes"][1]["processes"], 4, "{report}");
    let intervals = report["intervals"].as_array().unwrap();
    assert_eq!((intervals.len(), &intervals[0]["wrong"]), (1, &report["wrong"]), "{report}");
}

#[test]
fn ctrl_c_ends_the_measurement_with_a_report() {
    let mut swarm = Swarm::start(&[&SIX[..], &["--seconds", "3600"]].concat());
    swarm.wait_for_measurement();
    signal(swarm.pid(), "INT");
    let output = swarm.end();
    assert!(json(&output)["seconds"].as_f64().unwrap() < 60.0, "{output:?}");
}

#[test]
fn too_low_limit_of_open_files_is_named_with_the_possible_number_of_participants() {
    let program = palabre().get_program().to_owned();
    let mut command = Command::new("prlimit");
    command.arg("--nofile=100:100").arg(program).args(["swarm", "--participants", "50", "--talkers", "4"]);
    let text = stderr(&command.output().unwrap(), 1);
    assert!(
        text.contains("unable to run 50 participants: this machine allows 16; the hard limit of open files is 100"),
        "{text}"
    );
}

#[test]
fn options_that_contradict_each_other_are_usage_errors() {
    let directory = tempfile::tempdir().unwrap();
    let links = directory.path().join("links");
    fs::write(&links, "https://127.0.0.1:9001/?key=0123456789abcdef0123456789abcdef\n").unwrap();
    let links = links.to_str().unwrap();
    for (arguments, cause) in [
        (&["--participants", "3", "--talkers", "4"][..], "--talkers is 4, but the number of participants is 3"),
        (
            &["--links", links, "--talkers", "1", "--participants", "2"],
            "the number of links in the file of --links is 1",
        ),
        (&["--links", links, "--chunk-ms", "40"], "cannot be used with"),
        (&["--certificate", links], "--links"),
    ] {
        let text = stderr(&palabre().arg("swarm").args(arguments).output().unwrap(), 2);
        assert!(text.contains(cause), "{text}");
    }
}
