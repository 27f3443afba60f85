//! Who stands still, as a talker or as a reader, does it alone.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use palabre_room::Wrote;
use support::*;

/// What a listener keeps of a page that was cut off.
const KEPT: usize = RATE_HZ as usize * 3 / 10;

/// Noise of its own, in which every place is found again.
fn noise(seed: u64, samples: usize) -> Vec<i16> {
    let mut state = seed;
    (0..samples)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 48) as i16) / 16
        })
        .collect()
}

/// 200 ms of it that begin and end softly, as a word does: such a one passes bit by bit.
fn word(seed: u64) -> Vec<i16> {
    let mut word = noise(seed, BURST);
    for i in 0..FRAME {
        for at in [i, BURST - 1 - i] {
            word[at] = (i32::from(word[at]) * i as i32 / FRAME as i32) as i16;
        }
    }
    word
}

fn place_of(what: &[i16], heard: &[i16]) -> Option<usize> {
    heard.windows(what.len()).position(|window| window == what)
}

/// Somebody who speaks in real time, by a network that may stand still.
struct Talker {
    person: Person,
    voice: Vec<i16>,
    written: usize,
}

impl Talker {
    fn new(person: Person, seed: u64) -> Self {
        Self { person, voice: noise(seed, RATE_HZ as usize * 30), written: 0 }
    }

    /// Sends what is due, in whole frames.
    fn send(&mut self, spoken: usize) {
        let due = spoken / FRAME * FRAME;
        for frame in self.voice[self.written..due].chunks(FRAME) {
            // What the pipe can't take is lost, as it is to a listener.
            let _ = self.person.mic.write(frame) == Wrote::Whole;
        }
        self.written = due;
        self.person.forget();
    }

    /// What was not sent is lost, but for the newest.
    fn lose(&mut self, spoken: usize) {
        self.written = self.written.max((spoken / FRAME * FRAME).saturating_sub(KEPT));
    }
}

/// What Carol heard while Alice and Dave talked without a pause and Alice's network stood still for 5 s.
fn listen_to_a_stall(room: &Room) -> (Talker, Talker, Vec<i16>) {
    let (mut alice, mut dave) = (Talker::new(room.join("alice"), 1), Talker::new(room.join("dave"), 2));
    let (mut carol, began, second) = (room.join("carol"), Instant::now(), RATE_HZ as usize);
    loop {
        let spoken = began.elapsed().as_millis() as usize * second / 1000;
        match spoken / second {
            0..2 => alice.send(spoken),
            2..7 => alice.lose(spoken),
            7..14 => alice.send(spoken),
            _ => return (alice, dave, carol.heard),
        }
        dave.send(spoken);
        palabre_host::wait::is_readable(&carol.ear, Duration::from_millis(5)).unwrap();
        carol.listen();
    }
}

/// What remains of what was heard without a voice that was heard whole; `None` if it wasn't.
fn without(heard: &[i16], voice: &[i16], around: usize) -> Option<Vec<i16>> {
    let place = place_of(heard.get(around..around + 64)?, voice)?.checked_sub(around)?;
    let voice = voice.get(place..place + heard.len())?;
    Some(heard.iter().zip(voice).map(|(heard, voice)| heard.wrapping_sub(*voice)).collect())
}

/// How much later each frame was heard than its place in the voice, where it is a piece of the voice.
fn delays<'a>(heard: &'a [i16], voice: &'a [i16], from: usize) -> impl Iterator<Item = usize> + 'a {
    heard.chunks_exact(FRAME).zip(0..).filter_map(move |(frame, n)| {
        let at = from + n * FRAME;
        Some(at + RATE_HZ as usize - place_of(&frame[..32], voice.get(..at + RATE_HZ as usize)?)?)
    })
}

/// Where nothing is heard for longest.
fn longest_silence(heard: &[i16]) -> std::ops::Range<usize> {
    let (mut longest, mut start) = (0..0, 0);
    for (at, sample) in heard.iter().enumerate() {
        if *sample != 0 {
            start = at + 1;
        } else if at + 1 - start > longest.len() {
            longest = start..at + 1;
        }
    }
    longest
}

#[test]
fn who_stalls_for_five_seconds_is_back_within_five_and_the_others_lose_no_sample() {
    // Everything is counted in samples of what was heard. Where Dave, whose network is good, isn't heard whole, the test or the
    // mixer wasn't run in time, and nothing is said about Alice.
    let second = RATE_HZ as usize;
    let undisturbed = (0..12).find_map(|_| {
        let mixer = Mixer::start();
        let (alice, dave, heard) = listen_to_a_stall(&mixer.room("main"));
        // The beginning, when one of them may come a frame later than the other, and the end are left out.
        let heard = heard.get(second..heard.len().saturating_sub(second / 2))?;
        let heard = without(heard, &dave.voice, 3 * second)?;
        let stall = longest_silence(&heard);
        let before = delays(&heard[..stall.start], &alice.voice, 0).last()?;
        let back = stall.end + 5 * second;
        let after: Vec<usize> = delays(heard.get(back..)?, &alice.voice, back).collect();
        // What is left of Alice without Dave is Alice only where he is heard whole.
        (stall.len() > 4 * second && after.len() > 10).then_some((before, after))
    });
    let (before, after) = undisturbed.unwrap();
    let longest = after.iter().max().unwrap();
    println!("{before} samples before, up to {longest} in {} frames from 5 s after the stall", after.len());
    assert!(*longest <= before + second / 10, "{before} before, {after:?} after");
}

/// A reader of an ear that is another process.
struct Cat(Child);

impl Cat {
    fn new(ear: &std::path::Path, into: &std::path::Path) -> Self {
        let cat = Command::new("cat").arg(ear).stdout(File::create(into).unwrap()).stdin(Stdio::null()).spawn();
        Self(cat.unwrap())
    }
}

impl Drop for Cat {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_reader_that_is_stopped_loses_its_own_frames_and_the_others_none() {
    steadily(|| {
        let mut mixer = Mixer::start();
        let room = mixer.room("main");
        let (mut alice, mut carol) = (room.join("alice"), room.join("carol"));
        let (ear, file) = (room.participant("bob").ear(), mixer.dir.path().join("heard.raw"));
        let cat = Cat::new(&ear, &file);
        let heard_bytes = || std::fs::metadata(&file).unwrap().len();
        let mut words = 0;
        let mut say = || {
            wait_until("a word, whole", || {
                let word = word(words);
                words += 1;
                alice.say_samples(&word);
                // A mixer that wasn't run in time may have cut it: then there is another one.
                let said = Instant::now();
                while place_of(&word[1..], &carol.heard).is_none() && said.elapsed() < Duration::from_secs(1) {
                    palabre_host::wait::is_readable(&carol.ear, Duration::from_millis(20)).unwrap();
                    carol.listen();
                    alice.listen();
                }
                let whole = place_of(&word[1..], &carol.heard);
                carol.forget();
                whole
            });
        };
        wait_until("bob to hear", || {
            say();
            (heard_bytes() > 0).then_some(())
        });
        signal_process(cat.0.id(), "STOP");
        (0..9).for_each(|_| say());
        assert!(mixer.counter("lost_frames") > 30);
        let of_bob = mixer.logged.iter().any(|line| line.contains("bob/ear' is read too slowly"));
        assert!(of_bob, "it is bob who lost them");
        signal_process(cat.0.id(), "CONT");
        let before = heard_bytes();
        // What the pipe kept, and what is new.
        wait_until("bob to hear again", || {
            say();
            (heard_bytes() > before + 48_000).then_some(())
        });
    });
}
