//! Slow, absent, careless and hostile participants don't disturb the others; an idle room costs nothing.

#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use palabre_room::{Format, PersonalGain, PipeReader, RecordingReader, Start};
use palabre_sound::measure;
use palabre_testing::not_shown;
use support::*;

#[test]
fn slow_reader_loses_only_its_own_frames() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, _slow, mut carol) = (room.join("alice"), room.join("slow"), room.join("carol"));
    // Say more than the pipe of the slow reader holds. Waiting for the other ears keeps the pace of real time.
    for i in 1..=9 {
        alice.say(440.0);
        carol.hear_or_pause(i * BURST);
        alice.hear_or_pause(i * BURST);
    }
    assert!(carol.hears(440.0));
    mixer.wait_for_log("slow/ear' is too slow");
    let lost = mixer.counter("lost_frames");
    assert!((30..=90).contains(&lost), "{lost}");
}

#[test]
fn reader_that_paused_hears_new_sound_after_the_contents_of_its_pipe() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut away, mut carol) = (room.join("alice"), room.join("away"), room.join("carol"));
    for i in 1..=8 {
        alice.say(440.0);
        carol.hear_or_pause(i * BURST);
    }
    wait_for_silence(&room);
    away.forget();
    alice.say(1000.0);
    away.hear(BURST);
    assert!(away.hears(1000.0) && away.does_not_hear(440.0));
}

#[test]
fn frames_for_an_absent_reader_are_not_counted_as_lost_and_it_is_served_when_it_opens_its_ear() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut carol) = (room.join("alice"), room.join("carol"));
    let absent = room.participant("absent");
    alice.say(440.0);
    carol.hear(BURST);
    wait_for_silence(&room);
    assert_eq!(mixer.counter("lost_frames"), 0);
    let mut ear = PipeReader::open(&absent.ear(), Format::default(), Start::Discard).unwrap();
    alice.say(1000.0);
    let mut heard = Vec::new();
    wait_until("the reader that was absent to hear", || {
        palabre_host::wait::is_readable(&ear, Duration::from_millis(100)).unwrap();
        ear.read(Instant::now(), &mut heard, 1 << 16).unwrap();
        (heard.len() >= BURST).then_some(())
    });
    assert!(measure::goertzel_dbfs(&heard, RATE_HZ, 1000.0) > DBFS - 12.0);
}

#[test]
fn stray_byte_does_not_turn_a_voice_into_noise() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let mut bob = room.join("bob");
    let dir = room.participant("alice");
    drop(open_mic(&dir.mic()));
    let mut file = std::fs::OpenOptions::new().write(true).open(dir.mic()).unwrap();
    std::io::Write::write_all(&mut file, &[0x55]).unwrap();
    wait_until("the stray byte to be counted", || (mixer.counter("stray_bytes") == 1).then_some(()));
    let mut alice = Person::open(&dir);
    alice.say(440.0);
    bob.hear(BURST);
    let whole = &bob.heard[FRAME..BURST - FRAME];
    assert!(measure::snr_db(whole, RATE_HZ, 440.0) > 40.0);
}

#[test]
fn flooding_writer_is_read_at_twice_real_time_at_most() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    let flood = room.participant("flood");
    room.participant("bob").set_gains(&[PersonalGain::mute(name("flood"))]).unwrap();
    drop(open_mic(&flood.mic()));
    let mut cat = Command::new("dd")
        .args(["if=/dev/zero", "bs=64k"])
        .stdout(std::fs::OpenOptions::new().write(true).open(flood.mic()).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for i in 1..=3 {
        alice.say(440.0);
        bob.hear_or_pause(i * BURST);
    }
    let taken_bytes = written_bytes(cat.id());
    cat.kill().unwrap();
    cat.wait().unwrap();
    assert!(bob.hears(440.0));
    // The mixer may read one second at once, then at twice real time. The pipe itself holds 64 KiB.
    let allowed_bytes = 48_000 + mixer.counter("ticks") * 2 * 960 + 65_536;
    assert!(taken_bytes <= allowed_bytes, "{taken_bytes} bytes taken, {allowed_bytes} allowed");
}

