//! Simulates several machines: each has a room directory and a bridge. A real NATS server connects the bridges.

#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use palabre_room::{BridgeReport, Format, Inbox, LevelLine, MachineLevel, Member, Message, Rate, Talk};
use palabre_sound::measure;
use support::*;

#[test]
fn three_machines_hear_each_other_with_exact_samples() {
    let broker = Broker::start();
    let mut sites = ["lyon", "nantes", "paris"].map(|machine| Site::start(machine, &broker));
    for from in 0..3 {
        for to in (0..3).filter(|to| *to != from) {
            let [from, to] = sites.get_disjoint_mut([from, to]).unwrap();
            connect(from, to);
        }
    }
    for from in 0..3 {
        let machine = sites[from].machine.to_string();
        // In this test, each sample of the first frame fits into 24 bits. Samples of the second frame don't, so a message has 4 bytes for each of
        // them.
        let said: Vec<i32> =
            (0..2 * FRAME as i32).map(|i| 1000 * (from as i32 + 1) + i * if i < 480 { 7 } else { 50_000 }).collect();
        said.chunks(FRAME).for_each(|frame| sites[from].send_frame(frame));
        for to in (0..3).filter(|to| *to != from) {
            sites[to].hear_until(&machine, *said.last().unwrap());
            let begin = sites[to].heard.iter().position(|sample| *sample == said[0]).unwrap();
            assert!(sites[to].heard[begin..] == said, "from {machine}");
            sites[to].heard.clear();
        }
    }
    for site in &sites {
        let known = site.room.machines().machines().unwrap();
        assert_eq!((known.len(), known.contains(&site.machine)), (2, false));
    }
}

#[test]
fn machine_that_sends_opus_is_heard_by_one_that_sends_exact_samples() {
    const TONE_HZ: f64 = 1000.0;
    let broker = Broker::start();
    let codec = ["codec = \"opus\"", "opus-kbps = 64"];
    let mut lyon = Site::start_with("lyon", &broker, Format::default(), &codec);
    let mut paris = Site::start("paris", &broker);
    connect(&mut paris, &mut lyon);
    paris.wait_for_machine("lyon", false);
    paris.listen_to("lyon");
    // The test's sound is a tone that doesn't fit into 16 bits, as the sum of several talkers may not.
    let sample = |i: usize| 60_000.0 * (std::f64::consts::TAU * TONE_HZ * i as f64 / 24_000.0).sin();
    let said: Vec<i32> = (0..150 * FRAME).map(|i| sample(i).round() as i32).collect();
    let lengths = thread::scope(|scope| {
        let lengths = scope.spawn(|| broker.next_lengths("palabre.v1.mix.main.lyon", 20));
        for frame in said.chunks(FRAME) {
            lyon.send_frame(frame);
            thread::sleep(Duration::from_millis(20));
            paris.hear("lyon");
        }
        lengths.join().unwrap()
    });
    // Exact samples have 1440 bytes.
    assert!(lengths.iter().all(|length| *length < 400), "{lengths:?}");
    // Compares the last second. Halves the sums, because the measurement takes samples of 16 bits.
    let half = |sums: &[i32]| sums[sums.len() - 24_000..].iter().map(|&sum| (sum / 2) as i16).collect::<Vec<_>>();
    let [said, heard] = [&said, &paris.heard].map(|sums| measure::goertzel_dbfs(&half(sums), 24_000, TONE_HZ));
    assert!((said - heard).abs() < 0.5, "said {said} dBFS, heard {heard} dBFS");
}

#[test]
fn machines_are_cut_off_by_a_killed_server_and_connected_again_without_old_sound() {
    let mut broker = Broker::start();
    let (mut lyon, mut paris) = (Site::start("lyon", &broker), Site::start("paris", &broker));
    connect(&mut lyon, &mut paris);
    broker.kill();
    lyon.send(&[8; 20]);
    paris.wait_for_machine("lyon", true);
    lyon.wait_for_machine("paris", true);
    lyon.wait_for_report(|report| !report.is_connected && report.unsent > 0 && report.links[0].is_cut_off);
    broker.restart();
    paris.wait_for_machine("lyon", false);
    lyon.wait_for_report(|report| report.is_connected && !report.links[0].is_cut_off);
    connect(&mut lyon, &mut paris);
    lyon.send(&[9]);
    paris.hear_until("lyon", 9);
    assert!(!paris.heard.contains(&8), "sound that was spoken without a broker is played");
    lyon.bridge().signal("TERM");
    assert!(lyon.bridge.as_mut().unwrap().wait().success());
    assert_eq!(BridgeReport::read(&lyon.dir.path().join("rooms")).unwrap(), None);
}

