//! Unit tests of the roster. The listeners are real processes that run and send nothing.

use super::*;
use crate::cli::Cli;
use clap::Parser;
use palabre_config::{Key, PARTICIPANTS_DIR};
use std::time::Duration;

/// Returns the roster of one participant, alice, and its directory.
fn roster(now: Instant) -> (tempfile::TempDir, Roster) {
    let dir = tempfile::tempdir().unwrap();
    let (path, listener) = (dir.path().to_str().unwrap(), concat!(env!("CARGO_MANIFEST_DIR"), "/tests/never-ready"));
    std::fs::write(dir.path().join("palabre.toml"), "bind = \"127.0.0.1\"\n").unwrap();
    std::fs::create_dir(dir.path().join(PARTICIPANTS_DIR)).unwrap();
    Participant::new("alice".parse().unwrap(), 0, Key::generate().unwrap().hash()).write(dir.path()).unwrap();
    let cli = Cli::parse_from(["x", "--config", path, "--run", path, "--listener", listener]);
    let roster = Roster::open(Config::new(&cli, None).unwrap(), &mut Inherited::default(), now);
    (dir, roster)
}

/// Ends all listeners.
fn end(mut roster: Roster, now: Instant) {
    roster.stop(now);
    let end = now + Duration::from_secs(60);
    while !roster.is_empty() {
        roster.reap(end);
        roster.tick(end);
        std::thread::yield_now();
    }
}

#[test]
fn kept_messages_are_removed_some_minutes_after_the_last_participant_has_left() {
    let now = Instant::now();
    let (dir, mut roster) = roster(now);
    let room = palabre_room::RoomDir::new(dir.path().join("rooms/main"));
    let message = palabre_room::Message::new("alice".parse().unwrap(), "x").unwrap().with_id("1").unwrap();
    room.keep_message(&message, 5).unwrap();
    roster.tick(now + Duration::from_secs(299));
    assert_eq!(room.kept_messages(5).unwrap().len(), 1);
    roster.tick(now + Duration::from_secs(301));
    assert!(room.kept_messages(5).unwrap().is_empty());
    end(roster, now);
}

#[test]
fn end_of_the_supervisor_leaves_no_room_marked_as_without_mixer() {
    let now = Instant::now();
    let (dir, mut roster) = roster(now);
    let mark = dir.path().join("rooms/main").join(palabre_room::NO_MIXER);
    roster.set_mixer(MixerState::Missing);
    assert!(mark.exists());
    roster.stop(now);
    assert!(!mark.exists());
    roster.set_mixer(MixerState::Stopped);
    assert!(!mark.exists(), "a later event of the mixer has marked the room");
    end(roster, now);
}
