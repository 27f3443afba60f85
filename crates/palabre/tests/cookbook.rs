//! Runs the commands of docs/cookbook.md as they are printed there.
//!
//! The first line of a code block says what is expected. ```` ```sh heard ````: while the commands run, bob hears a tone of 1000 Hz.
//! ```` ```sh makes FILE ````: the commands run while a tone of 1000 Hz is played, and FILE then contains the tone.
//! ```` ```sh prints WORD ````: the commands print WORD while the tone is played.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use common::{palabre, sibling, stdout, wait_for};
use palabre_room::{Format, PipeReader, RoomDir, Start};
use palabre_sound::{measure, wav};
use palabre_testing::not_shown;

const DOCUMENT: &str = include_str!("../../../docs/cookbook.md");
const RATE_HZ: u32 = 24_000;
/// Minimum level in dBFS at which the tone counts as heard.
const HEARD_DBFS: f64 = -45.0;

struct Recipe {
    role: &'static str,
    object: &'static str,
    text: &'static str,
}

fn recipes() -> Vec<Recipe> {
    let blocks = DOCUMENT.split("```sh ").skip(1);
    let recipe = |block: &'static str| {
        let (tag, rest) = block.split_once('\n').unwrap();
        let (role, object) = tag.split_once(' ').unwrap_or((tag, ""));
        Recipe { role, object, text: rest.split_once("```").unwrap().0 }
    };
    blocks.map(recipe).collect()
}

/// Returns whether the programs of a recipe are installed.
fn can_run(recipe: &Recipe) -> bool {
    let words: Vec<&str> = recipe.text.split_whitespace().collect();
    ["ffmpeg", "sox"].into_iter().filter(|program| words.contains(program)).all(|program| {
        let is_installed =
            Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap().status.success();
        if !is_installed {
            let command = recipe.text.trim().lines().next().unwrap_or_default();
            not_shown(&format!("'{command}' of the cookbook"), &format!("there is no '{program}'"));
        }
        is_installed
    })
}

/// A mixer with bob in its room, and a working directory.
struct TestRoom {
    directory: tempfile::TempDir,
    mixer: Child,
    room: RoomDir,
}

impl TestRoom {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let room = RoomDir::new(directory.path().join("run/rooms/main"));
        room.create(Format::default()).unwrap();
        room.participant(&"bob".parse().unwrap()).create().unwrap();
        let rooms = directory.path().join("run/rooms");
        let mixer = Command::new(sibling("palabre-mixer")).arg("--rooms").arg(rooms).spawn().unwrap();
        let test = Self { directory, mixer, room };
        // A script `palabre` in PATH that uses the directories of this test.
        let program = palabre().get_program().to_str().unwrap().to_owned();
        let run = test.directory.path().join("run");
        let script = format!("#!/bin/sh\nexec '{program}' --run '{}' \"$@\"\n", run.display());
        fs::create_dir(test.path("bin")).unwrap();
        fs::write(test.path("bin/palabre"), script).unwrap();
        fs::set_permissions(test.path("bin/palabre"), fs::Permissions::from_mode(0o755)).unwrap();
        let tone = measure::tone(48_000, 1000.0, -20.0, 144_000);
        fs::write(test.path("talk.wav"), wav::little(48_000, &tone)).unwrap();
        // A WAV under the name of an Ogg file: the programs in the recipes detect the format from the content.
        symlink("talk.wav", test.path("talk.ogg")).unwrap();
        test
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn shell(&self, text: &str) -> Command {
        let text = text.replace("/run/palabre", self.path("run").to_str().unwrap());
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("timeout");
        command.args(["60", "sh", "-e", "-c", &text]).env("PATH", path).current_dir(self.directory.path());
        command.stdin(Stdio::null());
        command
    }

    /// Runs the commands while the tone is played.
    fn run_with_tone(&self, text: &str) -> Output {
        let mut tone = self.shell("exec palabre play talk.wav --name tone --loop").spawn().unwrap();
        wait_for("the tone", || {
            self.room.levels().unwrap().iter().any(|line| line.name.as_str() == "tone").then_some(())
        });
        let output = self.shell(text).output().unwrap();
        common::signal(tone.id(), "TERM");
        tone.wait().unwrap();
        output
    }

    /// Runs the commands and returns the maximum level of the tone that bob hears.
    fn hear(&self, text: &str) -> f64 {
        let ear = self.room.participant(&"bob".parse().unwrap()).ear();
        let mut ear = PipeReader::open(&ear, Format::default(), Start::Discard).unwrap();
        let mut heard = Vec::new();
        let mut child = self.shell(text).spawn().unwrap();
        let status = wait_for("the end", || {
            ear.read(Instant::now(), &mut heard, 1 << 16).unwrap();
            child.try_wait().unwrap()
        });
        assert!(status.success(), "{text}");
        max_level(&heard)
    }

    /// Decodes a file.
    fn samples(&self, name: &str) -> Vec<i16> {
        let path = self.path(name);
        let bytes = if path.extension().is_some_and(|extension| extension == "wav") {
            fs::read(&path).unwrap()[44..].to_vec()
        } else {
            let mut ffmpeg = Command::new("ffmpeg");
            ffmpeg.args(["-loglevel", "error", "-i"]).arg(&path).args(["-f", "s16le", "-ar", "24000", "-ac", "1", "-"]);
            ffmpeg.stdin(Stdio::null()).output().unwrap().stdout
        };
        bytes.chunks_exact(2).map(|sample| i16::from_le_bytes([sample[0], sample[1]])).collect()
    }
}

impl Drop for TestRoom {
    fn drop(&mut self) {
        let _ = self.mixer.kill();
        let _ = self.mixer.wait();
    }
}

/// Returns the maximum level of the tone in pieces of 2400 samples. The rate of the samples is unknown, so each of the usual rates is tried.
fn max_level(samples: &[i16]) -> f64 {
    let level = |piece: &[i16]| {
        [24_000, 44_100, 48_000]
            .map(|hz| measure::goertzel_dbfs(piece, hz, 1000.0))
            .into_iter()
            .fold(f64::MIN, f64::max)
    };
    samples.chunks_exact(RATE_HZ as usize / 10).map(level).fold(f64::MIN, f64::max)
}

#[test]
fn every_recipe_works_as_printed() {
    let recipes = recipes();
    assert!(recipes.len() >= 12, "{}", recipes.len());
    let test = TestRoom::new();
    for Recipe { role, object, text } in recipes.iter().filter(|recipe| can_run(recipe)) {
        match *role {
            "heard" => {
                let level = test.hear(text);
                assert!(level > HEARD_DBFS, "{level} dBFS\n{text}");
            }
            "makes" => {
                stdout(&test.run_with_tone(text));
                let level = max_level(&test.samples(object));
                assert!(Path::new(object).extension().is_some() && level > HEARD_DBFS, "{level} dBFS\n{text}");
            }
            "prints" => {
                let printed = stdout(&test.run_with_tone(text));
                assert!(printed.contains(object), "{printed}\n{text}");
            }
            other => panic!("unknown kind of recipe '{other}'"),
        }
        let participants: Vec<String> = test.room.participants().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(participants, ["bob"], "{text}");
    }
}
