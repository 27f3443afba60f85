//! Unit tests of the roster. The listeners are real processes that run and send nothing.

use super::*;
use crate::cli::Cli;
use clap::Parser;
use palabre_config::{Key, PARTICIPANTS_DIR};
use std::time::Duration;

/// Returns the roster of one participant, alice, and its directory.
fn roster(now: Instant) -> (tempfile::TempDir, Roster) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("palabre.toml"), "bind = \"127.0.0.1\"\n").unwrap();
    std::fs::create_dir(dir.path().join(PARTICIPANTS_DIR)).unwrap();
    write(dir.path(), "alice", None);
    let roster = open(dir.path(), now);
    (dir, roster)
}

/// Writes the file of a participant.
fn write(dir: &std::path::Path, name: &str, display: Option<&str>) {
    let participant = Participant::new(name.parse().unwrap(), 0, Key::generate().unwrap().hash());
    Participant { display_name: display.map(str::to_owned), ..participant }.write(dir).unwrap();
}

/// Opens a roster with the configuration, the runtime directory and the chosen names in `dir`.
fn open(dir: &std::path::Path, now: Instant) -> Roster {
    let (path, names) = (dir.to_str().unwrap(), dir.join("names"));
    let listener = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/never-ready");
    let paths = ["x", "--config", path, "--run", path, "--listener", listener, "--names", names.to_str().unwrap()];
    Roster::open(Config::new(&Cli::parse_from(paths), None).unwrap(), &mut Inherited::default(), now)
}

/// Ends all listeners.
fn end(mut roster: Roster, now: Instant) {
    roster.stop(now);
    let end = now + Duration::from_secs(60);
    while !roster.is_empty() {
        roster.note_ends();
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

/// Sends the request to show the participant as `display`, with the process ID of the participant's listener.
fn choose(roster: &mut Roster, name: &str, display: &str) -> Response {
    let name: Name = name.parse().unwrap();
    let pid = roster
        .status(None, Instant::now())
        .participants
        .iter()
        .find(|one| one.name == name.as_str())
        .unwrap()
        .pid
        .unwrap();
    roster.choose_name(pid, &name, Some(display), &Author::Signal)
}

/// Returns the display names in the file `names` of the room.
fn shown(dir: &std::path::Path) -> Vec<String> {
    let members = palabre_room::RoomDir::new(dir.join("rooms/main")).names().unwrap();
    members.into_iter().map(|member| member.display).collect()
}

#[test]
fn name_that_a_participant_chose_is_shown_until_the_operator_renames_the_participant() {
    let now = Instant::now();
    let (dir, mut roster) = roster(now);
    write(dir.path(), "bob", Some("Bob le Bricoleur"));
    let reload = |roster: &mut Roster| roster.reload(&Author::Signal, now);
    reload(&mut roster);
    assert!(matches!(choose(&mut roster, "alice", "Ali"), Response::Refused { .. }), "forbidden by default");
    std::fs::write(dir.path().join("palabre.toml"), "bind = \"127.0.0.1\"\n[room]\nown-display-names = true\n")
        .unwrap();
    reload(&mut roster);
    for taken in ["bob", "BOB LE BRICOLEUR", "Bob\u{200b}lebricoleur", "Ｂｏｂ\u{34f}"] {
        assert_eq!(choose(&mut roster, "alice", taken), Response::Taken, "{taken}");
    }
    assert!(matches!(choose(&mut roster, "alice", "\u{202e}"), Response::Refused { .. }));
    assert_eq!(choose(&mut roster, "alice", "Ali"), Response::Ok);
    assert_eq!(choose(&mut roster, "bob", "ali"), Response::Taken);
    reload(&mut roster);
    assert_eq!(shown(dir.path()), ["Ali", "Bob le Bricoleur"]);
    end(roster, now);

    let mut roster = open(dir.path(), now);
    assert_eq!(
        (shown(dir.path())[0].as_str(), roster.status(None, now).participants[0].display.as_str()),
        ("Ali", "Ali")
    );
    let chosen: Vec<bool> = roster.status(None, now).participants.iter().map(|one| one.display_chosen).collect();
    assert_eq!(chosen, [true, false]);
    // The operator gives the chosen name to another participant.
    write(dir.path(), "bob", Some("ALI"));
    reload(&mut roster);
    assert_eq!(shown(dir.path()), ["alice", "ALI"]);
    write(dir.path(), "bob", None);
    reload(&mut roster);
    assert_eq!(shown(dir.path()), ["Ali", "bob"]);
    let alice = "alice".parse().unwrap();
    assert_eq!(roster.choose_name(0, &alice, None, &Author::Signal), Response::Ok);
    reload(&mut roster);
    assert_eq!(shown(dir.path()), ["alice", "bob"]);
    end(roster, now);
}

#[test]
fn listener_cannot_choose_the_name_of_another_participant() {
    let now = Instant::now();
    let (dir, mut roster) = roster(now);
    std::fs::write(dir.path().join("palabre.toml"), "bind = \"127.0.0.1\"\n[room]\nown-display-names = true\n")
        .unwrap();
    write(dir.path(), "bob", None);
    roster.reload(&Author::Signal, now);
    let pid = roster.status(None, now).participants[0].pid.unwrap();
    let bob = "bob".parse().unwrap();
    assert!(matches!(roster.choose_name(pid, &bob, Some("B"), &Author::Signal), Response::Refused { .. }));
    end(roster, now);
}
