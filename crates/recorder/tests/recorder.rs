//! Tests of the real `palabre-recorder`. The tests act as the mixer.
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use palabre_host::clock;
use palabre_room::{Format, Name, RecordingWriter, RoomDir, Wrote};
use palabre_sound::wav::Head;

/// Timeout for every wait in these tests.
const TIMEOUT: Duration = Duration::from_secs(30);

struct Studio {
    directory: tempfile::TempDir,
    room: RoomDir,
}

impl Studio {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let room = RoomDir::new(directory.path().join("rooms/main"));
        room.create(Format::default()).unwrap();
        Self { directory, room }
    }

    fn out(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let (run, out) = (self.directory.path().to_str().unwrap().to_owned(), self.out().to_str().unwrap().to_owned());
        let all = ["main", "--run", &run, "--out", &out].into_iter().chain(more.iter().copied());
        all.map(str::to_owned).collect()
    }

    fn recorder(&self, more: &[&str]) -> Recorder {
        self.recorder_by(&[], more)
    }

    /// Starts the recorder, by the program `by` if `by` isn't empty. The recorder's command line is then appended to the program's arguments.
    fn recorder_by(&self, by: &[&str], more: &[&str]) -> Recorder {
        let words = [by, &[env!("CARGO_BIN_EXE_palabre-recorder")]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(self.arguments(more)).env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
        Recorder(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    fn writer(&self) -> RecordingWriter {
        wait_for("the recorder", || RecordingWriter::open(&self.room.recording()).ok())
    }

    /// Returns the samples of a WAV file up to the length in the file's header.
    fn recorded(&self, name: &str) -> Vec<i16> {
        recorded(&self.out().join(name)).unwrap()
    }
}

struct Recorder(Child);

impl Recorder {
    fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.0.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    fn ended(&mut self) -> ExitStatus {
        wait_for("the recorder's end", || self.0.try_wait().unwrap())
    }

    fn log(&mut self) -> String {
        std::io::read_to_string(self.0.stderr.take().unwrap()).unwrap()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn recorded(path: &Path) -> Option<Vec<i16>> {
    let bytes = std::fs::read(path).ok()?;
    let length = Head::read(&mut &bytes[..]).ok()?.data_bytes? as usize;
    assert!(length <= bytes.len() - 44, "{} is shorter than its header says", path.display());
    Some(bytes[44..44 + length].chunks_exact(2).map(|x| i16::from_le_bytes([x[0], x[1]])).collect())
}

fn name(name: &str) -> Name {
    name.parse().unwrap()
}

/// Returns the index of the first sample with this value.
fn begin(samples: &[i16], value: i16) -> usize {
    samples.iter().position(|&x| x == value).unwrap()
}

/// Writes a frame of each participant for the same tick. Returns the time of the tick.
fn say(writer: &mut RecordingWriter, values: &[(&str, i16)]) -> Duration {
    let at = clock::monotonic();
    for (who, value) in values {
        assert_eq!(writer.write(at, &name(who), &[*value; 480]), Wrote::Whole);
    }
    at
}

#[test]
fn tracks_are_aligned_to_the_sample_and_complete() {
    let studio = Studio::new();
    let mut recorder = studio.recorder(&[]);
    let mut writer = studio.writer();
    say(&mut writer, &[("alice", 100)]);
    std::thread::sleep(Duration::from_millis(200));
    say(&mut writer, &[("alice", 200), ("bob", 300)]);
    recorder.signal("TERM");
    assert!(recorder.ended().success());
    let (alice, bob, room) = (studio.recorded("alice.wav"), studio.recorded("bob.wav"), studio.recorded("_room.wav"));
    assert_eq!(begin(&alice, 200), begin(&bob, 300));
    assert_eq!((begin(&room, 100), begin(&room, 500)), (begin(&alice, 100), begin(&alice, 200)));
    assert!(alice.len() == bob.len() && bob.len() == room.len());
    assert!(!studio.room.recording().exists(), "the room is no longer recorded");
}

#[test]
fn system_calls_of_the_recorder_are_filtered_and_it_gains_no_privileges() {
    let studio = Studio::new();
    let recorder = studio.recorder(&[]);
    wait_for("the sandbox", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", recorder.0.id())).unwrap();
        let has = |line: &str| status.lines().any(|it| it == line);
        (has("Seccomp:\t2") && has("NoNewPrivs:\t1")).then_some(())
    });
}

#[test]
fn recording_continues_after_a_kill() {
    let studio = Studio::new();
    let began = clock::monotonic().as_millis().to_string();
    let mut recorder = studio.recorder(&["--began-ms", &began]);
    let mut writer = studio.writer();
    let first = say(&mut writer, &[("alice", 100)]);
    wait_for("the frame in the file", || {
        recorded(&studio.out().join("alice.wav")).filter(|samples| samples.contains(&100))
    });
    recorder.signal("KILL");
    recorder.ended();
    assert!(studio.recorded("alice.wav").contains(&100));
    assert!(studio.room.recording().exists(), "a killed recorder leaves its pipe");
    let mut recorder = studio.recorder(&["--began-ms", &began]);
    // This waits until the new recorder has replaced the pipe: the old pipe has no reader and can't be opened.
    let mut writer = studio.writer();
    let second = say(&mut writer, &[("alice", 200), ("bob", 300)]);
    recorder.signal("TERM");
    assert!(recorder.ended().success());
    let (alice, bob) = (studio.recorded("alice.wav"), studio.recorded("bob.wav"));
    let apart = (begin(&alice, 200) - begin(&alice, 100)) as f64 / 24.0;
    assert!((apart - (second - first).as_secs_f64() * 1000.0).abs() < 0.1, "{apart} ms");
    assert_eq!(begin(&alice, 200), begin(&bob, 300));
}

#[test]
fn full_disk_ends_the_recording_and_leaves_valid_files() {
    let studio = Studio::new();
    // Limit files to half a second of sound. With SIGXFSZ ignored, a longer write fails instead of killing the recorder.
    let mut recorder = studio.recorder_by(&["sh", "-c", "trap '' XFSZ; ulimit -f 48; exec \"$@\"", "sh"], &[]);
    let mut writer = studio.writer();
    say(&mut writer, &[("alice", 100)]);
    assert_eq!(recorder.ended().code(), Some(1));
    let log = recorder.log();
    assert!(log.contains("unable to continue the recording in ") && log.contains("File too large"), "{log}");
    assert!(studio.recorded("alice.wav").contains(&100));
    assert!(!studio.room.recording().exists(), "the room is no longer recorded");
    assert_eq!(writer.write(Duration::ZERO, &name("alice"), &[0; 480]), Wrote::Gone);
}

#[test]
fn refused_recorder_leaves_the_recording_undisturbed() {
    let studio = Studio::new();
    let mut first = studio.recorder(&[]);
    let mut writer = studio.writer();
    let pipe = || std::fs::metadata(studio.room.recording()).unwrap().ino();
    let before = pipe();
    say(&mut writer, &[("alice", 100)]);
    let mut second = studio.recorder(&[]);
    assert_eq!(second.ended().code(), Some(1));
    let log = second.log();
    assert!(log.contains("another process is recording this room"), "{log}");
    assert_eq!(pipe(), before, "the pipe was replaced");
    say(&mut writer, &[("alice", 200)]);
    first.signal("TERM");
    assert!(first.ended().success());
    let alice = studio.recorded("alice.wav");
    assert!(alice.contains(&100) && alice.contains(&200));
}

#[test]
fn removing_the_pipe_ends_the_recording() {
    let studio = Studio::new();
    let mut recorder = studio.recorder(&[]);
    drop(studio.writer());
    std::fs::remove_file(studio.room.recording()).unwrap();
    assert_eq!(recorder.ended().code(), Some(1));
}
