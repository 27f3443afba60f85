//! Microphones and ears that are growing WAV files instead of pipes.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use palabre_room::ParticipantDir;
use palabre_sound::measure;
use palabre_sound::wav::{self, Head};
use support::*;

/// Creates a participant whose microphone is a file, and returns the file's path.
fn with_file(room: &Room, who: &str, bytes: &[u8]) -> PathBuf {
    let dir = room.dir.participant(&name(who));
    fs::create_dir(dir.path()).unwrap();
    fs::write(dir.mic(), bytes).unwrap();
    dir.create().unwrap();
    dir.mic()
}

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn bytes_of(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

/// Returns a WAV with a burst of a tone.
fn tone(freq_hz: f64) -> Vec<u8> {
    bytes_of(&measure::tone(RATE_HZ, freq_hz, DBFS, BURST))
}

/// Returns the header of a WAV that a program is still writing: `size` is in the fields for the sizes, although they are not yet known.
fn unfinished(size: u32) -> Vec<u8> {
    let mut head = wav::endless_head(RATE_HZ);
    head[4..8].copy_from_slice(&size.to_le_bytes());
    head[40..44].copy_from_slice(&size.to_le_bytes());
    head
}

#[test]
fn growing_wav_is_heard() {
    for size in [0, 100, u32::MAX] {
        let mut mixer = Mixer::start();
        let room = mixer.room("main");
        let mut bob = room.join("bob");
        let mic = with_file(&room, "alice", &[]);
        mixer.wait_for_log("alice/mic' for reading: a growing WAV");
        append(&mic, &unfinished(size)[..20]);
        append(&mic, &unfinished(size)[20..]);
        for freq_hz in [440.0, 1000.0] {
            append(&mic, &tone(freq_hz));
            bob.hear(BURST);
            assert!(bob.hears(freq_hz), "{size}");
            wait_for_silence(&room);
            bob.forget();
        }
    }
}

#[test]
fn wav_in_another_format_is_converted() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let mut bob = room.join("bob");
    // The file's format is not the room's: 48 kHz, two channels, 32-bit float.
    let mut head = unfinished(0);
    head[20..22].copy_from_slice(&3u16.to_le_bytes());
    head[22..24].copy_from_slice(&2u16.to_le_bytes());
    head[24..28].copy_from_slice(&48_000u32.to_le_bytes());
    head[32..34].copy_from_slice(&8u16.to_le_bytes());
    head[34..36].copy_from_slice(&32u16.to_le_bytes());
    let samples = measure::tone(48_000, 1000.0, DBFS, 14_400);
    let both = samples.iter().flat_map(|&x| [f32::from(x) / 32_768.0; 2]);
    let mic = with_file(&room, "alice", &head);
    append(&mic, &both.flat_map(f32::to_le_bytes).collect::<Vec<u8>>());
    bob.hear(BURST);
    assert!(bob.hears(1000.0));
}

#[test]
fn wav_that_replaces_another_is_heard_after_it() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let mut bob = room.join("bob");
    let mic = with_file(&room, "alice", &unfinished(0));
    let piece = |freq_hz: f64| wav::little(RATE_HZ, &measure::tone(RATE_HZ, freq_hz, DBFS, BURST));
    let replace = |freq_hz: f64| {
        let new = mixer.dir.path().join("piece.wav");
        fs::write(&new, piece(freq_hz)).unwrap();
        fs::rename(&new, &mic).unwrap();
    };
    // The second file replaces the first file while the first is being played.
    replace(440.0);
    bob.hear(FRAME);
    replace(1000.0);
    bob.hear(2 * BURST);
    assert!(bob.hears(440.0) && bob.hears(1000.0));
    wait_for_silence(&room);
    bob.forget();
    replace(1700.0);
    bob.hear(BURST);
    assert!(bob.hears(1700.0) && bob.does_not_hear(1000.0));
}

