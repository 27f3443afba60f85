//! The real mixer with real pipes in a directory of its own, and voices that speak in bursts.
//!
//! A voice writes 200 ms at once and the mixer's buffer plays it in real time, so no test depends on how punctual the test
//! itself is. The mixer must be: where the machine didn't let it run for so long that it says itself that sound was lost,
//! nothing can be said about it, and the test is begun anew ([`steadily`]).

#![allow(dead_code, clippy::unwrap_used)]

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use palabre_room::{Format, Name, ParticipantDir, PipeReader, PipeWriter, RoomDir, Start, Wrote};
use palabre_sound::measure;
use tempfile::TempDir;

pub const RATE_HZ: u32 = 24_000;
pub const FRAME: usize = 480;
/// What a burst holds: 200 ms.
pub const BURST: usize = 4_800;
/// Nothing takes as long; it ends a test that would wait for ever.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// By so many samples the limiter's look-ahead delays everything.
pub const LOOK_AHEAD: usize = 120;
/// The level of every voice, RMS.
pub const DBFS: f64 = -23.0;
/// Below this a tone isn't there.
pub const ABSENT_DBFS: f64 = -60.0;

pub fn name(name: &str) -> Name {
    name.parse().unwrap()
}

/// Waits for `ready`, which is asked again and again.
pub fn wait_until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

thread_local! {
    static STARVED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test, and once more when it fails while the mixer itself says that it was not run in time.
pub fn steadily(test: impl Fn()) {
    const TIMES: usize = 12;
    for time in 1..=TIMES {
        STARVED.set(false);
        match catch_unwind(AssertUnwindSafe(&test)) {
            Ok(()) => return,
            Err(_) if STARVED.get() && time < TIMES => eprintln!("the mixer was not run in time; once more"),
            Err(failure) => resume_unwind(failure),
        }
    }
}

/// A running mixer and its directory.
pub struct Mixer {
    pub child: Child,
    pub dir: TempDir,
    log: Receiver<String>,
    pub logged: Vec<String>,
}

impl Mixer {
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    pub fn start_in(dir: TempDir) -> Self {
        Self::start_in_by(dir, &[])
    }

    /// By another program, whose last argument is the mixer.
    pub fn start_by(by: &[&str]) -> Self {
        Self::start_in_by(tempfile::tempdir().unwrap(), by)
    }

    fn start_in_by(dir: TempDir, by: &[&str]) -> Self {
        let words = [by, &[env!("CARGO_BIN_EXE_palabre-mixer")]].concat();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .arg("-vv")
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
        Self { child, dir, log, logged: Vec::new() }
    }

    pub fn room(&self, room: &str) -> Room {
        let dir = RoomDir::new(self.dir.path().join(room));
        dir.create(Format::default()).unwrap();
        Room { dir }
    }

    pub fn signal(&self, signal: &str) {
        signal_process(self.child.id(), signal);
    }

    /// Waits for a line of the log that holds `text`.
    pub fn wait_for_log(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("waited in vain for '{text}' in {:#?}", self.logged));
            self.logged.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Whether it had to throw sound away because it was late. Never panics.
    fn was_starved(&mut self) -> bool {
        let _ = Command::new("kill").arg("-USR1").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(5);
        while let Ok(line) = self.log.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            let lost = ["skipped_ticks=", "cut_ms=", "underruns="];
            let starved = line
                .split_whitespace()
                .any(|word| lost.iter().any(|lost| word.strip_prefix(lost).is_some_and(|value| value != "0")));
            let last = line.contains("wakeups=");
            self.logged.push(line);
            if last {
                return starved;
            }
        }
        false
    }

    /// One of the counters that are logged on SIGUSR1.
    pub fn counter(&mut self, counter: &str) -> u64 {
        self.signal("USR1");
        let line = self.wait_for_log("wakeups=");
        let value = line.split_whitespace().find_map(|word| word.strip_prefix(counter)?.strip_prefix('='));
        value.unwrap().parse().unwrap()
    }
}

impl Drop for Mixer {
    fn drop(&mut self) {
        if std::thread::panicking() && self.was_starved() {
            STARVED.set(true);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.logged.extend(self.log.try_iter());
        if std::thread::panicking() {
            eprintln!("the mixer said: {:#?}", self.logged);
        }
    }
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

    /// A participant with open pipes whom the mixer reads.
    pub fn join(&self, who: &str) -> Person {
        Person::open(&self.participant(who))
    }
}

/// Somebody who speaks and hears.
pub struct Person {
    pub mic: PipeWriter,
    pub ear: PipeReader,
    pub heard: Vec<i16>,
}

impl Person {
    pub fn open(dir: &ParticipantDir) -> Self {
        // The ear first: when the mixer reads the microphone it has seen that somebody listens.
        let ear = PipeReader::open(&dir.ear(), Format::default(), Start::Discard).unwrap();
        Self { mic: open_mic(&dir.mic()), ear, heard: Vec::new() }
    }

    /// Says 200 ms of a tone, all at once.
    pub fn say(&mut self, freq_hz: f64) {
        self.say_samples(&measure::tone(RATE_HZ, freq_hz, DBFS, BURST));
    }

    pub fn say_samples(&mut self, samples: &[i16]) {
        assert_eq!(self.mic.write(samples), Wrote::Whole);
    }

    /// Takes what is there now.
    pub fn listen(&mut self) {
        while self.ear.read(Instant::now(), &mut self.heard, 1 << 16).unwrap() > 0 {}
    }

    /// Listens until `samples` have been heard.
    pub fn hear(&mut self, samples: usize) {
        while self.heard.len() < samples {
            let more = palabre_host::wait::is_readable(&self.ear, PATIENCE / 4).unwrap();
            assert!(more, "heard {} of {samples} samples", self.heard.len());
            self.listen();
        }
    }

    /// The level of a tone in what was heard.
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

/// Opens a microphone as soon as the mixer reads it.
pub fn open_mic(path: &Path) -> PipeWriter {
    wait_until("a reader of the microphone", || PipeWriter::open(path, Format::default()).ok())
}

/// Waits until the room says that nobody's sound flows any more.
pub fn wait_for_silence(room: &Room) {
    wait_until("levels to be empty", || room.dir.levels().ok()?.is_empty().then_some(()));
}