fn written_bytes(pid: u32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    io.lines().find_map(|line| line.strip_prefix("wchar:")).unwrap().trim().parse().unwrap()
}

#[test]
fn idle_room_causes_no_wakeups() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    alice.say(440.0);
    bob.hear(BURST);
    wait_for_silence(&room);
    let pid = mixer.child.id();
    let switches = wait_until_at_rest(pid);
    // The mixer must not run during these three seconds.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(voluntary_switches(pid), switches);
}

#[test]
fn five_hundred_silent_participants_cost_nothing_and_the_first_word_is_complete() {
    // Each participant has two pipes, so the test and the mixer each need two descriptors per participant.
    palabre_host::process::raise_nofile().unwrap();
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let mut people: Vec<Person> = (0..500).map(|i| room.join(&format!("p{i}"))).collect();
    wait_until_at_rest(mixer.child.id());
    let (wakeups, ticks) = (mixer.counter("wakeups"), mixer.counter("ticks"));
    // Wait for the duration of 100 ticks.
    std::thread::sleep(Duration::from_secs(2));
    // Only the two SIGUSR1 that read the counters may have woken the mixer. Each may wake it twice: an interrupted system call, and the
    // signal itself.
    let since = mixer.counter("wakeups") - wakeups;
    assert!(since <= 4, "{since} wakeups");
    assert_eq!(mixer.counter("ticks"), ticks);
    let word: Vec<i16> = (1..=BURST as i32).map(|i| (i * 7919 % 24_000 - 12_000) as i16 | 1).collect();
    people[0].say_samples(&word);
    for listener in [1, 250, 499] {
        people[listener].hear(BURST + FRAME);
        assert!(people[listener].heard[LOOK_AHEAD..][..BURST] == word, "the word is not complete");
    }
    assert_eq!(mixer.counter("lost_frames"), 0);
}

/// Waits until the mixer hasn't run for a second, and returns its number of context switches. The mixer's last write of `levels` wakes the
/// mixer again by inotify.
fn wait_until_at_rest(pid: u32) -> u64 {
    wait_until("the mixer to rest", || {
        let before = voluntary_switches(pid);
        std::thread::sleep(Duration::from_secs(1));
        (voluntary_switches(pid) == before).then_some(before)
    })
}

fn voluntary_switches(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn stopped_mixer_resumes_without_playing_old_sound() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    alice.say(440.0);
    bob.hear(FRAME);
    mixer.signal("STOP");
    let stopped = Instant::now();
    wait_until("half a second", || (stopped.elapsed() > Duration::from_millis(500)).then_some(()));
    mixer.signal("CONT");
    wait_for_silence(&room);
    bob.forget();
    alice.say(1000.0);
    bob.hear(BURST);
    assert!(bob.hears(1000.0) && bob.does_not_hear(440.0));
    assert!(mixer.counter("skipped_ticks") >= 15);
    // The rest of the 440 Hz tone became too old while the mixer was stopped, so the mixer dropped it.
    assert!(mixer.counter("cut_ms") > 0);
}

