//! Tests of the injected stream.

use crate::client::{Record, Records};
use crate::rig::{Feed, Rig, wait_for, wait_for_exit};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use palabre_room::{Format, LevelLine, Member, MicState, Name, OpenError, PipeReader, PipeWriter, Start, Talk};
use std::time::Duration;

const FRAME: Duration = Duration::from_millis(20);

/// Checks sound records whose samples come from a [`Feed`]. The frames have consecutive numbers, except where GAP is 1.
struct Ramp {
    last: Option<i16>,
    seq: u64,
    gaps: usize,
}

impl Ramp {
    fn new() -> Self {
        Self { last: None, seq: 0, gaps: 0 }
    }

    fn check(&mut self, record: &Record) {
        assert!(record.seq > self.seq, "{} after {}", record.seq, self.seq);
        self.seq = record.seq;
        if record.kind != 1 {
            return;
        }
        let frames: Vec<i16> = record.samples.chunks(480).map(|frame| frame[0]).collect();
        assert!(record.samples.iter().enumerate().all(|(i, &sample)| sample == frames[i / 480]));
        match record.gap {
            true => self.gaps += 1,
            false => assert_eq!(Some(frames[0]), self.last.map(|last| last.wrapping_add(1))),
        }
        assert!(frames.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "{frames:?}");
        self.last = frames.last().copied();
    }

    fn follow(&mut self, records: &mut Records, sounds: usize) {
        let mut heard = 0;
        while heard < sounds {
            let record = records.record();
            self.check(&record);
            heard += usize::from(record.kind == 1);
        }
    }
}

#[test]
fn stream_begins_with_hello_and_people() {
    let rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    assert_eq!(records.answer.field("content-length"), Some("1000000000000"));
    assert_eq!(records.answer.field("content-type"), Some("text/html; charset=utf-8"));
    let policy = records.answer.field("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'self'"));
    assert!(records.prologue.starts_with("<!doctype html><meta charset=utf-8>"));
    let (hello, room, silence) = (records.record(), records.record(), records.record());
    assert_eq!((hello.kind, room.kind, silence.kind), (0, 3, 2));
    assert!(hello.json.starts_with("{\"name\":\"alice\""));
    assert_eq!(room.json, "{\"people\":[{\"name\":\"alice\",\"display\":\"Alice\"}]}");
    assert!(hello.seq < room.seq && room.seq < silence.seq);
    // The silence record is repeated.
    let again = records.record();
    assert_eq!(again.kind, 2);
    assert!(again.seq > silence.seq);
}

#[test]
fn sound_is_complete_and_silence_follows_it() {
    let rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    let mut ramp = Ramp::new();
    let feed = Feed::start(rig.ear(), 0, FRAME);
    ramp.follow(&mut records, 20);
    drop(feed);
    loop {
        let record = records.record();
        ramp.check(&record);
        if record.kind == 2 {
            break;
        }
    }
    let first_gaps = ramp.gaps;
    let _feed = Feed::start(rig.ear(), 1000, FRAME);
    let record = records.next_of(1);
    assert!(record.gap, "the first sound after a silence has a gap before it");
    ramp.check(&record);
    assert_eq!(ramp.gaps, first_gaps + 1);
}

#[test]
fn chunks_have_the_configured_length() {
    for (chunk_ms, samples) in [(20, 480), (1000, 24_000)] {
        let rig = Rig::with(&format!("[stream]\nchunk-ms = {chunk_ms}\n"));
        let mut records = rig.connect().listen(&rig, "");
        assert!(records.record().json.contains(&format!("\"chunk_ms\":{chunk_ms},")));
        let _feed = Feed::start(rig.ear(), 0, FRAME);
        // A chunk may be shorter before a silence record, which a busy machine may cause.
        let mut lengths = std::iter::repeat_with(|| records.next_of(1).samples.len());
        let whole = lengths.by_ref().take(30).inspect(|&length| assert!(length <= samples)).find(|&it| it == samples);
        assert!(whole.is_some(), "{chunk_ms} ms");
    }
}

#[test]
fn two_streams_get_the_same_records() {
    let rig = Rig::new();
    let mut one = rig.connect().listen(&rig, "");
    let mut two = rig.connect().listen(&rig, "");
    let _feed = Feed::start(rig.ear(), 0, FRAME);
    let (first, second) = (one.next_of(1), two.next_of(1));
    assert_eq!(first.raw, second.raw);
    for _ in 0..10 {
        assert_eq!(one.record(), two.record());
    }
}

