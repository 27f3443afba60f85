//! The same room on several machines: each machine sends the sum of its own talkers only.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use palabre_room::{Format, MachinesDir, PipeReader, PipeWriter, RecordingReader, Start, Wrote};
use palabre_sound::measure;
use support::*;

/// Opens the pipe `out` of a room.
fn read_out(machines: &MachinesDir) -> PipeReader {
    PipeReader::open_sums(&machines.out(), Format::default(), Start::Discard).unwrap()
}

/// Opens the pipe from another machine, as soon as the mixer reads it.
fn write_from(machines: &MachinesDir, machine: &str) -> PipeWriter {
    let path = machines.from(&name(machine));
    wait_until("a reader of the pipe", || PipeWriter::open_sums(&path, Format::default()).ok())
}

/// Reads the pipe `out` until it has brought this number of sums that are not zero.
fn read_sums(out: &mut PipeReader, count: usize) -> Vec<i32> {
    let mut sums = Vec::new();
    wait_until("sums", || {
        out.read_sums(Instant::now(), &mut sums, 1 << 16).unwrap();
        (sums.iter().filter(|&&x| x != 0).count() >= count).then_some(())
    });
    sums
}

fn say_sums(pipe: &mut PipeWriter, sums: &[i32]) {
    sums.chunks(FRAME).for_each(|frame| assert_eq!(pipe.write_sums(frame), Wrote::Whole));
}

#[test]
fn sum_of_the_own_talkers_is_exact_and_without_other_machines() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    room.dir.machines().create(&[name("paris")]).unwrap();
    let mut out = read_out(&room.dir.machines());
    let mut paris = write_from(&room.dir.machines(), "paris");
    let mut alice = room.join("alice");
    let said: Vec<i16> = (1..=BURST as i32).map(|i| (i * 7919 % 24_000 - 12_000) as i16 | 1).collect();
    say_sums(&mut paris, &vec![12_345; BURST]);
    alice.say_samples(&said);
    let sums = read_sums(&mut out, BURST);
    let heard: Vec<i32> = said.iter().map(|&x| i32::from(x)).collect();
    let begin = sums.iter().position(|&x| x != 0).unwrap();
    assert_eq!(sums[begin..begin + BURST], heard);
    assert!(sums.iter().all(|x| *x != 12_345));
}

#[test]
fn sum_of_four_loud_talkers_is_exact_and_not_limited() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    room.dir.machines().create(&[]).unwrap();
    let mut out = read_out(&room.dir.machines());
    let mut people = ["alice", "bob", "carol", "dave"].map(|who| room.join(who));
    // Together up to 130000, far beyond 16 bits.
    let said = [7919, 6007, 4241, 3119].map(|step| (0..BURST).map(|i| 32_000 - (i * step % 9_000) as i16).collect());
    let said: [Vec<i16>; 4] = said;
    people.iter_mut().zip(&said).for_each(|(person, said)| person.say_samples(said));
    let sums = read_sums(&mut out, BURST);
    let begin = sums.iter().position(|&x| x != 0).unwrap();
    // Each talker's sound begins at a tick, and the talkers don't all begin at the same tick.
    let at = |talker: usize, start: usize, i: usize| i.checked_sub(start).map_or(0, |i| i32::from(said[talker][i]));
    let starts = (0..5usize.pow(4)).map(|n| [0, 1, 2, 3].map(|talker| n / 5usize.pow(talker) % 5 * FRAME));
    let is_exact = |starts: &[usize; 4]| {
        (0..BURST).all(|i| sums[begin + i] == (0..4).map(|talker| at(talker, starts[talker], i)).sum::<i32>())
    };
    assert!(starts.into_iter().any(|starts| is_exact(&starts)), "{:?}", &sums[begin..begin + FRAME]);
    assert!(sums.iter().any(|&x| x > 100_000));
}

#[test]
fn sum_of_another_machine_is_heard_bit_by_bit_by_all_participants() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    room.dir.machines().create(&[name("paris")]).unwrap();
    let mut paris = write_from(&room.dir.machines(), "paris");
    let said: Vec<i32> = (1..=BURST as i32).map(|i| (i * 7919 % 24_000 - 12_000) | 1).collect();
    say_sums(&mut paris, &said);
    for person in [&mut alice, &mut bob] {
        person.hear(BURST + FRAME);
        let heard: Vec<i32> = person.heard[LOOK_AHEAD..][..BURST].iter().map(|&x| i32::from(x)).collect();
        assert_eq!(heard, said);
    }
}