#[test]
fn two_users_of_the_group_take_part_and_another_user_cannot() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return not_shown("access by the room's group", "only root can run processes as other users");
    }
    const GROUP: u32 = 42_420;
    let dir = tempfile::tempdir().unwrap();
    chown(dir.path(), None, Some(GROUP)).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o2771)).unwrap();
    let mixer = Mixer::start_in(dir);
    let room = mixer.room("main");
    drop(room.join("alice"));
    let bob = room.participant("bob");
    let (mic, ear) = (room.participant("alice").mic(), bob.ear());
    let run_as = |uid: u32, gid: u32, script: String| {
        Command::new("sh")
            .args(["-c", &script])
            .uid(uid)
            .gid(gid)
            .stderr(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let (mic, ear) = (mic.display(), ear.display());
    for script in [format!("exec 3>{mic}"), format!("exec 3<>{ear}"), format!("ls {}", room.dir.path().display())] {
        assert!(!run_as(42_423, 42_423, script).wait().unwrap().success());
    }
    // One user of the group writes 200 ms of a square wave to a mic, and another user reads it from an ear.
    let listener = run_as(42_422, GROUP, format!("exec timeout 20 dd bs=960 count=10 iflag=fullblock <>{ear}"));
    let open = || std::fs::read_link(format!("/proc/{}/fd/0", listener.id())).ok().filter(|to| to.ends_with("bob/ear"));
    wait_until("the listener to open its ear", open);
    let square = r"for i in $(seq 200); do for j in 1 2 3 4 5 6 7 8 9 10 11 12; do printf '\000\020'; done; for j in 1 2 3 4 5 6 7 8 9 10 11 12; do printf '\000\360'; done; done";
    assert!(
        run_as(
            42_421,
            GROUP,
            format!("sound=/tmp/palabre-square-$$; ({square}) >$sound; cat $sound >{mic}; rm $sound")
        )
        .wait()
        .unwrap()
        .success()
    );
    let heard = listener.wait_with_output().unwrap().stdout;
    assert_eq!(heard.len(), 10 * 960);
    let samples: Vec<i16> = heard.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
    assert!(measure::goertzel_dbfs(&samples, RATE_HZ, 1000.0) > -30.0);
}

#[test]
fn exit_code_is_0_after_sigterm_and_111_without_the_rooms_directory() {
    let mut mixer = Mixer::start();
    drop(mixer.room("main").join("alice"));
    mixer.signal("TERM");
    assert_eq!(mixer.child.wait().unwrap().code(), Some(0));
    let missing = mixer.dir.path().join("missing");
    let output = Command::new(env!("CARGO_BIN_EXE_palabre-mixer")).arg("--rooms").arg(&missing).output().unwrap();
    assert_eq!(output.status.code(), Some(111));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("palabre-mixer: unable to watch '") && said.contains("make the directory"), "{said}");
}

#[test]
fn mixer_ends_when_the_rooms_directory_is_removed() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    drop(room.join("alice"));
    // The removal fails if the mixer creates a file in the room meanwhile.
    wait_until("the removal", || std::fs::remove_dir_all(mixer.dir.path()).is_ok().then_some(()));
    assert_eq!(mixer.child.wait().unwrap().code(), Some(111));
    mixer.wait_for_log("the directory was removed or moved");
}

#[test]
fn recorder_gets_the_frames_of_every_talker_with_their_time() {
    let mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    for round in 0..2 {
        // In the second round, a new recorder replaces the first.
        let mut recorder = RecordingReader::create(&room.dir.recording(), Format::default()).unwrap();
        let mut takes = Vec::new();
        // The mixer opens the recorder's pipe some time after the pipe was created.
        wait_until("20 recorded frames", || {
            alice.say(440.0);
            bob.say(1000.0);
            bob.hear(bob.heard.len() + BURST);
            recorder.read(&mut takes).unwrap();
            (takes.len() >= 20).then_some(())
        });
        wait_for_silence(&room);
        recorder.read(&mut takes).unwrap();
        for (who, freq_hz) in [("alice", 440.0), ("bob", 1000.0)] {
            let of: Vec<_> = takes.iter().filter(|take| take.name == name(who)).collect();
            assert!(of.windows(2).all(|pair| pair[0].at < pair[1].at), "round {round}");
            let said: Vec<i16> = of.iter().flat_map(|take| take.frame.clone()).collect();
            assert!(measure::goertzel_dbfs(&said, RATE_HZ, freq_hz) > DBFS - 6.0, "round {round}");
            assert!(takes.iter().any(|take| take.name == name(who)
                && takes.iter().any(|other| other.name != take.name && other.at == take.at)));
        }
    }
    // After the end of the recorder, talkers are still heard.
    bob.forget();
    alice.say(1700.0);
    bob.hear(BURST);
    assert!(bob.hears(1700.0));
}