/// Returns what `palabre check` says of the bridge of a machine, as pairs of level and text.
fn checked_by_palabre(site: &Site) -> Vec<(String, String)> {
    let mut palabre = Command::new(program("palabre"));
    palabre.arg("--config").arg(site.dir.path()).arg("--run").arg(site.dir.path()).args(["check", "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&palabre.output().unwrap().stdout).unwrap();
    let checks = found["checks"].as_array().unwrap().iter().filter(|one| one["area"] == "bridge");
    checks.map(|one| ["level", "text"].map(|key| one[key].as_str().unwrap().to_owned()).into()).collect()
}

#[test]
fn check_prints_the_other_machines_or_why_the_server_can_not_be_used() {
    let mut broker = Broker::start();
    let (lyon, paris) = (Site::start("lyon", &broker), Site::start("paris", &broker));
    lyon.wait_for_machine("paris", false);
    let mut check = bridge("lyon", &broker, lyon.dir.path(), &[]);
    check.arg("--check");
    let accepted = check.output().unwrap();
    let text = String::from_utf8(accepted.stdout).unwrap();
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
    let begin = "the NATS server is connected\nthe machine 'paris' (palabre ";
    let end = ") shares main (24000 Hz); the clocks of both machines have the same time\n";
    assert!(text.starts_with(begin) && text.ends_with(end), "{text}");
    let found = checked_by_palabre(&lyon);
    assert!(found[0].0 == "ok" && found[0].1.starts_with("the NATS server is connected; the machine"), "{found:?}");
    assert_eq!(found.len(), 1, "{found:?}");
    broker.kill();
    let refused = check.output().unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && text.contains("unable to use the NATS server: "), "{text}");
    let found = checked_by_palabre(&lyon);
    assert!(found[0].0 == "fault" && found[0].1.contains("unable to use the NATS"), "{found:?}");
    drop(paris);
}

#[test]
fn check_tells_a_room_with_another_rate_and_a_clock_with_another_time() {
    let broker = Broker::start();
    let lyon = Site::start("lyon", &broker);
    let paris = Site::start_with("paris", &broker, Format { rate: Rate::try_from(48_000).unwrap() }, &[]);
    lyon.bridge().wait_for_log("it has 48000 Hz there and 24000 Hz here");
    let mut check = bridge("lyon", &broker, lyon.dir.path(), &[]);
    let refused = check.arg("--check").output().unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    let fault = "the room 'main' is not connected with the machine 'paris': it has 48000 Hz there and 24000 Hz here";
    assert!(refused.status.code() == Some(1) && text.contains(fault), "{text}");
    // The test acts as a third machine, 'nantes', whose wall clock is an hour behind.
    let unix_ms = palabre_host::clock::unix_ms() - 3_600_000;
    let heartbeat = format!(
        r#"{{"version":1,"epoch":7,"time_us":5,"unix_ms":{unix_ms},"suite":"0.1.0","rooms":{{"main":24000}}}}"#
    );
    let is_checked = AtomicBool::new(false);
    let found = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_checked.load(Ordering::Relaxed) {
                broker.publish("", "palabre.v1.machine.nantes", heartbeat.as_bytes());
                thread::sleep(Duration::from_millis(200));
            }
        });
        let found = checked_by_palabre(&lyon);
        is_checked.store(true, Ordering::Relaxed);
        found
    });
    assert!(found.iter().any(|(level, text)| level == "fault" && text.starts_with(fault)), "{found:?}");
    let is_told =
        |text: &str| text.starts_with("the clock of the machine 'nantes' is 36") && text.contains(" s behind");
    assert!(found.iter().any(|(level, text)| level == "warning" && is_told(text)), "{found:?}");
    drop(paris);
}