#[test]
fn stream_with_from_continues_without_a_gap() {
    let rig = Rig::new();
    let mut old = rig.connect().listen(&rig, "");
    let _feed = Feed::start(rig.ear(), 0, FRAME);
    let mut ramp = Ramp::new();
    ramp.follow(&mut old, 5);
    let mut new = rig.connect().listen(&rig, &format!("?from={}", ramp.seq));
    let hello = new.record();
    assert_eq!(hello.kind, 0);
    let first = new.next_of(1);
    assert!(hello.seq < first.seq);
    ramp.check(&first);
    ramp.follow(&mut new, 20);
    drop(old);
    ramp.follow(&mut new, 5);
}

#[test]
fn stream_with_an_unknown_from_begins_now() {
    let rig = Rig::new();
    for from in ["0", "99999999999999"] {
        let mut records = rig.connect().listen(&rig, &format!("?from={from}"));
        assert_eq!(records.record().kind, 0);
        assert_eq!(records.record().kind, 3);
        assert_eq!(records.record().kind, 2);
    }
}

#[test]
fn blocked_stream_loses_only_its_own_sound() {
    let rig = Rig::new();
    let mut blocked = rig.connect().listen(&rig, "");
    let mut other = rig.connect().listen(&rig, "");
    // Feed frames faster than real time, to fill the buffers of the blocked stream.
    let feed = Feed::start(rig.ear(), 0, Duration::from_millis(4));
    let mut ramp = Ramp::new();
    // These chunks are about a megabyte, more than the kernel buffers for the blocked stream.
    ramp.follow(&mut other, 400);
    // The blocked stream gets the records in the kernel's buffers, then a gap and the newest sound.
    let mut late = Ramp::new();
    while late.gaps < 2 {
        late.follow(&mut blocked, 1);
    }
    drop(feed);
}

#[test]
fn stream_that_stays_blocked_is_closed() {
    let rig = Rig::new();
    let mut blocked = rig.connect().listen(&rig, "");
    rig.wait_for_status("streams=1 speaking=no");
    let feed = Feed::start(rig.ear(), 0, Duration::from_millis(4));
    // The listener closes the stream when a write has timed out, after 5 s.
    rig.wait_for_status("streams=0 speaking=no");
    drop(feed);
    assert!(blocked.client.is_closed());
}

#[test]
fn stream_above_the_limit_ends_only_a_stream_of_the_same_page() {
    let rig = Rig::with("[limits]\nstreams = 2\n");
    let mut first = rig.connect().listen(&rig, "?page=a");
    let mut second = rig.connect().listen(&rig, "?page=b");
    assert_eq!((first.record().kind, second.record().kind), (0, 0));
    for (method, target) in
        [("GET", "/listen"), ("GET", "/listen?page=c"), ("HEAD", "/listen?page=c"), ("GET", "/listen.wav")]
    {
        assert_eq!(rig.connect().request(method, target, &rig.bearer()).status, 429, "{method} {target}");
    }
    assert_eq!(rig.connect().request("GET", "/listen?page=A", &rig.bearer()).status, 400);
    let mut third = rig.connect().listen(&rig, "?page=a");
    assert!(first.client.is_closed());
    let _feed = Feed::start(rig.ear(), 0, FRAME);
    assert_eq!((second.next_of(1).kind, third.next_of(1).kind), (1, 1));
    drop(second);
    rig.wait_for_status("streams=1 speaking=no");
    assert_eq!(rig.connect().request("HEAD", "/listen?page=c", &rig.bearer()).status, 200);
}

/// A mark that sets the level of all people to 0.
const EVERYBODY: (u16, u8) = (u16::MAX, 0);

#[test]
fn changed_levels_and_names_are_sent() {
    let rig = Rig::new();
    let name = |text: &str| -> Name { text.parse().unwrap() };
    let member = |text: &str| Member::new(name(text), text.to_uppercase(), true);
    rig.room.write_names(&[member("alice"), member("carol")]).unwrap();
    let mut records = rig.connect().listen(&rig, "");
    let alice = LevelLine { name: name("alice"), state: Talk::Talking, dbfs: -20.6 };
    let carol = LevelLine { name: name("carol"), state: Talk::Muted, dbfs: f32::NEG_INFINITY };
    rig.room.write_levels(&[alice, carol]).unwrap();
    let all = [(u16::MAX, 21), (1, 255)];
    wait_for(|| (records.next_of(2).marks.ends_with(&all[1..])).then_some(()));
    // A new stream gets all levels with its first silence record.
    let mut late = rig.connect().listen(&rig, "");
    assert_eq!(late.next_of(2).marks, all);
    let _feed = Feed::start(rig.ear(), 0, FRAME);
    assert_eq!(records.next_of(1).marks, [], "nothing has changed");
    rig.room.write_levels(&[]).unwrap();
    wait_for(|| (records.next_of(1).marks == [(0, 0), (1, 0)]).then_some(()));
    let mut later = rig.connect().listen(&rig, "");
    // On a busy machine the feed may stand still when the stream begins; then its first record is one of silence.
    let first = wait_for(|| Some(later.record()).filter(|record| matches!(record.kind, 1 | 2)));
    assert_eq!(first.marks, [EVERYBODY], "a new stream gets all levels");
    let raised = Member { hand: 1, voice: MicState::Muted, ..member("alice") };
    rig.room.write_names(&[raised.clone(), member("carol")]).unwrap();
    assert_eq!(records.next_of(6).marks, [(0, 1 + 2 + 4 + 16)], "only the change is sent");
    rig.room.write_names(&[raised, Member::new(name("bob"), "</b><script>", true)]).unwrap();
    let room = records.next_of(3);
    let expected = r#"{"people":[{"name":"alice","display":"ALICE"},{"name":"bob","display":"</b><script>"}]}"#;
    assert_eq!((room.json.as_str(), &room.marks[..]), (expected, &[(u16::MAX, 1), (0, 7 + 16)][..]));
}

