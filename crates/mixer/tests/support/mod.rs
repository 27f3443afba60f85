//! Runs the real mixer with real pipes in a temporary directory.
//!
//! Participants speak in bursts of 200 ms. The mixer buffers a burst and plays it in real time. So the mix doesn't change if the test is
//! late, or if the mixer is late by less than a burst. Tests run one at a time, so that they don't disturb each other.

#![allow(dead_code, clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use palabre_room::{Format, Name, ParticipantDir, PipeReader, PipeWriter, RoomDir, Start, Wrote};
use palabre_sound::measure;
pub use palabre_testing::{TIMEOUT, wait_until};
use palabre_testing::{Turn, turn};
use tempfile::TempDir;

pub const RATE_HZ: u32 = 24_000;
pub const FRAME: usize = 480;
/// Number of samples of a burst: 200 ms at 24 kHz.
pub const BURST: usize = 4_800;
/// Time without sound after which a burst has ended.
const PAUSE: Duration = Duration::from_millis(500);
/// Delay of the limiter, in samples.
pub const LOOK_AHEAD: usize = 120;
/// RMS level of every voice, in dBFS.
pub const DBFS: f64 = -23.0;
/// Maximum level in dBFS at which a tone counts as absent.
pub const ABSENT_DBFS: f64 = -60.0;

pub fn name(name: &str) -> Name {
    name.parse().unwrap()
}

/// A running mixer and its directory.
pub struct Mixer {
    pub child: Child,
    pub dir: TempDir,
    log: Receiver<String>,
    pub logged: Vec<String>,
    _turn: Turn,
}

impl Mixer {
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    pub fn start_in(dir: TempDir) -> Self {
        Self::start_in_by(dir, &[])
    }

    /// Starts another program, with the mixer's path as the last argument.
    pub fn start_by(by: &[&str]) -> Self {
        Self::start_in_by(tempfile::tempdir().unwrap(), by)
    }

    /// Starts another program in a directory, with the mixer's path as the last argument.
    pub fn start_in_by(dir: TempDir, by: &[&str]) -> Self {
        let turn = turn();
        let words = [by, &[env!("CARGO_BIN_EXE_palabre-mixer")]].concat();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .arg("-vv")
            .arg("--files")
            .arg(files_in(dir.path()))
            .arg("--rooms")
            .arg(dir.path())
            .env_remove("JOURNAL_STREAM")
            .env_remove("NOTIFY_SOCKET")
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { child, dir, log, logged: Vec::new(), _turn: turn }
    }

    pub fn room(&self, room: &str) -> Room {
        let dir = RoomDir::new(self.dir.path().join(room));
        dir.create(Format::default()).unwrap();
        Room { dir }
    }

    /// Returns the directory, not made yet, of the files to which a `mic` or an `ear` may be a symbolic link.
    pub fn files(&self) -> PathBuf {
        files_in(self.dir.path())
    }

    pub fn signal(&self, signal: &str) {
        signal_process(self.child.id(), signal);
    }

    /// Waits for a log line that contains `text`, and returns it.
    pub fn wait_for_log(&mut self, text: &str) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("timed out waiting for '{text}' in {:#?}", self.logged));
            self.logged.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Adds the counters to the log lines that a failed test prints. Never panics.
    fn log_counters(&mut self) {
        let _ = Command::new("kill").arg("-USR1").arg(self.child.id().to_string()).status();
        while let Ok(line) = self.log.recv_timeout(Duration::from_secs(5)) {
            let is_last = line.contains("wakeups=");
            self.logged.push(line);
            if is_last {
                return;
            }
        }
    }

    /// Returns one of the counters that the mixer logs on SIGUSR1.
    pub fn counter(&mut self, counter: &str) -> u64 {
        self.signal("USR1");
        let line = self.wait_for_log("wakeups=");
        let value = line.split_whitespace().find_map(|word| word.strip_prefix(counter)?.strip_prefix('='));
        value.unwrap().parse().unwrap()
    }
}

