//! `palabre try` with the real mixer, supervisor and listeners.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::{TIMEOUT, descendants, is_running, palabre, sibling, signal, stderr, stdout, wait_for};
use palabre_room::{Format, Levelling, PersonalGain, PipeReader, PipeWriter, RoomDir, Start};

/// A running trial. Its output goes to files.
struct Trial {
    child: Child,
    directory: tempfile::TempDir,
}

impl Trial {
    /// Starts a trial with `--dir`.
    fn start(flags: &[&str]) -> Self {
        Self::start_in(tempfile::Builder::new().prefix("palabre-t-").tempdir().unwrap(), flags)
    }

    fn start_in(directory: tempfile::TempDir, flags: &[&str]) -> Self {
        let given = directory.path().join("try");
        let mut trial = Self::spawn(directory, &[flags, &["--dir", given.to_str().unwrap()]].concat());
        wait_for("the links", || {
            assert!(trial.child.try_wait().unwrap().is_none(), "{}", trial.output());
            // Don't wait for the file `links`: an earlier trial may have left one.
            trial.stdout().contains("Ctrl-C ends").then_some(())
        });
        trial
    }

    fn spawn(directory: tempfile::TempDir, flags: &[&str]) -> Self {
        for name in ["palabre-mixer", "palabre-supervisor", "palabre-signer", "palabre-listener"] {
            sibling(name);
        }
        let file = |name| File::create(directory.path().join(name)).unwrap();
        let child = palabre()
            .args(["try", "--first-port", "0"])
            .args(flags)
            .env("TMPDIR", directory.path())
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap();
        Self { child, directory }
    }

    fn dir(&self) -> PathBuf {
        self.directory.path().join("try")
    }

    fn room(&self) -> RoomDir {
        RoomDir::new(self.dir().join("run/rooms/main"))
    }

    fn stdout(&self) -> String {
        fs::read_to_string(self.directory.path().join("stdout")).unwrap()
    }

    fn output(&self) -> String {
        self.stdout() + &fs::read_to_string(self.directory.path().join("stderr")).unwrap()
    }

    fn links(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.dir().join("links")).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap()).map(|(name, link)| (name.into(), link.into())).collect()
    }

    /// Returns `palabre` with the flags for this trial's directories.
    fn palabre(&self, arguments: &[&str]) -> Command {
        let mut command = palabre();
        command.arg("--config").arg(self.dir().join("etc")).arg("--run").arg(self.dir().join("run")).args(arguments);
        command
    }

    /// Returns the process id of a program of this trial.
    fn process(&self, program: &str) -> Option<u32> {
        descendants(self.child.id()).into_iter().find(|&pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let first = line.split(|&byte| byte == 0).next().unwrap_or_default();
            is_running(pid) && Path::new(&*String::from_utf8_lossy(first)).ends_with(program)
        })
    }

    fn end(&mut self, name: &str) -> ExitStatus {
        signal(self.child.id(), name);
        wait_for("the end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- output:\n{}", self.output());
            eprintln!("--- log:\n{}", fs::read_to_string(self.dir().join("log")).unwrap_or_default());
        }
    }
}