#[test]
fn sound_of_a_bridge_that_was_stopped_is_not_played_later() {
    let broker = Broker::start();
    let (mut lyon, mut paris) = (Site::start("lyon", &broker), Site::start("paris", &broker));
    connect(&mut lyon, &mut paris);
    lyon.bridge().signal("STOP");
    // While lyon's bridge is stopped, the test writes eight frames into the bridge's pipe, half as much sound as the pipe can hold.
    lyon.send(&[8; 8]);
    paris.wait_for_machine("lyon", true);
    lyon.bridge().signal("CONT");
    paris.wait_for_machine("lyon", false);
    lyon.send(&[9]);
    paris.hear_until("lyon", 9);
    assert!(!paris.heard.contains(&8), "old sound was sent");
}

#[test]
fn sound_that_waited_for_a_stopped_bridge_is_not_played() {
    let broker = Broker::start();
    let (mut lyon, mut paris) = (Site::start("lyon", &broker), Site::start("paris", &broker));
    connect(&mut lyon, &mut paris);
    paris.bridge().signal("STOP");
    lyon.send(&[8; 8]);
    lyon.wait_for_machine("paris", true);
    paris.bridge().signal("CONT");
    lyon.wait_for_machine("paris", false);
    lyon.send(&[9]);
    paris.hear_until("lyon", 9);
    assert!(!paris.heard.contains(&8), "sound that is older than 300 ms was played");
}

#[test]
fn second_machine_with_the_same_name_is_refused_and_disturbs_nobody() {
    let broker = Broker::start();
    let (mut lyon, mut paris) = (Site::start("lyon", &broker), Site::start("paris", &broker));
    connect(&mut lyon, &mut paris);
    let mut second = Site::start("lyon", &broker);
    assert_eq!(second.bridge.as_mut().unwrap().wait().code(), Some(1));
    second.bridge().wait_for_log("unable to connect as 'lyon': another palabre-bridge with this name is connected");
    lyon.send(&[9]);
    paris.hear_until("lyon", 9);
}