#[test]
fn locked_ear_is_silent_until_it_is_free() {
    let rig = Rig::new();
    let taken = PipeReader::open(&rig.ear_path(), Format::default(), Start::Discard).unwrap();
    let mut records = rig.connect().listen(&rig, "");
    assert_eq!([records.record().kind, records.record().kind, records.record().kind], [0, 3, 2]);
    assert_eq!(records.record().kind, 2);
    let _feed = Feed::start(rig.ear(), 0, FRAME);
    drop(taken);
    assert_eq!(records.next_of(1).kind, 1);
}

#[test]
fn ear_that_is_made_later_or_again_is_read() {
    // The listener runs without its sandbox, which would permit only the directory that existed when the listener started.
    let rig = Rig::with("[security]\nsandbox = \"off\"\n");
    let alice = rig.room.participant(&"alice".parse().unwrap());
    alice.remove().unwrap();
    let mut records = rig.connect().listen(&rig, "");
    assert_eq!(records.next_of(2).kind, 2);
    for _ in 0..2 {
        alice.create().unwrap();
        let feed = Feed::start(rig.ear(), 0, FRAME);
        records.next_of(1);
        drop(feed);
        records.next_of(2);
        alice.remove().unwrap();
    }
}

#[test]
fn listener_ends_when_its_directory_was_made_again_and_its_sandbox_forbids_it() {
    let mut rig = Rig::new();
    let report = rig.wait_for_report("the sandbox", |report| !report.sandbox.is_empty());
    if !report.sandbox.contains("Landlock") {
        palabre_testing::not_shown("that a listener whose directory was replaced ends", "this kernel has no Landlock");
        return;
    }
    let (alice, aside) = (rig.room.participant(&"alice".parse().unwrap()), rig.room.path().join("aside"));
    // Exchange the directories in one step, so that the directory exists at any time.
    rig.room.participant(&"aside".parse().unwrap()).create().unwrap();
    renameat2(AT_FDCWD, alice.path(), AT_FDCWD, &aside, RenameFlags::RENAME_EXCHANGE).unwrap();
    drop(std::net::TcpStream::connect(("127.0.0.1", rig.port)).unwrap());
    assert_eq!(wait_for_exit(&mut rig.child).code(), Some(111));
}

#[test]
fn listener_ends_when_its_directory_was_removed() {
    let mut rig = Rig::new();
    let report = rig.wait_for_report("the sandbox", |report| !report.sandbox.is_empty());
    if !report.sandbox.contains("Landlock") {
        palabre_testing::not_shown("that a listener whose directory was removed ends", "this kernel has no Landlock");
        return;
    }
    let _records = rig.connect().listen(&rig, "");
    rig.wait_for_status("streams=1 speaking=no");
    rig.room.participant(&"alice".parse().unwrap()).remove().unwrap();
    // The listener checks its directory when an event wakes it, at the latest after 10 s.
    drop(std::net::TcpStream::connect(("127.0.0.1", rig.port)).unwrap());
    assert_eq!(wait_for_exit(&mut rig.child).code(), Some(111));
}

#[test]
fn ear_is_closed_after_the_last_stream() {
    let rig = Rig::new();
    let records = rig.connect().listen(&rig, "");
    let _ear = rig.ear();
    drop(records);
    let nobody = |_: &()| matches!(PipeWriter::open(&rig.ear_path(), Format::default()), Err(OpenError::NoReader(_)));
    wait_for(|| Some(()).filter(nobody));
    // The listener opens `ear` again when the next stream begins.
    let _records = rig.connect().listen(&rig, "");
    let _ear = rig.ear();
}
