//! Levelling raises quiet voices in rooms in which it is on, and changes no other sound.

#![allow(clippy::unwrap_used)]

mod support;

use palabre_room::Levelling::{Off, On};
use palabre_sound::measure;
use support::*;

/// Returns a syllable of a quiet voice: 150 ms of a tone, then 50 ms of almost silence.
fn syllable() -> Vec<i16> {
    let mut syllable = measure::tone(RATE_HZ, 500.0, -45.0, BURST * 3 / 4);
    syllable.resize(BURST, 3);
    syllable
}

/// Says a syllable and returns the syllable in the mix, without the limiter's delay.
fn say(alice: &mut Person, bob: &mut Person, room: &Room) -> Vec<i16> {
    alice.say_samples(&syllable());
    bob.hear(BURST + FRAME);
    wait_for_silence(room);
    bob.listen();
    let heard = bob.heard[LOOK_AHEAD..][..BURST].to_vec();
    bob.forget();
    heard
}

#[test]
fn quiet_voice_is_raised_until_levelling_is_turned_off() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    assert_eq!(say(&mut alice, &mut bob, &room), syllable(), "levelling is off by default");
    room.dir.set_levelling(Some(On)).unwrap();
    let mut levels: Vec<f64> = Vec::new();
    for _ in 0..12 {
        levels.push(measure::goertzel_dbfs(&say(&mut alice, &mut bob, &room), RATE_HZ, 500.0));
    }
    let raised = levels.last().unwrap() - levels[0];
    assert!((3.0..=12.0 * 0.2 * 3.0).contains(&raised), "{levels:?}");
    assert!(levels.windows(2).all(|pair| pair[1] > pair[0] - 0.01), "{levels:?}");
    room.dir.set_levelling(Some(Off)).unwrap();
    // The gain returns to 1 during the first frame.
    say(&mut alice, &mut bob, &room);
    assert_eq!(say(&mut alice, &mut bob, &room), syllable());
}

#[test]
fn exempt_participant_passes_bit_by_bit_and_levelled_talker_does_not_hear_itself() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    room.dir.set_levelling(Some(On)).unwrap();
    let melody = room.participant("melody");
    melody.set_levelling(Some(Off)).unwrap();
    let (mut melody, mut alice, mut bob) = (Person::open(&melody), room.join("alice"), room.join("bob"));
    for _ in 0..5 {
        assert_eq!(say(&mut melody, &mut bob, &room), syllable());
        say(&mut alice, &mut bob, &room);
    }
    alice.forget();
    alice.say_samples(&syllable());
    alice.hear(BURST);
    assert!(alice.heard.iter().all(|&x| x == 0), "alice hears herself");
}
