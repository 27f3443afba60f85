//! Tests of the messages that a room keeps: for streams that return, and for participants who join later.

use crate::client::Records;
use crate::rig::{Feed, Rig};
use palabre_host::clock::boottime_ms;
use palabre_room::Message;
use std::time::Duration;

/// Stores a message in the room, as if bob had sent the message `age_ms` ago.
fn keep(rig: &Rig, id: &str, age_ms: u64) {
    let message = Message::new("bob".parse().unwrap(), "</b>, earlier").unwrap().with_id(id).unwrap();
    rig.room.keep_message(&message, boottime_ms().saturating_sub(age_ms)).unwrap();
}

/// Opens a stream. Returns the stream and the IDs of the kept messages at its beginning.
fn open(rig: &Rig, query: &str) -> (Records, Vec<String>) {
    let mut records = rig.connect().listen(rig, query);
    let mut ids = Vec::new();
    loop {
        let record = records.record();
        match record.kind {
            7 => ids = ids_of(&record.json),
            0 | 3 | 6 => {}
            // A stream of a silent room has a silence record after the list of people, and kept messages come next.
            _ => break,
        }
    }
    // The listener sends this message after the kept messages, so the next record can't be a record of kept messages.
    rig.room.tell(&Message::new("carol".parse().unwrap(), "now").unwrap()).unwrap();
    loop {
        let record = records.record();
        match record.kind {
            7 => ids = ids_of(&record.json),
            4 => return (records, ids),
            _ => {}
        }
    }
}

fn ids_of(json: &str) -> Vec<String> {
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    json["messages"].as_array().unwrap().iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect()
}

fn say(rig: &Rig, query: &str) -> u16 {
    rig.connect().post(&format!("/say{query}"), &rig.bearer(), b"x").status
}

#[test]
fn text_that_is_sent_again_with_its_id_gets_the_same_answer_and_is_received_once() {
    let rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    records.next_of(2);
    for query in ["?id=1", "?id=1", "?id=1&room=main", "?id=2"] {
        assert_eq!(say(&rig, query), 204, "{query}");
    }
    let received = [records.next_of(4).json, records.next_of(4).json];
    assert_eq!(received, ["1", "2"].map(|id| format!(r#"{{"from":"alice","text":"x","id":"{id}"}}"#)));
    assert_eq!(ids_of(&rig.connect().listen(&rig, "").next_of(7).json), ["1", "2"]);
}

#[test]
fn text_for_another_room_or_with_an_invalid_id_is_refused() {
    let rig = Rig::new();
    assert_eq!(say(&rig, "?id=1&room=other"), 409);
    for id in ["", "A", "a-b", "%00", &*"1".repeat(33)] {
        assert_eq!(say(&rig, &format!("?id={id}")), 400, "{id}");
    }
    assert!(rig.room.kept_messages(boottime_ms()).unwrap().is_empty());
}

#[test]
fn stream_that_returns_gets_the_texts_that_were_sent_meanwhile() {
    let rig = Rig::new();
    keep(&rig, "before", 60_000);
    let (records, ids) = open(&rig, "");
    assert_eq!(ids, ["before"], "a participant who joins later gets it too");
    drop(records);
    assert_eq!(say(&rig, "?id=meanwhile"), 204, "no stream is open");
    let now_ms = boottime_ms();
    for (query, expected) in [
        (format!("?from={now_ms}"), &["meanwhile"][..]),
        (format!("?from={}", now_ms - 59_000), &["before", "meanwhile"]),
        // This SEQ is later than the present time: the clock of the records began again at a restart of the machine.
        (format!("?from={}", now_ms + 1_000_000), &["before", "meanwhile"]),
        // A renewed stream gives no SEQ.
        ("?people=0123456789abcdef".into(), &["meanwhile"]),
    ] {
        assert_eq!(open(&rig, &query).1, expected, "{query}");
    }
}

#[test]
fn latecomer_gets_the_last_50_texts_with_their_age() {
    let rig = Rig::new();
    for number in 0..60_u64 {
        keep(&rig, &number.to_string(), 100_000 - 1000 * number);
    }
    let json: serde_json::Value = serde_json::from_str(&rig.connect().listen(&rig, "").next_of(7).json).unwrap();
    let messages = json["messages"].as_array().unwrap();
    assert_eq!((messages.len(), &messages[0]["id"], &messages[0]["text"]), (50, &"10".into(), &"</b>, earlier".into()));
    assert!((90_000..120_000).contains(&messages[0]["age_ms"].as_u64().unwrap()), "{}", messages[0]);
}

#[test]
fn latecomer_gets_no_earlier_texts_if_the_operator_says_so() {
    let rig = Rig::with("[room]\ntexts-for-latecomers = false\n");
    keep(&rig, "before", 5000);
    let (records, ids) = open(&rig, "");
    assert!(ids.is_empty(), "{ids:?}");
    drop(records);
    keep(&rig, "meanwhile", 0);
    for query in ["", "?from=1", "?people=0123456789abcdef"] {
        assert_eq!(open(&rig, query).1, ["meanwhile"], "{query}");
    }
    rig.room.end_meeting().unwrap();
    keep(&rig, "next", 5000);
    assert!(open(&rig, "?from=1").1.is_empty(), "alice joins this meeting only now");
}

#[test]
fn blocked_stream_gets_the_texts_that_it_missed() {
    let rig = Rig::new();
    let (mut blocked, mut other) = (rig.connect().listen(&rig, ""), rig.connect().listen(&rig, ""));
    blocked.next_of(2);
    let _feed = Feed::start(rig.ear(), 0, Duration::from_millis(1));
    // The other stream reads more sound than the blocked stream's buffers and the ring hold, then a message, then more sound.
    let mut read = |sounds: usize| (0..sounds).for_each(|_| drop(other.next_of(1)));
    read(300);
    assert_eq!(say(&rig, "?id=missed"), 204);
    read(30);
    assert_eq!(ids_of(&blocked.next_of(7).json), ["missed"]);
}

#[test]
fn reaction_is_sent_and_not_kept() {
    let rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    assert_eq!(rig.connect().post("/say?keep=no", &rig.bearer(), "👍".as_bytes()).status, 204);
    assert_eq!(records.next_of(4).json, r#"{"from":"alice","text":"👍"}"#);
    assert!(rig.room.kept_messages(boottime_ms()).unwrap().is_empty());
    assert_eq!(rig.connect().post("/say?keep=no&id=1", &rig.bearer(), b"x").status, 400);
}

#[test]
fn id_stands_for_one_text_only() {
    let rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    let status = |text: &str| rig.connect().post("/say?id=1", &rig.bearer(), text.as_bytes()).status;
    assert_eq!(["first", "first", "other"].map(status), [204, 204, 409]);
    assert_eq!(say(&rig, "?id=2"), 204);
    assert_eq!([records.next_of(4), records.next_of(4)].map(|record| record.json.contains("other")), [false, false]);
}

#[test]
fn text_is_sent_even_if_it_cannot_be_kept() {
    let rig = Rig::new();
    std::fs::create_dir(rig.room.path().join(".meeting/texts")).unwrap();
    let mut records = rig.connect().listen(&rig, "");
    assert_eq!(say(&rig, "?id=1"), 204);
    assert_eq!(records.next_of(4).json, r#"{"from":"alice","text":"x","id":"1"}"#);
}