#[test]
fn room_with_another_sample_rate_and_machine_with_another_version_are_refused() {
    let broker = Broker::start();
    let format = Format { rate: Rate::try_from(48_000).unwrap() };
    let (lyon, paris) = (Site::start("lyon", &broker), Site::start_with("paris", &broker, format, &[]));
    lyon.bridge().wait_for_log("the room 'main' is not connected with the machine 'paris': it has 48000 Hz there");
    paris.bridge().wait_for_log("it has 24000 Hz there and 48000 Hz here; set the same 'rate-hz' on both");
    broker.publish("", "palabre.v2.machine.rome", br#"{"version":2}"#);
    lyon.bridge().wait_for_log("the machine 'rome' is refused: it sends messages of version 2");
    broker.publish("", "palabre.v2.machine.bern", b"\xff");
    lyon.bridge().wait_for_log("the machine 'bern' is refused: it sends messages of an unknown version");
    broker.publish("", "palabre.v1.machine.oslo", b"\xff");
    lyon.bridge().wait_for_log("a heartbeat of the machine 'oslo' is ignored: it is invalid");
    assert_eq!((lyon.file("paris"), paris.file("lyon"), lyon.file("rome")), (None, None, None));
}

#[test]
fn room_that_is_created_again_with_another_sample_rate_is_connected() {
    let broker = Broker::start();
    let sites = [Site::start("lyon", &broker), Site::start("paris", &broker)];
    sites[0].wait_for_machine("paris", false);
    sites[1].wait_for_machine("lyon", false);
    for site in &sites {
        std::fs::remove_dir_all(site.room.path()).unwrap();
        site.room.create(Format { rate: Rate::try_from(48_000).unwrap() }).unwrap();
    }
    sites[0].wait_for_machine("paris", false);
    sites[1].wait_for_machine("lyon", false);
    sites[0].wait_for_report(|report| report.links.len() == 1);
}

#[test]
fn machine_that_restarts_in_each_message_does_not_fill_the_log() {
    let broker = Broker::start();
    let lyon = Site::start("lyon", &broker);
    lyon.bridge().wait_for_log("this machine shares rooms with other machines under the name 'lyon'");
    for epoch in 0..100 {
        let goodbye = epoch % 2 == 1;
        let text = format!(
            r#"{{"version":1,"epoch":{epoch},"time_us":0,"suite":"9","rooms":{{"main":24000}},"goodbye":{goodbye}}}"#
        );
        broker.publish("", "palabre.v1.machine.rome", text.as_bytes());
    }
    broker.publish("", "palabre.v2.machine.oslo", br#"{"version":2}"#);
    lyon.bridge().wait_for_log("the machine 'oslo' is refused");
    let count = lyon.bridge().count_in_log("the machine 'rome'");
    assert!((1..30).contains(&count), "{count} lines");
}

#[test]
fn restarted_machine_is_heard_again_and_one_that_leaves_is_removed() {
    let broker = Broker::start();
    let (mut lyon, mut paris) = (Site::start("lyon", &broker), Site::start("paris", &broker));
    connect(&mut lyon, &mut paris);
    lyon.bridge().signal("KILL");
    lyon.bridge.as_mut().unwrap().wait();
    lyon.start_bridge(&broker, &["message-ms = 60"]);
    paris.wait_for_machine("lyon", true);
    paris.wait_for_machine("lyon", false);
    connect(&mut lyon, &mut paris);
    lyon.bridge().signal("TERM");
    assert!(lyon.bridge.as_mut().unwrap().wait().success());
    wait_until("lyon to be removed", || {
        let is_gone = paris.file("lyon").is_none() && paris.room.machines().machines().unwrap().is_empty();
        is_gone.then_some(())
    });
    assert!(lyon.file("paris").is_none() && !lyon.room.machines().inbox().exists());
}

#[test]
fn people_levels_and_recordings_are_shown_on_other_machines() {
    let broker = Broker::start();
    let (mut lyon, mut paris) = (Site::start("lyon", &broker), Site::start("paris", &broker));
    let member = |line: &str| line.parse::<Member>().unwrap();
    lyon.room.write_names(&[member("alice\there hand\tZoé"), member("bob\there muted\tBob")]).unwrap();
    lyon.room
        .write_levels(&[
            LevelLine { name: name("alice"), state: Talk::Talking, dbfs: -21.3 },
            LevelLine { name: name("bob"), state: Talk::Muted, dbfs: f32::NEG_INFINITY },
        ])
        .unwrap();
    std::fs::write(lyon.room.recording(), "").unwrap();
    connect(&mut lyon, &mut paris);
    let shown = wait_until("alice to talk", || {
        lyon.send(&[7]);
        let state = paris.file("lyon")?;
        let is_talking = state.people.iter().any(|person| matches!(person.level, MachineLevel::Talking(_)));
        (is_talking && state.is_recorded).then_some(state)
    });
    let text = "connected recorded\nalice\there hand\ttalking -21.3\tZoé\nbob\there muted\tmuted\tBob\n";
    assert_eq!(shown.to_string(), text);
    lyon.room.write_names(&[member("alice\taway\tZoé")]).unwrap();
    wait_until("alice to be away", || {
        let state = paris.file("lyon")?;
        (state.to_string() == "connected recorded\nalice\taway\t-\tZoé\n").then_some(())
    });
}

#[test]
fn text_reaches_the_participants_of_other_machines_once_and_is_kept() {
    let broker = Broker::start();
    let (mut lyon, mut paris) = (Site::start("lyon", &broker), Site::start("paris", &broker));
    let bob = paris.room.participant(&name("bob"));
    bob.create().unwrap();
    let inbox = Inbox::bind(&bob).unwrap();
    connect(&mut lyon, &mut paris);
    let said = Message::new(name("alice").into(), "Bonjour").unwrap().with_id("7").unwrap();
    lyon.room.tell(&said).unwrap();
    lyon.room.tell(&said.clone().with_id("8").unwrap()).unwrap();
    // A reaction has no ID and is not kept.
    lyon.room.tell(&Message::new(name("alice").into(), "👍").unwrap()).unwrap();
    let mut received = Vec::new();
    wait_until("three texts", || {
        received.extend(inbox.receive(9).1);
        (received.len() >= 3).then_some(())
    });
    let received: Vec<String> = received.iter().map(ToString::to_string).collect();
    let reaction = Message::new("alice@lyon".parse().unwrap(), "👍").unwrap().to_string();
    assert_eq!(received, ["alice@lyon\t7\tBonjour", "alice@lyon\t8\tBonjour", &reaction]);
    let kept = paris.room.kept_messages(palabre_host::clock::boottime_ms()).unwrap();
    assert_eq!(kept.iter().map(|kept| kept.message.to_string()).collect::<Vec<_>>(), received[..2]);
}

/// Makes an nkey in a directory. Returns the path of the file and the public part.
fn new_nkey(dir: &Path) -> (String, String) {
    let file = dir.join("bridge.nk").to_str().unwrap().to_owned();
    let output = Command::new(env!("CARGO_BIN_EXE_palabre-bridge")).args(["--new-nkey", &file]).output().unwrap();
    assert!(output.status.success() && std::fs::metadata(&file).unwrap().permissions().mode() & 0o777 == 0o600);
    (file, String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn example_of_the_server_s_configuration_lets_a_machine_use_only_its_own_name() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let keys = dirs.each_ref().map(|dir| new_nkey(dir.path()));
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/nats/nats-server.conf");
    let mut config = std::fs::read_to_string(example).unwrap();
    for (letter, (_, public)) in ["A", "B"].iter().zip(&keys) {
        let example = format!("U{}", letter.repeat(55));
        assert!(config.contains(&example), "{example}");
        config = config.replace(&example, public);
    }
    let path = dirs[0].path().join("nats-server.conf");
    std::fs::write(&path, config).unwrap();
    let broker = Broker::start_with(&["--config", path.to_str().unwrap()]);
    let [lyon_dir, paris_dir] = dirs;
    let lines = keys.each_ref().map(|(file, _)| format!("nkey = \"{file}\""));
    let with_key = |key: usize| [lines[key].as_str()];
    let mut lyon = Site::start_in(lyon_dir, "lyon", &broker, Format::default(), &with_key(0));
    let mut paris = Site::start_in(paris_dir, "paris", &broker, Format::default(), &with_key(1));
    connect(&mut lyon, &mut paris);
    // The bridge of 'rome' uses the key of 'paris'. So the NATS server forbids it to publish messages of 'rome'.
    let rome = Site::start_with("rome", &broker, Format::default(), &with_key(1));
    rome.bridge().wait_for_log("Permissions Violation for Publish to \"palabre.v1.machine.rome\"");
    assert_eq!(lyon.file("rome"), None);
    let other = tempfile::tempdir().unwrap();
    let unknown = new_nkey(other.path()).0;
    let oslo = Site::start_with("oslo", &broker, Format::default(), &[&format!("nkey = \"{unknown}\"")]);
    oslo.bridge().wait_for_log("the NATS server or the connection to it reports a problem");
}

#[test]
fn bridge_without_a_shared_room_names_the_missing_settings() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("palabre.toml"), "[bridge]\nmachine = \"paris\"\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_palabre-bridge"));
    let output = command.arg("--config").arg(dir.path()).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(error.contains("shares no room; set 'machine', 'rooms' and 'servers' in [bridge]"), "{error}");
}

#[test]
fn connection_by_tls_needs_a_certificate_of_a_known_authority() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|file| dir.path().join(file).to_str().unwrap().to_owned());
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let broker = Broker::start_with(&["--tls", "--tlscert", &certificate, "--tlskey", &key]);
    let ca = format!("ca = \"{certificate}\"");
    let [mut lyon, mut paris] =
        ["lyon", "paris"].map(|machine| Site::start_with(machine, &broker, Format::default(), &[&ca]));
    connect(&mut lyon, &mut paris);
    // The bridge of 'rome' has no setting 'ca', so it trusts only the system's authorities and refuses the NATS server's certificate.
    let rome = Site::start("rome", &broker);
    rome.bridge().wait_for_log("the NATS server or the connection to it reports a problem");
    assert_eq!(lyon.file("rome"), None);
}
