//! Starting, being replaced, leaving.

use crate::client::Client;
use crate::rig::{Feed, Rig, new_certificate, signal, wait_for, wait_for_exit};
use palabre_room::{Format, PipeReader, Start};
use std::process::Command;
use std::time::Duration;

#[test]
fn sigterm_tells_the_streams_to_move_and_ends_the_process() {
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
    // The pipe was given back.
    PipeReader::open(&rig.ear_path(), Format::default(), Start::Discard).unwrap();
}

#[test]
fn a_stream_that_does_not_leave_does_not_hold_the_process() {
    let mut rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    records.next_of(2);
    rig.signal("TERM");
    assert!(wait_for_exit(&mut rig.child).success());
    records.next_of(5);
    assert!(records.client.is_closed());
}

#[test]
fn a_kept_connection_that_only_waits_does_not_hold_the_process() {
    let mut rig = Rig::new();
    let mut client = rig.connect();
    client.get(&rig, "/me");
    rig.signal("TERM");
    assert!(wait_for_exit(&mut rig.child).success());
    assert!(client.is_closed());
}

#[test]
fn whoever_was_told_to_move_finds_no_connection_to_the_old_process() {
    let mut rig = Rig::new();
    let mut kept = rig.connect();
    kept.get(&rig, "/me");
    let mut unused = rig.connect();
    let mut records = rig.connect().listen(&rig, "");
    let mut first = rig.replace();
    signal(&first, "TERM");
    records.next_of(5);
    for client in [&mut kept, &mut unused] {
        let asked = client.try_send(format!("GET /me HTTP/1.1\r\nHost: localhost\r\n{}\r\n", rig.bearer()));
        assert!(asked.is_err() || client.closes_without_an_answer(), "the old process has answered");
    }
    // A new connection leads to the new one, which keeps it.
    let mut client = rig.connect();
    assert_eq!(client.get(&rig, "/me").field("connection"), None);
    assert_eq!(client.get(&rig, "/me").status, 200);
    drop(records);
    assert!(wait_for_exit(&mut first).success());
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    let mut rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    records.next_of(2);
    rig.signal("TERM");
    records.next_of(5);
    rig.signal("TERM");
    assert!(wait_for_exit(&mut rig.child).success());
}

#[test]
fn a_replacement_goes_on_where_the_first_has_stopped() {
    let mut rig = Rig::new();
    let mut old = rig.connect().listen(&rig, "");
    let _feed = Feed::start(rig.ear(), 0, Duration::from_millis(20));
    old.next_of(1);
    let mut first = rig.replace();
    signal(&first, "TERM");
    let mut last = old.next_of(1);
    let moved = loop {
        match old.record() {
            record if record.kind == 1 => last = record,
            record if record.kind == 5 => break record,
            _ => {}
        }
    };
    // Connections go to the new process, or wait for it: none is refused.
    let mut new = rig.connect().listen(&rig, &format!("?from={}", moved.seq));
    assert_eq!(new.record().kind, 0);
    let next = new.next_of(1);
    assert!(next.seq > moved.seq && moved.seq > last.seq);
    assert!(next.samples[0] > *last.samples.last().unwrap());
    drop(old);
    assert!(wait_for_exit(&mut first).success());
}

#[test]
fn between_two_processes_no_sample_is_missing_and_no_gap_is_told() {
    let mut rig = Rig::new();
    let mut old = rig.connect().listen(&rig, "");
    let _feed = Feed::start(rig.ear(), 0, Duration::from_millis(20));
    let mut heard = old.next_of(1).samples;
    let mut first = rig.replace();
    signal(&first, "USR1");
    // The one that leaves goes on after it has told so, until somebody has come to the other one.
    let (mut told, mut after) = (false, 0);
    let from = loop {
        match old.record() {
            record if record.kind == 5 => told = !record.is_last,
            record if record.kind == 1 => {
                heard.extend(&record.samples);
                after += usize::from(told);
                if after == 3 {
                    break record.seq;
                }
            }
            _ => {}
        }
    };
    let mut new = rig.connect().listen(&rig, &format!("?from={from}"));
    loop {
        match old.record() {
            record if record.kind == 5 => break assert!(record.is_last),
            record => heard.extend(&record.samples),
        }
    }
    assert_eq!(new.record().kind, 0);
    assert_eq!(new.record().kind, 3);
    for _ in 0..3 {
        // It doesn't say that the room is silent, either.
        let record = new.record();
        assert_eq!((record.kind, record.gap), (1, false), "{record:?}");
        heard.extend(&record.samples);
    }
    let frames: Vec<&[i16]> = heard.chunks(480).collect();
    for (frame, number) in frames.iter().zip(frames[0][0]..) {
        assert_eq!(*frame, [number; 480]);
    }
    drop(old);
    assert!(wait_for_exit(&mut first).success());
}

