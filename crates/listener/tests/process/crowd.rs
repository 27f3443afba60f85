//! A room of five hundred people: measures the bytes that their levels and states take in addition to the sound.

use crate::client::{Record, Records};
use crate::rig::{Feed, Rig};
use palabre_room::{LevelLine, Member, Name, Talk};
use std::time::{Duration, Instant};

const PEOPLE: usize = 500;
const MAX_BITS_PER_S: f64 = 2000.0;
/// Number of times per second that the mixer writes the file `levels`.
const WRITES_PER_S: f64 = 5.0;
/// Number of bytes that TLS 1.3 adds to each TLS record: RFC 8446 §5.2.
const TLS_BYTES: usize = 22;

/// The people of a room with their levels and raised hands.
struct Crowd<'a> {
    rig: &'a Rig,
    members: Vec<Member>,
    levels: Vec<f32>,
    random: u32,
}

impl<'a> Crowd<'a> {
    fn new(rig: &'a Rig) -> Self {
        let member = |i: usize| Member::new(name(i), format!("Pérson {i}"), !i.is_multiple_of(5));
        let mut crowd = Self { rig, members: (0..PEOPLE).map(member).collect(), levels: vec![0.0; PEOPLE], random: 7 };
        crowd.toggle_hand(0);
        crowd
    }

    fn chance(&mut self) -> u32 {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.random >> 8
    }

    /// Raises or lowers the hand of a person.
    fn toggle_hand(&mut self, who: usize) {
        self.members[who].hand = !self.members[who].hand;
        self.rig.room.write_names(&self.members).unwrap();
    }

    /// Simulates 0.2 s: three people talk on average, for four seconds each, with changing levels. The last person starts or stops talking
    /// on each call, so that there is always a change. Returns whether the last person talks now.
    fn talk(&mut self) -> bool {
        for who in 0..PEOPLE - 1 {
            let (talks, chance) = (self.levels[who] < 0.0, self.chance());
            self.levels[who] = match talks {
                false if chance % 3333 == 0 => -25.0,
                true if chance % 20 != 0 => -15.0 - (chance % 20) as f32,
                _ => 0.0,
            };
        }
        let last = &mut self.levels[PEOPLE - 1];
        *last = if *last < 0.0 { 0.0 } else { -30.0 };
        let talks = *last < 0.0;
        self.write_levels();
        talks
    }

    fn write_levels(&self) {
        let talking = self.levels.iter().enumerate().filter(|(_, level)| **level < 0.0);
        let lines = talking.map(|(who, &dbfs)| LevelLine { name: name(who), state: Talk::Talking, dbfs });
        self.rig.room.write_levels(&lines.collect::<Vec<_>>()).unwrap();
    }
}

fn name(who: usize) -> Name {
    if who == 0 { "alice".parse().unwrap() } else { format!("p{who}").parse().unwrap() }
}

/// Returns the number of bytes of a record that are not sound. A level or state takes 4 bytes.
fn cost(record: &Record) -> usize {
    let letters = 4 * record.marks.len();
    if record.kind == 1 { letters } else { record.raw.len() + TLS_BYTES }
}

/// Opens a stream in silence. Returns the stream, its records up to the first silence record, and the number of bytes received so far,
/// including the TLS handshake and the response head.
fn open(rig: &Rig, query: &str) -> (Records, Vec<Record>, usize) {
    let mut records = rig.connect().listen(rig, query);
    let first: Vec<Record> = (0..3).map(|_| records.record()).collect();
    assert_eq!([first[0].kind, first[2].kind], [0, 2]);
    let received = records.client.stream.sock.received;
    (records, first, received)
}

/// Returns the value of a constant in the page's `frames.js`, which renews the stream.
fn page_constant(constant: &str) -> f64 {
    let source = include_str!("../../page/stream/frames.js");
    let (_, rest) = source.split_once(&format!("const {constant} = ")).unwrap();
    rest.split(';').next().unwrap().replace('_', "").parse().unwrap()
}

fn seconds_between_renewals(sound: &Record, chunk_ms: f64) -> f64 {
    let chars = sound.raw.len() - "<b></b><script>p()</script>".len();
    page_constant("RENEW_COST") / (chars as f64 + page_constant("RECORD_COST")) * chunk_ms / 1000.0
}

