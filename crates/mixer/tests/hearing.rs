//! Which participants hear which.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use ebur128::{EbuR128, Mode};
use palabre_room::{Format, Gain, MixerReport, PersonalGain, Rate, Talk};
use palabre_sound::measure;
use palabre_testing::undisturbed;
use support::*;

/// Minimum number of samples that an ear receives when another participant says a burst.
const HEARD: usize = BURST;

#[test]
fn two_talkers_hear_each_other_and_not_themselves() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    alice.say(440.0);
    bob.say(1000.0);
    for (person, own, other) in [(&mut alice, 440.0, 1000.0), (&mut bob, 1000.0, 440.0)] {
        person.hear(HEARD);
        assert!(person.hears(other), "{}", person.level(other));
        assert!(person.does_not_hear(own), "{}", person.level(own));
    }
}

#[test]
fn single_talker_is_heard_bit_by_bit() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    let said: Vec<i16> = (1..=BURST as i32).map(|i| (i * 7919 % 24_000 - 12_000) as i16 | 1).collect();
    alice.say_samples(&said);
    bob.hear(HEARD + FRAME);
    assert!(bob.heard[..LOOK_AHEAD].iter().all(|&x| x == 0));
    assert_eq!(bob.heard[LOOK_AHEAD..][..BURST], said);
    alice.hear(HEARD);
    assert!(alice.heard.iter().all(|&x| x == 0));
}

#[test]
fn silent_participant_hears_all_talkers() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob, mut carol) = (room.join("alice"), room.join("bob"), room.join("carol"));
    alice.say(440.0);
    bob.say(1000.0);
    carol.hear_until_silence(&room);
    assert!(carol.hears(440.0) && carol.hears(1000.0));
}

#[test]
fn participants_muted_by_personal_gains_are_not_heard() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    for who in ["alice", "dave"] {
        room.participant(who).set_gains(&["bob", "nobody", "bob", who].map(muted)).unwrap();
    }
    let (mut alice, mut bob, mut carol) = (room.join("alice"), room.join("bob"), room.join("carol"));
    let mut dave = room.join("dave");
    alice.say(440.0);
    bob.say(1000.0);
    carol.say(1700.0);
    for person in [&mut alice, &mut bob, &mut carol, &mut dave] {
        person.hear_until_silence(&room);
    }
    assert!(alice.hears(1700.0) && alice.does_not_hear(1000.0) && alice.does_not_hear(440.0));
    assert!(dave.hears(1700.0) && dave.does_not_hear(1000.0) && dave.hears(440.0));
    assert!(bob.hears(440.0) && bob.hears(1700.0) && bob.does_not_hear(1000.0));
    assert!(carol.hears(440.0) && carol.hears(1000.0) && carol.does_not_hear(1700.0));
}

fn muted(who: &str) -> PersonalGain {
    PersonalGain::mute(name(who))
}

#[test]
fn personal_gains_can_change_and_concern_only_their_listener() {
    // If the mixer is kept from running, the jitter buffer can cut some of a burst.
    undisturbed(|| {
        let mut mixer = Mixer::start();
        let room = mixer.room("main");
        let (mut alice, mut bob, mut carol) = (room.join("alice"), room.join("bob"), room.join("carol"));
        let dir = room.participant("bob");
        let said = measure::tone(RATE_HZ, 440.0, DBFS, BURST);
        let mut level = |bob: &mut Person| {
            bob.forget();
            carol.forget();
            alice.say_samples(&said);
            bob.hear(HEARD + FRAME);
            carol.hear(HEARD + FRAME);
            wait_for_silence(&room);
            // The jitter buffer fades in each spurt after the first one, so the first 5 ms are not compared.
            assert_eq!(carol.heard[2 * LOOK_AHEAD..][..BURST - LOOK_AHEAD], said[LOOK_AHEAD..], "carol has no gains");
            // Leave out the beginning: a change of a gain takes one frame, and the limiter delays the sound.
            measure::rms_dbfs(&bob.heard[2 * FRAME..BURST - FRAME])
        };
        for (gain, change) in [(Gain::Db(-6.0), -6.0), (Gain::Db(6.0), 6.0), (Gain::Db(0.0), 0.0)] {
            dir.set_gains(&[PersonalGain { name: name("alice"), gain }]).unwrap();
            let heard = level(&mut bob);
            assert!((heard - DBFS - change).abs() < 0.1, "{gain}: {heard}");
        }
        std::fs::write(dir.path().join("gains"), "alice loud\n").unwrap();
        mixer.wait_for_log("'loud' is not a gain");
        assert!((level(&mut bob) - DBFS).abs() < 0.1);
        dir.set_gains(&[muted("alice")]).unwrap();
        assert!(level(&mut bob) < -90.0);
        dir.set_gains(&[]).unwrap();
        assert!((level(&mut bob) - DBFS).abs() < 0.1);
        std::fs::write(dir.path().join("without"), "alice\n").unwrap();
        assert!(level(&mut bob) < -90.0, "the file of earlier versions is read");
    });
}