/// Returns the page at a link, if the listener answers.
fn page(link: &str) -> Option<String> {
    let output = Command::new("curl").args(["-ksSfL", "--cookie", "", "--max-time", "20", link]).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn links_work_and_ctrl_c_removes_everything() {
    let mut trial = Trial::start(&["--no-voices"]);
    let links = trial.links();
    assert_eq!(links.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["alice", "bob"]);
    for (name, link) in &links {
        assert!(link.starts_with("https://localhost:") && link.contains("/?key="), "{link}");
        assert_eq!(trial.stdout().lines().filter(|line| line.ends_with(link.as_str())).count(), 1, "{name}");
        assert!(page(link).unwrap().contains("<html"), "{name}");
    }
    let without_key = links[0].1.split('?').next().unwrap();
    assert!(page(without_key).is_none(), "a link without the key");
    let status: serde_json::Value =
        serde_json::from_str(&stdout(&trial.palabre(&["status", "--json"]).output().unwrap())).unwrap();
    assert_eq!(status["participants"][1]["display"], "Bob");
    assert_eq!(status["participants"][1]["state"], "ready");
    let processes = descendants(trial.child.id());
    assert!(processes.len() >= 4, "{processes:?}");
    assert_eq!(trial.end("INT").code(), Some(0));
    assert_eq!(processes.iter().filter(|&&pid| is_running(pid)).count(), 0);
    assert!(!trial.dir().join("run").exists() && !trial.dir().join("links").exists());
    assert!(trial.dir().join("etc/participants.d/alice.toml").exists(), "etc stays in a given directory");
    let errors = fs::read_to_string(trial.directory.path().join("stderr")).unwrap();
    assert_eq!(errors, "", "no warnings");
}

#[test]
fn given_directory_keeps_keys_and_certificate() {
    let mut first = Trial::start(&["--no-voices", "--participants", "3"]);
    let key = |links: &[(String, String)]| {
        links.iter().map(|(name, link)| format!("{name} {}", link.split_once("?key=").unwrap().1)).collect::<Vec<_>>()
    };
    let (keys, pin) = (key(&first.links()), fs::read_to_string(first.dir().join("etc/tls/spki-pin")).unwrap());
    assert_eq!(keys.len(), 3);
    // The second trial must also use the same keys after the first trial was killed.
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let directory = std::mem::replace(&mut first.directory, tempfile::tempdir().unwrap());
    let second = Trial::start_in(directory, &["--no-voices", "--participants", "3"]);
    assert_eq!(key(&second.links()), keys);
    assert_eq!(fs::read_to_string(second.dir().join("etc/tls/spki-pin")).unwrap(), pin);
    let refused = palabre().args(["try", "--dir"]).arg(second.dir()).output().unwrap();
    assert!(stderr(&refused, 1).contains("another 'palabre try' runs in it"));
}

#[test]
fn temporary_directory_is_removed() {
    let directory = tempfile::Builder::new().prefix("palabre-t-").tempdir().unwrap();
    let mut trial = Trial::spawn(directory, &[]);
    wait_for("the links", || trial.stdout().contains("Ctrl-C ends").then_some(()));
    assert_eq!(trial.end("TERM").code(), Some(0));
    let mut left: Vec<_> = fs::read_dir(trial.directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["stderr", "stdout"]);
}

#[test]
fn killed_process_is_restarted() {
    let trial = Trial::start(&["--no-voices", "--participants", "1"]);
    for program in ["palabre-mixer", "palabre-supervisor", "palabre-listener"] {
        let before = wait_for(program, || trial.process(program));
        signal(before, "KILL");
        wait_for(program, || trial.process(program).filter(|&pid| pid != before));
    }
    wait_for("a supervisor that answers", || {
        trial.palabre(&["status"]).output().unwrap().status.success().then_some(())
    });
    let output = stdout(&trial.palabre(&["status", "--json"]).output().unwrap());
    let status: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(status["participants"][0]["name"], "p01");
    assert!(trial.output().contains("palabre-mixer has ended"), "{}", trial.output());
}

#[test]
fn children_end_when_the_trial_is_killed() {
    let mut trial = Trial::start(&["--participants", "1"]);
    let processes = descendants(trial.child.id());
    assert!(processes.len() >= 3);
    trial.child.kill().unwrap();
    trial.child.wait().unwrap();
    wait_for("the children's end", || processes.iter().all(|&pid| !is_running(pid)).then_some(()));
}

#[test]
fn participants_are_invited_and_revoked_while_it_runs() {
    let trial = Trial::start(&["--no-voices", "--no-levelling", "--participants", "1"]);
    assert_eq!(trial.room().levelling().unwrap(), Some(Levelling::Off));
    let link = stdout(&trial.palabre(&["invite", "carol", "--display-name", "Carol"]).output().unwrap());
    let html = wait_for("carol's page", || page(link.trim()));
    assert!(html.contains("<html"));
    stdout(&trial.palabre(&["restart", "carol"]).output().unwrap());
    assert!(page(link.trim()).is_some(), "reachable after a restart");
    stdout(&trial.palabre(&["revoke", "carol"]).output().unwrap());
    assert!(page(link.trim()).is_none());
}

/// A reader of a participant's ear. The trial's echo and melody count it as a participant who listens.
struct Ear {
    pipe: PipeReader,
}

impl Ear {
    fn of(trial: &Trial, name: &str) -> Self {
        let ear = trial.room().participant(&name.parse().unwrap()).ear();
        Self { pipe: PipeReader::open(&ear, Format::default(), Start::Discard).unwrap() }
    }

    /// Returns the peak of the next 100 ms.
    fn peak(&mut self) -> u16 {
        std::thread::sleep(Duration::from_millis(100));
        let mut heard = Vec::new();
        self.pipe.read(Instant::now(), &mut heard, 1 << 16).unwrap();
        heard.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0)
    }

    /// Waits until the peaks of one second are as expected.
    fn wait_for_a_second(&mut self, what: &str, is_expected: impl Fn(u16) -> bool) {
        let peaks = TIMEOUT.as_millis() / 100;
        let mut in_a_row = 0;
        for _ in 0..peaks {
            in_a_row = if is_expected(self.peak()) { in_a_row + 1 } else { 0 };
            if in_a_row == 10 {
                return;
            }
        }
        panic!("waited too long for {what}");
    }
}

#[test]
fn melody_plays_for_one_listener_and_stops_for_two() {
    let trial = Trial::start(&[]);
    let mut alice = Ear::of(&trial, "alice");
    alice.wait_for_a_second("the melody", |peak| (100..8_000).contains(&peak));
    let melody = trial.room().participant(&"melody".parse().unwrap());
    let levelling = (trial.room().levelling().unwrap(), melody.levelling().unwrap());
    assert_eq!(levelling, (Some(Levelling::On), Some(Levelling::Off)));
    let bob = Ear::of(&trial, "bob");
    alice.wait_for_a_second("silence", |peak| peak == 0);
    drop(bob);
    alice.wait_for_a_second("the melody again", |peak| peak > 100);
}

#[test]
fn echo_repeats_speech_of_the_only_listener() {
    let trial = Trial::start(&[]);
    let echo = trial.room().participant(&"echo".parse().unwrap());
    assert_eq!(
        echo.gains().unwrap(),
        [PersonalGain::mute("melody".parse().unwrap())],
        "the echo must not repeat the melody"
    );
    let mut alice = Ear::of(&trial, "alice");
    alice.wait_for_a_second("the melody", |peak| peak > 0);
    let mut mic =
        PipeWriter::open(&trial.room().participant(&"alice".parse().unwrap()).mic(), Format::default()).unwrap();
    let speech: Vec<i16> = (0..480).map(|n| if n % 60 < 30 { 20_000 } else { -20_000 }).collect();
    for _ in 0..50 {
        // Samples that don't fit into the pipe are dropped.
        let _ = mic.write(&speech);
        std::thread::sleep(Duration::from_millis(20));
    }
    // Only the echo can be this loud: alice doesn't hear herself, and the melody is softer.
    let heard = (0..100).find(|_| alice.peak() > 9_000);
    assert!(heard.is_some(), "the echo didn't answer");
}
