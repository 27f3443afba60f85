//! Tests in which a listener is replaced by a planned restart (SIGUSR1), stopped and started again (SIGTERM), or killed.

use crate::client::{Begun, Client, Records};
use crate::rig::{Feed, Rig, microphone_request, signal, wait_for, wait_for_exit};
use palabre_room::Message;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The signals that end a listener: planned replacement, stop, and a crash.
const SIGNALS: [&str; 3] = ["USR1", "TERM", "KILL"];

#[test]
fn client_within_its_handshake_gets_its_answer_from_the_old_process() {
    let mut rig = Rig::new();
    let mut begun = Begun::begin(b"", rustls::DEFAULT_VERSIONS, rig.port, &rig.certificate.cert_pem).unwrap();
    begun.connection.write_tls(&mut begun.tcp).unwrap();
    // The server's part of the handshake has arrived, so the old process has the connection.
    begun.connection.read_tls(&mut begun.tcp).unwrap();
    let mut first = rig.replace();
    signal(&first, "TERM");
    rig.wait_until_stopping();
    begun.connection.process_new_packets().unwrap();
    let mut client = begun.complete().unwrap();
    assert_eq!(client.get(&rig, "/me").status, 200);
    assert!(wait_for_exit(&mut first).success());
}

#[test]
fn idle_connections_to_the_old_process_are_closed_before_streams_move() {
    let mut rig = Rig::new();
    let mut kept = rig.connect();
    kept.get(&rig, "/me");
    // With TLS 1.2 the listener's message ends the handshake, so for the listener this connection is no longer within its handshake.
    let mut unused = Client::connect_by(&[&rustls::version::TLS12], rig.port, &rig.certificate.cert_pem).unwrap();
    let mut records = rig.connect().listen(&rig, "");
    let mut first = rig.replace();
    signal(&first, "TERM");
    records.next_of(5);
    for client in [&mut kept, &mut unused] {
        let asked = client.try_send(format!("GET /me HTTP/1.1\r\nHost: localhost\r\n{}\r\n", rig.bearer()));
        assert!(asked.is_err() || client.closes_without_an_answer(), "the old process answered the request");
    }
    // A new connection reaches the new process, which keeps the connection open after a response.
    let mut client = rig.connect();
    assert_eq!(client.get(&rig, "/me").field("connection"), None);
    assert_eq!(client.get(&rig, "/me").status, 200);
    drop(records);
    assert!(wait_for_exit(&mut first).success());
}

#[test]
fn next_process_continues_after_sigterm() {
    let mut rig = Rig::new();
    let mut old = rig.connect().listen(&rig, "");
    let _feed = Feed::start(rig.ear(), 0, Duration::from_millis(20));
    let mut last = old.next_of(1);
    let mut first = rig.replace();
    signal(&first, "TERM");
    let moved = loop {
        match old.record() {
            record if record.kind == 1 => last = record,
            record if record.kind == 5 => break record,
            _ => {}
        }
    };
    // The old process has stopped accepting connections, so the new process accepts the test's next connection.
    let mut new = rig.connect().listen(&rig, &format!("?from={}", moved.seq));
    assert_eq!(new.record().kind, 0);
    let next = new.next_of(1);
    assert!(next.seq > moved.seq && moved.seq > last.seq);
    assert!(next.samples[0] > *last.samples.last().unwrap());
    drop(old);
    assert!(wait_for_exit(&mut first).success());
}

#[test]
fn handover_loses_no_sample_and_reports_no_gap() {
    hand_over(Rig::new(), 1);
}

#[test]
fn handover_with_long_chunks_loses_no_sample_and_reports_no_gap() {
    // The mixer writes once for each chunk, so the next process waits up to 200 ms for its first samples.
    hand_over(Rig::with("[stream]\nchunk-ms = 200\n"), 10);
}

