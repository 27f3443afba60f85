//! Tests of start and stop, and of reading the certificate again. For the handover to another process see `handover`.

use crate::client::Client;
use crate::rig::{Feed, Rig, microphone_request, new_certificate, wait_for, wait_for_exit};
use palabre_room::{Format, NO_MIXER, PipeReader, Start};
use std::process::Command;
use std::time::Duration;

#[test]
fn sigterm_moves_streams_and_ends_the_process() {
    let mut rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    let feed = Feed::start(rig.ear(), 0, Duration::from_millis(20));
    let last = records.next_of(1);
    rig.signal("TERM");
    let moved = records.next_of(5);
    assert!(moved.seq > last.seq);
    drop(feed);
    drop(records);
    assert!(wait_for_exit(&mut rig.child).success());
    // Opening the pipe succeeds, so the listener has released the lock.
    PipeReader::open(&rig.ear_path(), Format::default(), Start::Discard).unwrap();
}

#[test]
fn sigusr2_tells_the_pages_that_the_participant_was_removed_and_ends_the_process() {
    let mut rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    records.next_of(2);
    rig.signal("USR2");
    records.next_of(8);
    drop(records);
    assert!(wait_for_exit(&mut rig.child).success());
}

#[test]
fn stream_that_stays_open_does_not_keep_the_process() {
    let mut rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    records.next_of(2);
    rig.signal("TERM");
    assert!(wait_for_exit(&mut rig.child).success());
    records.next_of(5);
    assert!(records.client.is_closed());
}

#[test]
fn idle_connection_does_not_keep_the_process() {
    let mut rig = Rig::new();
    let mut client = rig.connect();
    client.get(&rig, "/me");
    rig.signal("TERM");
    assert!(wait_for_exit(&mut rig.child).success());
    assert!(client.is_closed());
}

#[test]
fn second_sigterm_ends_the_process() {
    let mut rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    records.next_of(2);
    rig.signal("TERM");
    records.next_of(5);
    rig.signal("TERM");
    assert!(wait_for_exit(&mut rig.child).success());
}

#[test]
fn microphone_is_closed_with_1012_after_sigterm() {
    let mut rig = Rig::new();
    let mut client = rig.connect();
    client.send(microphone_request(&rig));
    assert_eq!(client.answer_head().status, 101);
    rig.signal("TERM");
    // RFC 6455 §5.5.1: a close frame whose payload is the close code, two bytes in network order.
    assert_eq!(client.take(4), [&[0x88, 2][..], &1012u16.to_be_bytes()].concat());
    drop(client);
    assert!(wait_for_exit(&mut rig.child).success());
}

#[test]
fn renewed_certificate_is_used_without_a_signal_and_streams_go_on() {
    let rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    let new = new_certificate(&rig.config);
    wait_for(|| Client::connect(rig.port, &new.cert_pem).ok());
    assert!(Client::connect(rig.port, &rig.certificate.cert_pem).is_err());
    // The stream continues: there is a silence record every two seconds.
    let (one, two) = (records.record(), records.record());
    assert!(one.seq < two.seq);
}

#[test]
fn sighup_reads_the_certificate_again_and_keeps_the_old_if_the_new_is_invalid() {
    let rig = Rig::new();
    let new = new_certificate(&rig.config);
    rig.signal("HUP");
    wait_for(|| Client::connect(rig.port, &new.cert_pem).ok());
    std::fs::write(rig.config.join("tls/key.pem"), "broken").unwrap();
    rig.signal("HUP");
    rig.wait_for_status("streams=0 speaking=no certificate=refused");
    assert!(Client::connect(rig.port, &new.cert_pem).is_ok());
    assert!(Client::connect(rig.port, &rig.certificate.cert_pem).is_err());
    std::fs::write(rig.config.join("tls/key.pem"), &new.key_pem).unwrap();
    rig.signal("HUP");
    rig.wait_for_status("streams=0 speaking=no");
    assert!(Client::connect(rig.port, &new.cert_pem).is_ok());
}

#[test]
fn status_counts_streams() {
    let rig = Rig::new();
    let records = rig.connect().listen(&rig, "");
    rig.wait_for_status("streams=1 speaking=no");
    drop(records);
    rig.wait_for_status("streams=0 speaking=no");
}

#[test]
fn invalid_configuration_is_reported_in_one_line() {
    let rig = Rig::new();
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_palabre-listener")).args(args).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let config = rig.config.to_str().unwrap();
    let (code, text) = run(&["bob", "--config", config]);
    assert_eq!((code, text.lines().count()), (78, 1), "{text}");
    assert!(text.starts_with("palabre-listener[bob]: unable to use '"), "{text}");
    std::fs::write(rig.config.join("tls/cert.pem"), "").unwrap();
    let (code, text) = run(&["alice", "--config", config]);
    assert_eq!((code, text.lines().count()), (78, 1), "{text}");
    assert!(text.contains("cert.pem"), "{text}");
    let (code, text) = run(&["alice", "--config", config, "--parent-pid", "1"]);
    assert_eq!(code, 111, "{text}");
    assert_eq!(run(&[]).0, 2);
}

#[test]
fn make_room_creates_room_and_pipes() {
    let mut rig = Rig::new();
    rig.child.kill().unwrap();
    rig.child.wait().unwrap();
    std::fs::remove_dir_all(rig.room.path()).unwrap();
    let alice = rig.config.join("participants.d/alice.toml");
    let text = std::fs::read_to_string(&alice).unwrap();
    std::fs::write(&alice, format!("gain-db = -6.0\n{text}")).unwrap();
    std::fs::write(rig.config.join("palabre.toml"), "bind = \"127.0.0.1\"\n[room]\nrate-hz = 16000\n").unwrap();
    rig.child = with_make_room(&rig).spawn().unwrap();
    let directory = rig.room.participant(&"alice".parse().unwrap());
    let format = Format { rate: 16_000.try_into().unwrap() };
    wait_for(|| palabre_room::file_id(&directory.ear()).ok());
    // Wait for the file `gain`, which the listener writes after it has created the pipes.
    wait_for(|| directory.gain().ok().filter(|gain| gain.to_string() == "-6.0"));
    assert_eq!(rig.room.format().unwrap(), format);
    assert!(PipeReader::open(&directory.mic(), format, Start::Discard).is_ok());
}

#[test]
fn make_room_removes_the_mark_of_a_missing_mixer() {
    let mut rig = Rig::new();
    rig.child.kill().unwrap();
    rig.child.wait().unwrap();
    rig.room.set_no_mixer(true).unwrap();
    rig.child = with_make_room(&rig).spawn().unwrap();
    wait_for(|| (!rig.room.path().join(NO_MIXER).exists()).then_some(()));
}

fn with_make_room(rig: &Rig) -> Command {
    let run = rig.room.path().parent().unwrap().parent().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_palabre-listener"));
    command.args(["alice", "--port", "0", "--make-room", "--config"]).arg(&rig.config).arg("--run").arg(run);
    command.arg("--links").arg(run.with_file_name("links"));
    command
}