#[test]
fn a_process_that_nobody_leaves_ends_all_the_same() {
    let mut rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    let _feed = Feed::start(rig.ear(), 0, Duration::from_millis(20));
    records.next_of(1);
    rig.signal("USR1");
    assert!(!records.next_of(5).is_last);
    assert!(records.next_of(5).is_last);
    assert!(wait_for_exit(&mut rig.child).success());
}

#[test]
fn a_microphone_goes_on_until_its_page_leaves_it() {
    let mut rig = Rig::new();
    let mut client = rig.connect();
    client.send(microphone(&rig));
    assert_eq!(client.answer_head().status, 101);
    rig.wait_for_status("streams=0 speaking=ws");
    let mut mic = rig.mic();
    rig.signal("USR1");
    // RFC 6455 §5.2: a masked binary message, whose mask of zeros changes nothing.
    let chunk = |number: u32| {
        let head = [&number.to_le_bytes()[..], &[0; 4], &0f64.to_le_bytes()].concat();
        [&[0x82, 0x80 + 126][..], &976u16.to_be_bytes(), &[0; 4], &head, &[1; 960]].concat()
    };
    rig.wait_until_stopping();
    client.send(chunk(0));
    let mut said = Vec::new();
    wait_for(|| {
        mic.read(std::time::Instant::now(), &mut said, 480).unwrap();
        (said == [0x0101; 480]).then_some(())
    });
    // Nobody has left it when the time is over.
    assert_eq!(client.take(4), [&[0x88, 2][..], &1012u16.to_be_bytes()].concat());
    drop(client);
    assert!(wait_for_exit(&mut rig.child).success());
}

fn microphone(rig: &Rig) -> String {
    format!(
        "GET /speak HTTP/1.1\r\nHost: a\r\n{}Connection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        rig.bearer()
    )
}

#[test]
fn a_microphone_is_told_1012() {
    let mut rig = Rig::new();
    let mut client = rig.connect();
    client.send(microphone(&rig));
    assert_eq!(client.answer_head().status, 101);
    rig.signal("TERM");
    // RFC 6455 §5.5.1: a close frame of two bytes, the code in network order.
    assert_eq!(client.take(4), [&[0x88, 2][..], &1012u16.to_be_bytes()].concat());
    drop(client);
    assert!(wait_for_exit(&mut rig.child).success());
}

#[test]
fn a_renewed_certificate_is_found_without_a_signal_and_no_stream_ends() {
    let rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    let new = new_certificate(&rig.config);
    wait_for(|| Client::connect(rig.port, &new.cert_pem).ok());
    assert!(Client::connect(rig.port, &rig.certificate.cert_pem).is_err());
    // Silence is told every two seconds.
    let (one, two) = (records.record(), records.record());
    assert!(one.seq < two.seq);
}

#[test]
fn sighup_reads_the_certificate_again_and_keeps_the_old_when_the_new_is_broken() {
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
fn the_status_counts_streams() {
    let rig = Rig::new();
    let records = rig.connect().listen(&rig, "");
    rig.wait_for_status("streams=1 speaking=no");
    drop(records);
    rig.wait_for_status("streams=0 speaking=no");
}

#[test]
fn what_is_wrong_with_the_configuration_is_said_in_one_line() {
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
fn without_a_supervisor_it_makes_room_and_pipes_itself() {
    let mut rig = Rig::new();
    rig.child.kill().unwrap();
    rig.child.wait().unwrap();
    std::fs::remove_dir_all(rig.room.path()).unwrap();
    let alice = rig.config.join("participants.d/alice.toml");
    let text = std::fs::read_to_string(&alice).unwrap();
    std::fs::write(&alice, format!("gain-db = -6.0\n{text}")).unwrap();
    std::fs::write(rig.config.join("palabre.toml"), "bind = \"127.0.0.1\"\n[room]\nrate-hz = 16000\n").unwrap();
    let run = rig.room.path().parent().unwrap().parent().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_palabre-listener"));
    command.args(["alice", "--port", "0", "--make-room", "--config"]).arg(&rig.config).arg("--run").arg(run);
    rig.child = command.spawn().unwrap();
    let directory = rig.room.participant(&"alice".parse().unwrap());
    let format = Format { rate: 16_000.try_into().unwrap() };
    wait_for(|| palabre_room::pipe_id(&directory.ear()).ok());
    // The gain is written last.
    wait_for(|| directory.gain().ok().filter(|gain| gain.to_string() == "-6.0"));
    assert_eq!(rig.room.format().unwrap(), format);
    assert!(PipeReader::open(&directory.mic(), format, Start::Discard).is_ok());
}