/// Replaces the listener while sound arrives, with `frames` frames in each write.
fn hand_over(mut rig: Rig, frames: usize) {
    let mut old = rig.connect().listen(&rig, "");
    let _feed = Feed::of_writes(rig.ear(), frames);
    let mut heard = old.next_of(1).samples;
    let mut first = rig.replace();
    signal(&first, "USR1");
    // The old process sends sound after the first `moved` record until the new process has a stream.
    let (mut moved, mut after) = (false, 0);
    let from = loop {
        match old.record() {
            record if record.kind == 5 => moved = !record.is_last,
            record if record.kind == 1 => {
                heard.extend(&record.samples);
                after += usize::from(moved);
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
        // The next records are chunks without a gap, with no silence record before or between them.
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
fn handover_ends_after_its_timeout_if_no_page_moves() {
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
fn microphone_is_served_until_the_handover_times_out() {
    let mut rig = Rig::new();
    let mut client = rig.connect();
    client.send(microphone_request(&rig));
    assert_eq!(client.answer_head().status, 101);
    rig.wait_for_status("streams=0 speaking=ws");
    let mut mic = rig.mic();
    rig.signal("USR1");
    // RFC 6455 §5.2: a masked binary message. The mask is zero, so the bytes are unchanged.
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
    // The chunk is acknowledged. The client is still connected when the handover times out, and gets the close code 1012.
    assert_eq!(client.take(6), [&[0x82, 4][..], &0u32.to_le_bytes()].concat());
    assert_eq!(client.take(4), [&[0x88, 2][..], &1012u16.to_be_bytes()].concat());
    drop(client);
    assert!(wait_for_exit(&mut rig.child).success());
}

/// Ends the listener by a signal, replaces it by a new process, and opens the page's next stream. With USR1, a planned restart, the new
/// process starts before the old one ends. With TERM and KILL it starts afterwards.
fn restart(rig: &mut Rig, signal_name: &str, mut old: Records) -> Records {
    let is_planned = signal_name == "USR1";
    let mut first: Option<Child> = is_planned.then(|| rig.replace());
    match &mut first {
        Some(first) => {
            signal(first, signal_name);
            assert!(!old.next_of(5).is_last);
        }
        None => {
            rig.signal(signal_name);
            wait_for_exit(&mut rig.child);
            rig.replace().wait().unwrap();
        }
    }
    let new = rig.connect().listen(rig, "?from=1");
    if let Some(mut first) = first {
        while !old.next_of(5).is_last {}
        drop(old);
        assert!(wait_for_exit(&mut first).success());
    }
    new
}

#[test]
fn raised_hand_and_mute_outlive_every_restart() {
    let mut rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    let shown = br#"{"hand":true,"microphone":"muted"}"#;
    assert_eq!(rig.connect().post("/show", &rig.bearer(), shown).status, 204);
    rig.wait_for_status("streams=1 speaking=no hand mic=muted");
    for signal_name in SIGNALS {
        records = restart(&mut rig, signal_name, records);
        let report = rig.wait_for_report("a stream", |report| report.streams == 1);
        assert_eq!(report.to_string(), "streams=1 speaking=no hand mic=muted", "{signal_name}");
    }
    // The page sends a different presence.
    let lowered = br#"{"hand":false,"microphone":"none"}"#;
    assert_eq!(rig.connect().post("/show", &rig.bearer(), lowered).status, 204);
    rig.wait_for_status("streams=1 speaking=no mic=none");
    drop(records);
    rig.wait_for_status("streams=0 speaking=no");
    assert!(!rig.ear_path().with_file_name("presence").exists());
}

#[test]
fn hand_that_changes_during_the_handover_is_the_last_one_shown() {
    let mut rig = Rig::new();
    let mut old = rig.connect().listen(&rig, "");
    old.next_of(2);
    let mut first = rig.replace();
    signal(&first, "USR1");
    old.next_of(5);
    // The page's `/show` request reaches the new process before the page's stream does.
    let mut client = rig.connect();
    assert_eq!(client.post("/show", &rig.bearer(), br#"{"hand":true,"microphone":"open"}"#).status, 204);
    let _new = rig.connect().listen(&rig, "?from=1");
    rig.wait_for_status("streams=1 speaking=no hand");
    drop(old);
    assert!(wait_for_exit(&mut first).success());
}

#[test]
fn raised_hand_outlives_a_short_outage_of_the_stream() {
    let rig = Rig::new();
    let records = rig.connect().listen(&rig, "");
    let shown = br#"{"hand":true,"microphone":"open"}"#;
    assert_eq!(rig.connect().post("/show", &rig.bearer(), shown).status, 204);
    rig.wait_for_status("streams=1 speaking=no hand");
    drop(records);
    rig.wait_for_status("streams=0 speaking=no");
    let _records = rig.connect().listen(&rig, "");
    rig.wait_for_status("streams=1 speaking=no hand");
}

/// Sends numbered messages to all inboxes of the room until `stop` is true. The thread returns the number of messages sent.
fn send_texts(rig: &Rig, stop: &'static AtomicBool) -> std::thread::JoinHandle<usize> {
    let room = rig.room.clone();
    std::thread::spawn(move || {
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            let text = Message::new("bob".parse().unwrap(), &sent.to_string()).unwrap();
            assert_eq!(room.tell(&text).unwrap(), 1);
            sent += 1;
            // With this pause, the messages stay below the rate limit for received messages.
            std::thread::sleep(Duration::from_millis(60));
        }
        sent
    })
}

#[test]
fn planned_restart_loses_no_text() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let mut rig = Rig::new();
    let mut old = rig.connect().listen(&rig, "");
    let sender = send_texts(&rig, &STOP);
    let number = |json: &str| -> usize {
        json.strip_prefix(r#"{"from":"bob","text":""#)
            .and_then(|rest| rest.strip_suffix(r#""}"#))
            .unwrap()
            .parse()
            .unwrap()
    };
    let mut numbers = vec![number(&old.next_of(4).json)];
    let mut first = rig.replace();
    // The new process is ready, but the old process has not received SIGUSR1 yet and gets the messages.
    (0..5).for_each(|_| numbers.push(number(&old.next_of(4).json)));
    signal(&first, "USR1");
    let mut new = loop {
        match old.record() {
            record if record.kind == 4 => numbers.push(number(&record.json)),
            record if record.kind == 5 => break rig.connect().listen(&rig, &format!("?from={}", record.seq)),
            _ => {}
        }
    };
    loop {
        match old.record() {
            record if record.kind == 4 => numbers.push(number(&record.json)),
            record if record.kind == 5 => break assert!(record.is_last),
            _ => {}
        }
    }
    (0..5).for_each(|_| numbers.push(number(&new.next_of(4).json)));
    STOP.store(true, Ordering::Relaxed);
    let sent = sender.join().unwrap();
    while numbers.len() < sent {
        numbers.push(number(&new.next_of(4).json));
    }
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
    drop(old);
    assert!(wait_for_exit(&mut first).success());
}

#[test]
fn texts_arrive_after_every_restart() {
    let mut rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    for signal_name in SIGNALS {
        // This message is kept in the room, but not sent to the inbox: as if the previous process ended before it could read it.
        let text = Message::new("bob".parse().unwrap(), "x").unwrap().with_id(&signal_name.to_lowercase()).unwrap();
        rig.room.keep_message(&text, palabre_host::clock::boottime_ms()).unwrap();
        records = restart(&mut rig, signal_name, records);
        let kept = records.next_of(7).json;
        assert!(kept.contains(&format!(r#""id":"{}""#, signal_name.to_lowercase())), "{kept}");
        records.next_of(2);
        let text = Message::new("bob".parse().unwrap(), signal_name).unwrap();
        assert_eq!(rig.room.tell(&text).unwrap(), 1);
        assert_eq!(records.next_of(4).json, format!(r#"{{"from":"bob","text":"{signal_name}"}}"#));
    }
}

#[test]
fn flood_of_datagrams_delays_neither_sound_nor_signals() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let mut rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    let _feed = Feed::start(rig.ear(), 0, Duration::from_millis(20));
    records.next_of(1);
    let inbox = rig.ear_path().with_file_name("inbox");
    let flood = || {
        let (socket, inbox) = (std::os::unix::net::UnixDatagram::unbound().unwrap(), inbox.clone());
        // Sending blocks while the inbox's queue is full, so these threads keep the queue full.
        std::thread::spawn(move || {
            let mut is_bound = true;
            while is_bound && !STOP.load(Ordering::Relaxed) {
                is_bound = socket.send_to(b"invalid", &inbox).is_ok();
            }
        })
    };
    let floods = [flood(), flood()];
    for _ in 0..10 {
        records.next_of(1);
    }
    // Check that the main thread still accepts connections and handles signals.
    assert_eq!(rig.connect().get(&rig, "/me").status, 200);
    rig.signal("TERM");
    while !records.next_of(5).is_last {}
    drop(records);
    assert!(wait_for_exit(&mut rig.child).success());
    STOP.store(true, Ordering::Relaxed);
    floods.into_iter().for_each(|flood| flood.join().unwrap());
}