#[test]
fn five_hundred_people_take_less_than_two_kilobits_a_second() {
    for (rate_hz, chunk_ms, looks) in [(24_000, 40, 75), (48_000, 20, 50)] {
        let rig = Rig::with(&format!("[room]\nrate-hz = {rate_hz}\n[stream]\nchunk-ms = {chunk_ms}\n"));
        let mut crowd = Crowd::new(&rig);
        for _ in 0..50 {
            crowd.talk();
        }
        let (mut records, first, joining) = open(&rig, "");
        let (_, again, renewal) = open(&rig, &format!("?from={}&people={}", first[2].seq, first[1].tag));
        assert_eq!((first[1].kind, again[1].kind), (3, 6));
        let _feed = Feed::start(rig.ear(), 0, Duration::from_millis(20));
        let sound = (0..5).map(|_| records.next_of(1)).max_by_key(|sound| sound.raw.len()).unwrap();
        let mut levels = 0;
        for _ in 0..looks {
            let talks = crowd.talk();
            let is_last = |mark: &(u16, u8)| usize::from(mark.0) == PEOPLE - 1 && (mark.1 > 0) == talks;
            loop {
                let record = records.record();
                // On a busy machine the feed may be late, and the listener sends a silence record. Of this record, count only the bytes of
                // its levels, as for a sound record.
                levels += if record.kind == 2 { 4 * record.marks.len() } else { cost(&record) };
                if record.marks.iter().any(is_last) {
                    break;
                }
            }
        }
        crowd.toggle_hand(7);
        let states = cost(&records.next_of(6));
        let bits = |bytes: usize, seconds: f64| 8.0 * bytes as f64 / seconds;
        let levels = bits(levels, f64::from(looks) / WRITES_PER_S);
        // The listener checks `names` once per second, so there is at most one change of states per second.
        let states = bits(states, 1.0);
        let every_s = seconds_between_renewals(&sound, f64::from(chunk_ms));
        let renewals = bits(renewal, every_s);
        println!(
            "{rate_hz} Hz, {chunk_ms} ms: levels {levels:.0}, states {states:.0}, {renewal} bytes every {every_s:.1} s \
             {renewals:.0} bit/s; {joining} bytes when one comes"
        );
        assert!(levels + states + renewals < MAX_BITS_PER_S);
    }
}

#[test]
fn changing_level_in_silence_takes_no_more() {
    let rig = Rig::new();
    let mut crowd = Crowd::new(&rig);
    let (mut records, ..) = open(&rig, "");
    let start = Instant::now();
    let mut bytes = 0;
    // First a person starts talking. Then the person's level changes, and levels are sent with the silence records.
    for turn in 0..3_u8 {
        let value = 15 + 5 * (turn % 2);
        crowd.levels[0] = -f32::from(value);
        crowd.write_levels();
        loop {
            let record = records.record();
            bytes += cost(&record);
            if record.marks.last() == Some(&(0, value)) {
                break;
            }
        }
    }
    let bits = 8.0 * bytes as f64 / start.elapsed().as_secs_f64();
    println!("{bits:.0} bit/s in silence");
    assert!(bits < MAX_BITS_PER_S);
}

#[test]
fn list_of_people_is_sent_only_to_pages_that_have_another_one() {
    let mut rig = Rig::new();
    let (records, first, _) = open(&rig, "");
    let tag = first[1].tag.clone();
    let asked = |tag: &str| format!("?people={tag}");
    for wrong in ["", "0", "0123456789abcdef", &tag[1..]] {
        assert_eq!(open(&rig, &asked(wrong)).1[1].kind, 3, "{wrong}");
    }
    drop(records);
    let mut first_process = rig.replace();
    crate::rig::signal(&first_process, "TERM");
    assert!(crate::rig::wait_for_exit(&mut first_process).success());
    let states = &open(&rig, &asked(&tag)).1[1];
    assert_eq!((states.kind, &states.marks[..]), (6, &[(u16::MAX, 1)][..]));
    rig.room.write_names(&[Member::new(name(0), "Alice Doe", true)]).unwrap();
    let (mut records, renamed, _) = open(&rig, &asked(&tag));
    let room = if renamed[1].kind == 3 { renamed[1].clone() } else { records.next_of(3) };
    assert!(room.tag != tag && room.json.contains("Alice Doe"));
}

#[test]
fn beginning_and_end_of_talking_are_sent_within_300_ms_during_sound() {
    let rig = Rig::new();
    let mut crowd = Crowd::new(&rig);
    let (mut records, ..) = open(&rig, "");
    // In silence, the listener checks the file `levels` every 2 s, when a silence record is due.
    let silent = sent_after_ms(&mut crowd, &mut records).0;
    let _feed = Feed::start(rig.ear(), 0, Duration::from_millis(20));
    records.next_of(1);
    let (in_sound, mut chunks): (Vec<u64>, Vec<usize>) =
        (0..20).map(|_| sent_after_ms(&mut crowd, &mut records)).unzip();
    println!("ms after the file was written: in silence {silent}, in sound {in_sound:?}; chunks meanwhile {chunks:?}");
    // A change must be in the stream after at most seven chunks of 40 ms (280 ms). The median of the counts ignores single delays on a busy machine.
    chunks.sort_unstable();
    assert!(chunks[chunks.len() / 2] <= 7, "{chunks:?}");
}

/// Writes a change into the file `levels`. Returns the time in ms until the listener sent a record with this change, and the number of chunks of sound
/// sent meanwhile.
fn sent_after_ms(crowd: &mut Crowd<'_>, records: &mut Records) -> (u64, usize) {
    let talks = crowd.talk();
    let written_ms = palabre_host::clock::boottime_ms();
    let mut chunks = 0;
    loop {
        let record = records.record();
        chunks += usize::from(record.kind == 1 && record.seq > written_ms);
        if record.marks.iter().any(|mark| usize::from(mark.0) == PEOPLE - 1 && (mark.1 > 0) == talks) {
            return (record.seq.saturating_sub(written_ms), chunks);
        }
    }
}
