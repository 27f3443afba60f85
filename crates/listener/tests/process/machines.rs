//! Tests of a room that is shared with other machines. The tests act as the program that connects the machines.

use crate::rig::{Feed, Rig, wait_for};
use palabre_room::{Inbox, MachineState, Message};

const FRAME: std::time::Duration = std::time::Duration::from_millis(20);
const ALICE_OF_PARIS: &str = "connected\nalice\there hand\t-\tAlice B.\n";

fn write(rig: &Rig, machine: &str, text: &str) {
    let state: MachineState = text.parse().unwrap();
    rig.room.other_machines().write(&machine.parse().unwrap(), &state).unwrap();
}

#[test]
fn people_of_other_machines_join_talk_are_cut_off_and_come_back() {
    let rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    assert_eq!(records.next_of(3).json, r#"{"people":[{"name":"alice","display":"Alice"}]}"#);
    let _feed = Feed::start(rig.ear(), 0, FRAME);
    write(&rig, "paris", ALICE_OF_PARIS);
    let with_paris = r#"{"people":[{"name":"alice","display":"Alice"},{"name":"alice@paris","display":"Alice B."}],"machines":[{"name":"paris"}]}"#;
    let joined = records.next_of(3);
    assert_eq!((joined.json.as_str(), joined.marks), (with_paris, vec![(u16::MAX, 1), (1, 3)]));
    write(&rig, "paris", &ALICE_OF_PARIS.replace("\t-\t", "\ttalking -21.3\t"));
    wait_for(|| records.record().marks.contains(&(1, 21)).then_some(()));
    write(&rig, "paris", &ALICE_OF_PARIS.replace("connected", "cut-off"));
    let cut_off = with_paris.replace(r#""name":"paris""#, r#""name":"paris","cut_off":true"#);
    assert_eq!(records.next_of(3).json, cut_off);
    // A stream that begins now gets the same list.
    let mut later = rig.connect().listen(&rig, "");
    assert_eq!(later.next_of(3).json, cut_off);
    write(&rig, "paris", &ALICE_OF_PARIS.replace(" hand", " muted"));
    let back = records.next_of(3);
    assert_eq!((back.json.as_str(), back.marks), (with_paris, vec![(u16::MAX, 1), (1, 5)]));
    rig.room.other_machines().remove(&"paris".parse().unwrap()).unwrap();
    assert!(!records.next_of(3).json.contains("paris"));
}

#[test]
fn recording_on_another_machine_is_shown_before_joining_and_in_the_room() {
    let rig = Rig::new();
    assert!(!rig.connect().get(&rig, "/me").text().contains("recording"));
    write(&rig, "paris", "connected recorded\n");
    assert!(rig.connect().get(&rig, "/me").text().contains(r#""recording":true"#));
    assert!(rig.connect().listen(&rig, "").next_of(3).json.contains(r#""recording":true"#));
}

#[test]
fn texts_go_to_other_machines_and_come_from_them() {
    let rig = Rig::new();
    rig.room.machines().create(&[]).unwrap();
    let bridge = Inbox::bind_for_machines(&rig.room.machines()).unwrap();
    let mut records = rig.connect().listen(&rig, "");
    records.next_of(2);
    assert_eq!(rig.connect().post("/say?id=7f", &rig.bearer(), "à tous".as_bytes()).status, 204);
    assert_eq!(records.next_of(4).json, r#"{"from":"alice","text":"à tous","id":"7f"}"#);
    let sent = Message::new("alice".parse().unwrap(), "à tous").unwrap().with_id("7f").unwrap();
    assert_eq!(bridge.receive(9), (1, vec![sent]));
    // A message by the alice of the machine paris may have the same ID.
    let theirs = Message::new("alice@paris".parse().unwrap(), "bonjour").unwrap().with_id("7f").unwrap();
    rig.room.keep_message(&theirs, palabre_host::clock::boottime_ms()).unwrap();
    rig.room.tell(&theirs).unwrap();
    assert_eq!(records.next_of(4).json, r#"{"from":"alice@paris","text":"bonjour","id":"7f"}"#);
    assert_eq!(bridge.receive(9).0, 0, "a message from another machine is not sent back");
    assert!(rig.connect().listen(&rig, "").next_of(7).json.contains(r#"{"from":"alice@paris","text":"bonjour""#));
}
