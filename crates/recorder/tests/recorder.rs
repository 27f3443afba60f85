//! The real recorder, with the test in the mixer's place.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use palabre_host::clock;
use palabre_room::{Format, Name, RecordingWriter, RoomDir, Wrote};
use palabre_sound::wav::Head;

const PATIENCE: Duration = Duration::from_secs(30);

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

    /// By another program, whose last arguments are the recorder's.
    fn recorder_by(&self, by: &[&str], more: &[&str]) -> Recorder {
        let words = [by, &[env!("CARGO_BIN_EXE_palabre-recorder")]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(self.arguments(more)).env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
        Recorder(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    fn writer(&self) -> RecordingWriter {
        wait_for("the recorder", || RecordingWriter::open(&self.room.recording()).ok())
    }

    /// The samples that a file's head tells of, which must be there.
    fn told(&self, name: &str) -> Vec<i16> {
        told(&self.out().join(name)).unwrap()
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

    fn said(&mut self) -> String {
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
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn told(path: &Path) -> Option<Vec<i16>> {
    let bytes = std::fs::read(path).ok()?;
    let (_, told) = Head::read_with_size(&mut &bytes[..]).ok()?;
    assert!(told as usize <= bytes.len() - 44, "{} tells too much", path.display());
    Some(bytes[44..44 + told as usize].chunks_exact(2).map(|x| i16::from_le_bytes([x[0], x[1]])).collect())
}

fn name(name: &str) -> Name {
    name.parse().unwrap()
}

/// Where samples of this value begin.
fn begin(samples: &[i16], value: i16) -> usize {
    samples.iter().position(|&x| x == value).unwrap()
}

/// Everybody says a frame now; all of them at the same time.
fn say(writer: &mut RecordingWriter, values: &[(&str, i16)]) -> Duration {
    let at = clock::monotonic();
    for (who, value) in values {
        assert_eq!(writer.write(at, &name(who), &[*value; 480]), Wrote::Whole);
    }
    at
}

#[test]
fn tracks_are_aligned_to_the_sample_and_complete_after_the_end() {
    let studio = Studio::new();
    let mut recorder = studio.recorder(&[]);
    let mut writer = studio.writer();
    say(&mut writer, &[("alice", 100)]);
    std::thread::sleep(Duration::from_millis(200));
    say(&mut writer, &[("alice", 200), ("bob", 300)]);
    recorder.signal("TERM");
    assert!(recorder.ended().success());
    let (alice, bob, room) = (studio.told("alice.wav"), studio.told("bob.wav"), studio.told("_room.wav"));
    assert_eq!(begin(&alice, 200), begin(&bob, 300));
    assert_eq!((begin(&room, 100), begin(&room, 500)), (begin(&alice, 100), begin(&alice, 200)));
    assert!(alice.len() == bob.len() && bob.len() == room.len());
    assert!(!studio.room.recording().exists(), "the room is no longer recorded");
}

#[test]
fn a_kill_costs_a_second_at_most_and_the_next_run_goes_on() {
    let studio = Studio::new();
    let began = clock::monotonic().as_millis().to_string();
    let mut recorder = studio.recorder(&["--began-ms", &began]);
    let mut writer = studio.writer();
    let first = say(&mut writer, &[("alice", 100)]);
    wait_for("the word on the disk", || told(&studio.out().join("alice.wav")).filter(|told| told.contains(&100)));
    recorder.signal("KILL");
    recorder.ended();
    assert!(studio.told("alice.wav").contains(&100));
    assert!(studio.room.recording().exists(), "it had no time to clean up");
    let mut recorder = studio.recorder(&["--began-ms", &began]);
    // The pipe that was left behind has no reader.
    let mut writer = studio.writer();
    let second = say(&mut writer, &[("alice", 200), ("bob", 300)]);
    recorder.signal("TERM");
    assert!(recorder.ended().success());
    let (alice, bob) = (studio.told("alice.wav"), studio.told("bob.wav"));
    let apart = (begin(&alice, 200) - begin(&alice, 100)) as f64 / 24.0;
    assert!((apart - (second - first).as_secs_f64() * 1000.0).abs() < 0.1, "{apart} ms");
    assert_eq!(begin(&alice, 200), begin(&bob, 300));
}

#[test]
fn a_full_disk_ends_it_with_an_alarm_and_leaves_wavs() {
    let studio = Studio::new();
    // No file may be longer than half a second of sound; who writes more is told so instead of killed.
    let mut recorder = studio.recorder_by(&["sh", "-c", "trap '' XFSZ; ulimit -f 48; exec \"$@\"", "sh"], &[]);
    let mut writer = studio.writer();
    say(&mut writer, &[("alice", 100)]);
    assert_eq!(recorder.ended().code(), Some(1));
    let said = recorder.said();
    assert!(said.contains("unable to go on recording: ") && said.contains("File too large"), "{said}");
    assert!(studio.told("alice.wav").contains(&100));
    assert!(!studio.room.recording().exists(), "the room is no longer recorded");
    assert_eq!(writer.write(Duration::ZERO, &name("alice"), &[0; 480]), Wrote::Gone);
}

#[test]
fn a_room_is_recorded_once_at_a_time() {
    let studio = Studio::new();
    let _first = studio.recorder(&[]);
    drop(studio.writer());
    let mut second = studio.recorder(&[]);
    assert_eq!(second.ended().code(), Some(1));
    assert!(second.said().contains("another process is recording this room"));
    assert!(RecordingWriter::open(&studio.room.recording()).is_ok(), "the first goes on");
}

#[test]
fn who_removes_the_pipe_ends_the_recording() {
    let studio = Studio::new();
    let mut recorder = studio.recorder(&[]);
    drop(studio.writer());
    std::fs::remove_file(studio.room.recording()).unwrap();
    assert_eq!(recorder.ended().code(), Some(1));
}