#[test]
fn gain_raises_and_lowers_and_an_invalid_gain_changes_nothing() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    let dir = room.participant("alice");
    let gain = dir.path().join("gain");
    let level = |alice: &mut Person, bob: &mut Person| {
        bob.forget();
        alice.say(440.0);
        bob.hear(HEARD);
        wait_for_silence(&room);
        measure::rms_dbfs(&bob.heard[FRAME..BURST - FRAME])
    };
    assert!((level(&mut alice, &mut bob) - DBFS).abs() < 0.5);
    dir.set_gain(Some(Gain::Db(-12.0))).unwrap();
    assert!((level(&mut alice, &mut bob) - (DBFS - 12.0)).abs() < 0.5);
    std::fs::write(&gain, "loud\n").unwrap();
    mixer.wait_for_log("'loud' is not a gain");
    assert!((level(&mut alice, &mut bob) - (DBFS - 12.0)).abs() < 0.5);
    std::fs::write(&gain, "+6\n").unwrap();
    assert!((level(&mut alice, &mut bob) - (DBFS + 6.0)).abs() < 0.5);
    dir.set_gain(None).unwrap();
    assert!((level(&mut alice, &mut bob) - DBFS).abs() < 0.5);
}

#[test]
fn participant_muted_by_gain_is_not_heard_and_is_listed_as_muted() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob, mut carol) = (room.join("alice"), room.join("bob"), room.join("carol"));
    room.participant("alice").set_gain(Some(Gain::Mute)).unwrap();
    let muted = |room: &Room| {
        let levels = room.dir.levels().ok()?;
        levels
            .iter()
            .find(|line| line.name == name("alice") && line.state == Talk::Muted && line.dbfs.is_infinite())
            .cloned()
    };
    wait_until("alice to be listed as muted", || muted(&room));
    alice.say(440.0);
    bob.say(1000.0);
    carol.hear(HEARD);
    assert!(carol.hears(1000.0) && carol.does_not_hear(440.0));
    room.participant("alice").set_gain(None).unwrap();
    wait_for_silence(&room);
}

#[test]
fn levels_list_talkers_with_their_level_and_are_empty_in_silence() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    bob.say_samples(&measure::tone(RATE_HZ, 300.0, -65.0, 7_200));
    alice.say_samples(&measure::tone(RATE_HZ, 440.0, DBFS, 7_200));
    wait_until("both levels", || {
        let levels = room.dir.levels().ok()?;
        let [a, b] = &levels[..] else { return None };
        let right = a.name == name("alice") && a.state == Talk::Talking && (f64::from(a.dbfs) - DBFS).abs() < 4.0;
        (right && b.name == name("bob") && b.state == Talk::Quiet && b.dbfs < -60.0).then_some(())
    });
    wait_for_silence(&room);
    assert_eq!(std::fs::read_to_string(room.dir.path().join("levels")).unwrap(), "");
}