#[test]
fn sum_beyond_16_bits_is_limited_and_a_talker_hears_it_without_the_own_voice() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let mut alice = room.join("alice");
    room.dir.machines().create(&[name("paris")]).unwrap();
    let mut paris = write_from(&room.dir.machines(), "paris");
    let tone = measure::tone(RATE_HZ, 1000.0, -9.0, BURST);
    say_sums(&mut paris, &tone.iter().map(|&x| 8 * i32::from(x)).collect::<Vec<_>>());
    alice.say(440.0);
    alice.hear_until_silence(&room);
    assert!(alice.hears(1000.0) && alice.does_not_hear(440.0), "{} {}", alice.level(1000.0), alice.level(440.0));
    assert!(alice.heard.iter().all(|&x| x.abs() < i16::MAX), "the limiter keeps the mix below full scale");
}

/// `cat` from a pipe to another one. Ends with the test.
struct Cat(Child);

impl Cat {
    fn bridge(from: &MachinesDir, to: &MachinesDir, machine: &str) -> Self {
        let to = OpenOptions::new().write(true).open(to.from(&name(machine))).unwrap();
        let from = OpenOptions::new().read(true).write(true).open(from.out()).unwrap();
        Self(Command::new("cat").stdin(Stdio::from(from)).stdout(Stdio::from(to)).spawn().unwrap())
    }
}

impl Drop for Cat {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn three_rooms_that_cat_connects_hear_each_other_once_and_nobody_hears_the_own_voice() {
    let mixer = Mixer::start();
    let sites = ["lyon", "paris", "nantes"];
    let rooms = sites.map(|site| mixer.room(site));
    for room in &rooms {
        room.dir.machines().create(&sites.map(name)).unwrap();
    }
    let mut people = rooms.each_ref().map(|room| room.join("alice"));
    let mut listeners = rooms.each_ref().map(|room| room.join("bob"));
    for room in &rooms {
        sites.iter().for_each(|site| drop(write_from(&room.dir.machines(), site)));
    }
    let mut cats = Vec::new();
    for (from, site) in rooms.iter().zip(sites) {
        // `out` has one reader. Each site sends only to the next one.
        let to = (sites.iter().position(|other| *other == site).unwrap() + 1) % 3;
        cats.push(Cat::bridge(&from.dir.machines(), &rooms[to].dir.machines(), site));
    }
    let tones = [440.0, 1000.0, 1700.0];
    people.iter_mut().zip(tones).for_each(|(person, tone)| person.say(tone));
    for (site, person) in listeners.iter_mut().enumerate() {
        let (previous, next) = ((site + 2) % 3, (site + 1) % 3);
        wait_until("the tones of two sites", || {
            person.listen();
            (person.hears(tones[site]) && person.hears(tones[previous])).then_some(())
        });
        wait_for_silence(&rooms[site]);
        person.listen();
        assert!(person.does_not_hear(tones[next]), "a received sum was sent on: {}", person.level(tones[next]));
    }
}

#[test]
fn machine_is_recorded_as_a_track_of_its_own() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let mut recorder = RecordingReader::create(&room.dir.recording(), Format::default()).unwrap();
    room.dir.machines().create(&[name("paris")]).unwrap();
    let mut paris = write_from(&room.dir.machines(), "paris");
    say_sums(&mut paris, &vec![40_000; BURST]);
    let mut frames = Vec::new();
    wait_until("recorded frames", || {
        recorder.read(&mut frames).unwrap();
        (frames.len() >= 2).then_some(())
    });
    assert_eq!((&frames[1].name, frames[1].frame[0]), (&name("from-paris"), i16::MAX));
}

#[test]
fn flood_from_another_machine_is_read_at_twice_real_time_and_disturbs_nobody() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    room.dir.machines().create(&[name("paris")]).unwrap();
    drop(write_from(&room.dir.machines(), "paris"));
    let mut raw = OpenOptions::new().write(true).open(room.dir.machines().from(&name("paris"))).unwrap();
    let begin = Instant::now();
    // 8 s of sound. A burst of 1 s is read at once, and the pipe holds half a second.
    let flood = std::thread::spawn(move || (0..400).try_for_each(|_| raw.write_all(&[9, 0, 0, 0].repeat(FRAME))));
    alice.say(440.0);
    bob.hear(BURST);
    flood.join().unwrap().unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(3), "{:?}", begin.elapsed());
    bob.listen();
    let mut levels = bob.heard.chunks(BURST / 2).map(|part| measure::goertzel_dbfs(part, RATE_HZ, 440.0));
    assert!(levels.any(|level| level > DBFS - 6.0));
    assert!(mixer.counter("wakeups") < 2_000);
}
