//! Who stands still, as a talker or as a reader, does it alone.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use palabre_room::Wrote;
use support::*;

const STALL: Duration = Duration::from_secs(5);
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
    voice: Vec<i16>,
    began: Instant,
    written: usize,
}

impl Talker {
    fn new() -> Self {
        Self { voice: noise(1, RATE_HZ as usize * 60), began: Instant::now(), written: 0 }
    }

    /// Samples that have been spoken.
    fn spoken(&self) -> usize {
        (self.began.elapsed().as_millis() as usize * RATE_HZ as usize / 1000).min(self.voice.len())
    }

    /// Sends what is due, in whole frames.
    fn send(&mut self, person: &mut Person) {
        let due = self.spoken() / FRAME * FRAME;
        for frame in self.voice[self.written..due].chunks(FRAME) {
            // What the pipe can't take is lost, as it is to a listener.
            let _ = person.mic.write(frame) == Wrote::Whole;
        }
        self.written = due;
    }

    /// What was not sent is lost, but for the newest.
    fn lose(&mut self) {
        self.written = self.written.max((self.spoken() / FRAME * FRAME).saturating_sub(KEPT));
    }

    /// How long ago what was heard last was spoken, if it is a piece of what was spoken in the last two seconds.
    fn delay(&self, heard: &[i16]) -> Option<usize> {
        let spoken = self.spoken();
        let lately = &self.voice[spoken.saturating_sub(2 * RATE_HZ as usize)..spoken];
        let place = place_of(&heard[heard.len().checked_sub(32)?..], lately)?;
        Some(lately.len() - place - 32)
    }
}

/// Alice talks without a pause, and Carol word by word as soon as the last one was heard.
struct Conversation {
    alice: Person,
    carol: Person,
    talker: Talker,
    words: u64,
    said: Instant,
    /// Of Carol's words, those that were heard bit by bit.
    whole: u64,
    went_on: Instant,
    longest_gap: Duration,
}

impl Conversation {
    fn new(room: &Room) -> Self {
        let (alice, mut carol) = (room.join("alice"), room.join("carol"));
        carol.say_samples(&word(100));
        let now = Instant::now();
        let longest_gap = Duration::ZERO;
        Self { alice, carol, talker: Talker::new(), words: 1, said: now, whole: 0, went_on: now, longest_gap }
    }

    /// Goes on for a few milliseconds; alice's network may stand still.
    fn go_on(&mut self, stalled: bool) {
        self.longest_gap = self.longest_gap.max(self.went_on.elapsed());
        self.went_on = Instant::now();
        if !stalled {
            self.talker.send(&mut self.alice);
        }
        self.carol.ear.wait(Duration::from_millis(5)).unwrap();
        self.carol.listen();
        self.alice.listen();
        let place = place_of(&word(99 + self.words)[1..], &self.alice.heard);
        // A mixer that wasn't run in time may have cut one.
        if place.is_some() || self.said.elapsed() > Duration::from_secs(1) {
            self.whole += u64::from(place.is_some());
            self.alice.heard.clear();
            self.carol.say_samples(&word(100 + self.words));
            (self.words, self.said) = (self.words + 1, Instant::now());
        }
    }

    /// Goes on until what Alice says was heard ten times with no more than `most` samples of delay; gives the longest of these.
    /// (Where the test reads late the delay only seems to be longer than it is.)
    fn settle(&mut self, most: usize) -> usize {
        let deadline = Instant::now() + PATIENCE;
        let mut delays = Vec::new();
        while delays.len() < 10 {
            assert!(Instant::now() < deadline, "Alice isn't heard in time: {:?}", self.talker.delay(&self.carol.heard));
            self.go_on(false);
            delays.extend(self.talker.delay(&self.carol.heard).filter(|delay| *delay <= most));
        }
        delays.into_iter().max().unwrap_or(0)
    }
}

#[test]
fn who_stalls_for_five_seconds_is_back_soon_and_nobody_else_notices() {
    steadily(|| {
        let mut mixer = Mixer::start();
        let mut talk = Conversation::new(&mixer.room("main"));
        let heard = talk.settle(ms(300));
        let (stalled, whole) = (Instant::now(), talk.whole);
        while stalled.elapsed() < STALL {
            talk.go_on(true);
        }
        assert!(talk.whole > whole + 2, "Carol was not heard meanwhile");
        talk.talker.lose();
        (talk.went_on, talk.longest_gap) = (Instant::now(), Duration::ZERO);
        let (back, underruns) = (Instant::now(), mixer.counter("underruns"));
        // Where the test itself is not run in time, that is a network which needs more depth.
        let normal = heard.max(ms(mixer.counter("depth_ms_max") as usize + 50));
        talk.settle(normal + ms(100));
        let undisturbed = talk.longest_gap < Duration::from_millis(30) && mixer.counter("underruns") <= underruns + 1;
        assert!(!undisturbed || back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    });
}

fn ms(ms: usize) -> usize {
    ms * RATE_HZ as usize / 1000
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
                    carol.ear.wait(Duration::from_millis(20)).unwrap();
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