#[test]
fn truncated_wav_is_read_from_its_start() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let mut bob = room.join("bob");
    let mic = with_file(&room, "alice", &[unfinished(0), tone(440.0)].concat());
    bob.hear(BURST);
    wait_for_silence(&room);
    bob.forget();
    fs::write(&mic, wav::little(RATE_HZ, &measure::tone(RATE_HZ, 1000.0, DBFS, BURST))).unwrap();
    bob.hear(BURST);
    assert!(bob.hears(1000.0) && bob.does_not_hear(440.0));
}

#[test]
fn pipe_and_file_can_replace_each_other() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let mut bob = room.join("bob");
    let mic = with_file(&room, "alice", &[unfinished(0), tone(440.0)].concat());
    bob.hear(BURST);
    fs::remove_file(&mic).unwrap();
    let mut alice = room.join("alice");
    wait_for_silence(&room);
    bob.forget();
    alice.say(1000.0);
    bob.hear(BURST);
    assert!(bob.hears(1000.0));
    wait_for_silence(&room);
    bob.forget();
    fs::remove_file(&mic).unwrap();
    fs::write(&mic, [unfinished(0), tone(1700.0)].concat()).unwrap();
    bob.hear(BURST);
    assert!(bob.hears(1700.0));
}

#[test]
fn symbolic_links_are_not_followed() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let secret = mixer.dir.path().join("secret.wav");
    fs::write(&secret, wav::little(RATE_HZ, &[1; BURST])).unwrap();
    let dir = room.dir.participant(&name("alice"));
    fs::create_dir(dir.path()).unwrap();
    symlink(&secret, dir.mic()).unwrap();
    mixer.wait_for_log("alice/mic' is not a named pipe");
    symlink(&secret, dir.ear()).unwrap();
    mixer.wait_for_log("alice/ear' is not a named pipe");
    assert_eq!(fs::read(&secret).unwrap(), wav::little(RATE_HZ, &[1; BURST]));
}

#[test]
fn mic_and_ear_may_be_links_to_files_on_a_disk() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let mut bob = room.join("bob");
    fs::create_dir(mixer.files()).unwrap();
    let (evening, song) = (mixer.files().join("evening.wav"), mixer.files().join("song.wav"));
    let [recorder, radio] = ["recorder", "radio"].map(|who| room.dir.participant(&name(who)));
    for (dir, file) in [(&recorder, &evening), (&radio, &song)] {
        fs::create_dir(dir.path()).unwrap();
        File::create(file).unwrap();
    }
    symlink(&evening, recorder.ear()).unwrap();
    symlink(&song, radio.mic()).unwrap();
    append(&song, &[unfinished(0), tone(1000.0)].concat());
    bob.hear(BURST);
    assert!(bob.hears(1000.0));
    append(&song, &tone(1700.0));
    wait_until("the sound in the file", || (level(&recorded(&evening), 1700.0) > DBFS - 12.0).then_some(()));
}

/// Creates a participant whose ear is an empty file.
fn file_ear(room: &Room, who: &str) -> ParticipantDir {
    let dir = room.dir.participant(&name(who));
    fs::create_dir(dir.path()).unwrap();
    File::create(dir.ear()).unwrap();
    dir.create().unwrap();
    dir
}

/// Returns the samples that the header counts, and checks that the file has as many.
fn recorded(path: &Path) -> Vec<i16> {
    let bytes = fs::read(path).unwrap();
    if bytes.is_empty() {
        return Vec::new();
    }
    let head = Head::read(&mut &bytes[..]).unwrap();
    assert_eq!(head.rate_hz, RATE_HZ);
    let size = head.data_bytes.unwrap() as usize;
    assert!(size <= bytes.len() - 44);
    bytes[44..44 + size].chunks_exact(2).map(|x| i16::from_le_bytes([x[0], x[1]])).collect()
}

fn level(samples: &[i16], freq_hz: f64) -> f64 {
    let levels = samples.chunks_exact(BURST / 2).map(|piece| measure::goertzel_dbfs(piece, RATE_HZ, freq_hz));
    levels.fold(f64::NEG_INFINITY, f64::max)
}