#[test]
fn levels_of_a_silent_room_list_only_participants_muted_by_gain() {
    const DOCUMENT: &str = include_str!("../../../docs/room-directory.md");
    let (_, rest) = DOCUMENT.split_once("```text levels of a silent room\n").unwrap();
    let (documented, _) = rest.split_once("```").unwrap();
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, _carol) = (room.join("alice"), room.join("carol"));
    room.participant("carol").set_gain(Some(Gain::Mute)).unwrap();
    alice.say_samples(&measure::tone(RATE_HZ, 440.0, DBFS, 7_200));
    wait_until("alice to talk", || (room.dir.levels().ok()?.len() == 2).then_some(()));
    let file = room.dir.path().join("levels");
    wait_until("the last levels", || (std::fs::read_to_string(&file).ok()? == documented).then_some(()));
    room.participant("carol").set_gain(None).unwrap();
    wait_until("nobody to be muted", || std::fs::read_to_string(&file).ok()?.is_empty().then_some(()));
}

#[test]
fn rooms_do_not_hear_each_other() {
    let mixer = Mixer::start();
    let (blue, red) = (mixer.room("blue"), mixer.room("red"));
    let (mut alice, mut bob) = (blue.join("alice"), blue.join("bob"));
    let (mut other_alice, mut other_bob) = (red.join("alice"), red.join("bob"));
    alice.say(440.0);
    other_alice.say(1000.0);
    bob.hear(HEARD);
    other_bob.hear(HEARD);
    assert!(bob.hears(440.0) && bob.does_not_hear(1000.0));
    assert!(other_bob.hears(1000.0) && other_bob.does_not_hear(440.0));
}

#[test]
fn each_room_has_its_own_rate() {
    let mixer = Mixer::start();
    let room = mixer.room("wide");
    let format = Format { rate: Rate::try_from(48_000).unwrap() };
    // The mixer serves the room already in the default format. It must open the room again in the new format.
    room.dir.create(format).unwrap();
    let (alice, bob) = (room.participant("alice"), room.participant("bob"));
    let mut ear = palabre_room::PipeReader::open(&bob.ear(), format, palabre_room::Start::Discard).unwrap();
    let mut mic = wait_until("the microphone", || palabre_room::PipeWriter::open(&alice.mic(), format).ok());
    let said: Vec<i16> = (1..=9600).collect();
    let mut heard = Vec::new();
    wait_until("the room's new rate", || {
        if heard.is_empty() {
            // The mixer closes the pipe when it detects the new format, so the pipe may have to be opened again.
            mic = palabre_room::PipeWriter::open(&alice.mic(), format).ok()?;
            let _ = mic.write(&said);
        }
        palabre_host::wait::is_readable(&ear, std::time::Duration::from_millis(500)).unwrap();
        ear.read(std::time::Instant::now(), &mut heard, 1 << 16).unwrap();
        (heard.len() >= 9600).then_some(())
    });
    assert_eq!(heard[240..9600], said[..9360]);
}

#[test]
fn forty_participants_hear_the_thirty_nine_others() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let mut people: Vec<Person> = (0..40).map(|i| room.join(&format!("p{i}"))).collect();
    let freq = |i: usize| 300.0 + 100.0 * i as f64;
    for (i, person) in people.iter_mut().enumerate() {
        // 40 voices at this level stay below full scale.
        person.say_samples(&measure::tone(RATE_HZ, freq(i), -38.0, BURST));
    }
    for (i, person) in people.iter_mut().enumerate() {
        person.hear(HEARD);
        for j in 0..40 {
            let level = person.level(freq(j));
            if i == j {
                assert!(level < -65.0, "{i} hears itself at {level}");
            } else {
                assert!(level > -50.0, "{i} hears {j} at {level}");
            }
        }
    }
}

#[test]
fn fifty_voices_at_full_scale_neither_wrap_nor_clip() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let mut people: Vec<Person> = (0..50).map(|i| room.join(&format!("p{i}"))).collect();
    // All voices are the same tone, so that their peaks add up.
    let loud = measure::tone(RATE_HZ, 500.0, -3.1, BURST);
    people.iter_mut().for_each(|person| person.say_samples(&loud));
    let person = &mut people[0];
    person.hear(HEARD);
    let mut meter = EbuR128::new(1, RATE_HZ, Mode::TRUE_PEAK).unwrap();
    meter.add_frames_i16(&person.heard).unwrap();
    let true_peak_dbfs = 20.0 * meter.true_peak(0).unwrap().log10();
    println!("fifty voices at full scale: {true_peak_dbfs:.2} dBFS true peak");
    assert!((-4.0..=-1.0).contains(&true_peak_dbfs), "{true_peak_dbfs}");
    let settled = &person.heard[FRAME * 3..HEARD - FRAME * 2];
    assert!(measure::snr_db(settled, RATE_HZ, 500.0) > 30.0, "{}", measure::snr_db(settled, RATE_HZ, 500.0));
}