impl Drop for Mixer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.log_counters();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.logged.extend(self.log.try_iter());
        if std::thread::panicking() {
            eprintln!("log of the mixer: {:#?}", self.logged);
        }
    }
}

fn files_in(dir: &Path) -> PathBuf {
    dir.join(".files")
}

pub fn signal_process(pid: u32, signal: &str) {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().unwrap();
    assert!(status.success());
}

/// A room of a running mixer.
pub struct Room {
    pub dir: RoomDir,
}

impl Room {
    pub fn participant(&self, who: &str) -> ParticipantDir {
        let dir = self.dir.participant(&name(who));
        dir.create().unwrap();
        dir
    }

    /// A participant with open pipes, whose microphone the mixer reads.
    pub fn join(&self, who: &str) -> Person {
        Person::open(&self.participant(who))
    }
}

/// A participant that speaks and hears.
pub struct Person {
    pub mic: PipeWriter,
    pub ear: PipeReader,
    pub heard: Vec<i16>,
}

impl Person {
    pub fn open(dir: &ParticipantDir) -> Self {
        // Open the ear before the microphone. When the mixer reads the microphone, it has opened the ear too.
        let ear = PipeReader::open(&dir.ear(), Format::default(), Start::Discard).unwrap();
        Self { mic: open_mic(&dir.mic()), ear, heard: Vec::new() }
    }

    /// Writes a burst of a tone.
    pub fn say(&mut self, freq_hz: f64) {
        self.say_samples(&measure::tone(RATE_HZ, freq_hz, DBFS, BURST));
    }

    pub fn say_samples(&mut self, samples: &[i16]) {
        assert_eq!(self.mic.write(samples), Wrote::Whole);
    }

    /// Reads the samples that are in the ear now.
    pub fn listen(&mut self) {
        while self.ear.read(Instant::now(), &mut self.heard, 1 << 16).unwrap() > 0 {}
    }

    /// Reads the ear until the number of heard samples is at least `samples`. Panics if no more sound arrives in time.
    pub fn hear(&mut self, samples: usize) {
        while self.heard.len() < samples {
            let more = palabre_host::wait::is_readable(&self.ear, TIMEOUT / 4).unwrap();
            assert!(more, "heard {} of {samples} samples", self.heard.len());
            self.listen();
        }
    }

    /// Reads the ear until the number of heard samples is at least `samples`, or nothing arrives for half a second. For bursts one after another: on a busy machine, one of them may
    /// lose some frames.
    pub fn hear_or_pause(&mut self, samples: usize) {
        while self.heard.len() < samples && palabre_host::wait::is_readable(&self.ear, PAUSE).unwrap() {
            self.listen();
        }
    }

    /// Reads the ear until the room is silent. For bursts that may start at different times, since a test may be kept from running.
    pub fn hear_until_silence(&mut self, room: &Room) {
        self.hear(BURST);
        wait_for_silence(room);
        self.listen();
    }

    /// Returns the level of a tone in the samples that were read from the ear.
    pub fn level(&self, freq_hz: f64) -> f64 {
        measure::goertzel_dbfs(&self.heard, RATE_HZ, freq_hz)
    }

    pub fn hears(&self, freq_hz: f64) -> bool {
        self.level(freq_hz) > DBFS - 12.0
    }

    pub fn does_not_hear(&self, freq_hz: f64) -> bool {
        self.level(freq_hz) < ABSENT_DBFS
    }

    pub fn forget(&mut self) {
        self.listen();
        self.heard.clear();
    }
}

/// Opens a microphone for writing as soon as the mixer reads it.
pub fn open_mic(path: &Path) -> PipeWriter {
    wait_until("a reader of the microphone", || PipeWriter::open(path, Format::default()).ok())
}

/// Waits until `levels` of the room is empty.
pub fn wait_for_silence(room: &Room) {
    wait_until("levels to be empty", || room.dir.levels().ok()?.is_empty().then_some(()));
}