#[test]
fn ear_file_grows_in_real_time_and_contains_the_speech() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let began = std::time::Instant::now();
    let ear = file_ear(&room, "recorder").ear();
    let mut alice = room.join("alice");
    alice.say(440.0);
    let heard = wait_until("the word in the file", || {
        let heard = recorded(&ear);
        (level(&heard, 440.0) > DBFS - 12.0).then_some(heard)
    });
    // The file also grows while nobody talks.
    let longer = wait_until("two more seconds in the file", || {
        let longer = recorded(&ear);
        (longer.len() > heard.len() + 2 * RATE_HZ as usize).then_some(longer)
    });
    assert!(longer[longer.len() - RATE_HZ as usize..].iter().all(|sample| *sample == 0));
    alice.say(1000.0);
    let all = wait_until("the second word in the file", || {
        let heard = recorded(&ear);
        (level(&heard, 1000.0) > DBFS - 12.0).then_some(heard)
    });
    assert!(level(&all[..longer.len()], 1000.0) < ABSENT_DBFS, "the second word comes after the silence");
    assert!(all.len() as f64 / f64::from(RATE_HZ) <= began.elapsed().as_secs_f64());
}

#[test]
fn idle_room_with_an_ear_file_wakes_once_a_second() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let ear = file_ear(&room, "recorder").ear();
    wait_until("the first second", || (!recorded(&ear).is_empty()).then_some(()));
    // Call only stat(2): opening the file would wake the mixer.
    let length = || fs::metadata(&ear).unwrap().len();
    let (before, begin) = (mixer.counter("wakeups"), length());
    wait_until("three more seconds in the file", || (length() >= begin + 6 * u64::from(RATE_HZ)).then_some(()));
    let wakeups = mixer.counter("wakeups") - before;
    assert!(wakeups <= 8, "{wakeups}");
    assert_eq!(mixer.counter("ticks"), 0);
}

#[test]
fn ear_file_with_other_contents_is_not_changed() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    let dir = room.dir.participant(&name("carol"));
    fs::create_dir(dir.path()).unwrap();
    // Write the text file elsewhere and rename it to `ear`: in place, the file would be empty at first, and the mixer would use it as an ear.
    let letter = mixer.dir.path().join("letter");
    fs::write(&letter, "a letter").unwrap();
    fs::rename(&letter, dir.ear()).unwrap();
    mixer.wait_for_log("carol/ear': the file is neither empty nor a WAV in the room's format");
    alice.say(440.0);
    bob.hear(BURST);
    assert!(bob.hears(440.0));
    assert_eq!(fs::read_to_string(dir.ear()).unwrap(), "a letter");
}

#[test]
fn full_disk_ends_one_ear_only() {
    // Limits the mixer's files to half a second of sound. Beyond that write(2) fails, as SIGXFSZ is ignored.
    let mut mixer = Mixer::start_by(&["sh", "-c", "trap '' XFSZ; ulimit -f 48; exec \"$@\"", "sh"]);
    let room = mixer.room("main");
    let ear = file_ear(&room, "recorder").ear();
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    for i in 1..=6 {
        alice.say(440.0);
        bob.hear_or_pause(i * BURST);
    }
    let said = mixer.wait_for_log("the mixer writes no more sound to this file; replace it by an empty file or a pipe");
    assert!(said.contains("recorder/ear': File too large"), "{said}");
    bob.forget();
    alice.say(1000.0);
    bob.hear(BURST);
    assert!(bob.hears(1000.0));
    assert!(!recorded(&ear).is_empty(), "the file is still a WAV");
    // The mixer writes to a new file that replaces the full one.
    let new = mixer.dir.path().join("new");
    File::create(&new).unwrap();
    fs::rename(&new, &ear).unwrap();
    wait_until("a new header", || (fs::metadata(&ear).unwrap().len() >= 44).then_some(()));
}