/// Writes samples to a `mic`.
type WriteSamples = Box<dyn FnMut(&[i16]) + Send>;

/// Creates alice with a `mic` that is a pipe or a growing WAV, and returns a function that writes samples to the `mic`.
fn microphone(room: &Room, is_file: bool) -> WriteSamples {
    let dir = room.participant("alice");
    if !is_file {
        let mut pipe = open_mic(&dir.mic());
        return Box::new(move |samples| _ = pipe.write(samples));
    }
    std::fs::remove_file(dir.mic()).unwrap();
    let mut file = std::fs::File::create(dir.mic()).unwrap();
    file.write_all(&palabre_sound::wav::endless_head(RATE_HZ)).unwrap();
    Box::new(move |samples| {
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        file.write_all(&bytes).unwrap();
    })
}

#[test]
fn digital_silence_counts_as_absence_and_the_next_word_is_heard_unchanged() {
    for is_file in [false, true] {
        let mixer = Mixer::start();
        let room = mixer.room("main");
        let mut bob = room.join("bob");
        let mut write = microphone(&room, is_file);
        let (word, words) = channel::<Vec<i16>>();
        let silent_frames = &AtomicUsize::new(0);
        std::thread::scope(|scope| {
            // Writes almost silence (-1, 0 and 1) to the `mic` in real time, and each word that the test sends to this thread.
            scope.spawn(move || {
                loop {
                    match words.recv_timeout(Duration::from_millis(20)) {
                        Ok(word) => write(&word),
                        Err(RecvTimeoutError::Timeout) => {
                            write(&[0, 1, -1, 0, 0, -1, 1, 0].repeat(FRAME / 8));
                            silent_frames.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            });
            // The writing thread ends when this function drops the sender.
            let word = word;
            wait_until("alice to be listed", || (!room.dir.levels().ok()?.is_empty()).then_some(()));
            let wait_for_a_second_of_silence = || {
                let before = silent_frames.load(Ordering::Relaxed);
                wait_until("a second of silence", || {
                    (silent_frames.load(Ordering::Relaxed) > before + 50).then_some(())
                });
            };
            // Wait for a second of silence first: `levels` can also be empty because the writing thread had to wait for a processor.
            wait_for_a_second_of_silence();
            wait_for_silence(&room);
            bob.forget();
            wait_for_a_second_of_silence();
            bob.listen();
            assert!(bob.heard.is_empty(), "{} samples", bob.heard.len());
            let said = measure::tone(RATE_HZ, 440.0, DBFS, BURST);
            word.send(said.clone()).unwrap();
            bob.hear(BURST + 2 * FRAME);
            assert!(bob.heard.windows(BURST).any(|heard| heard == said));
        });
    }
}

#[test]
fn talk_time_ends_when_a_participant_pauses_while_another_talks() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob, mut carol) = (room.join("alice"), room.join("bob"), room.join("carol"));
    alice.say(440.0);
    // On a busy machine frames of a burst can be lost, so bob says bursts until the mixer's report shows two seconds of talk time for him.
    let mut bursts = 0;
    let talked_ms = wait_until("the talk time of bob", || {
        bob.say(1000.0);
        bursts += 1;
        carol.hear_or_pause(bursts * BURST);
        let report = MixerReport::read(mixer.dir.path()).ok()??;
        let of = |who: &str| report.participants.iter().find(|one| one.name == name(who)).map(|one| one.talked_ms);
        of("bob").filter(|ms| *ms >= 2_000).and_then(|_| of("alice"))
    });
    assert!((200..1_000).contains(&talked_ms), "{talked_ms} ms");
}
