//! Tests of messages, raised hands, locally muted participants and page reports.

use crate::rig::{Rig, wait_for};
use palabre_config::control::PageReport;
use palabre_room::Message;

#[test]
fn text_reaches_all_pages_as_base64() {
    let rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    let mut other = rig.connect().listen(&rig, "");
    records.next_of(2);
    other.next_of(2);
    let mut client = rig.connect();
    assert_eq!(client.post("/say?id=7f", &rig.bearer(), "</b><script>é".as_bytes()).status, 204);
    for stream in [&mut records, &mut other] {
        assert_eq!(stream.next_of(4).json, r#"{"from":"alice","text":"</b><script>é","id":"7f"}"#);
    }
    // This message comes from another process: other listeners and any program of the group `palabre` may write into the inbox.
    rig.room.tell(&Message::new("bob".parse().unwrap(), "bonjour").unwrap()).unwrap();
    assert_eq!(records.next_of(4).json, r#"{"from":"bob","text":"bonjour"}"#);
    assert_eq!(client.get(&rig, "/me").status, 200, "the connection is kept");
}

#[test]
fn texts_are_limited_in_length_and_rate() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let long = "é".repeat(501);
    for (body, status) in [("", 400), (" ", 400), ("a\nb", 400), (long.as_str(), 400), (&*"x".repeat(2001), 413)] {
        assert_eq!(rig.connect().post("/say", &rig.bearer(), body.as_bytes()).status, status);
    }
    assert_eq!(rig.connect().post("/say", &rig.bearer(), b"\xff").status, 400);
    let answers: Vec<u16> = (0..30).map(|_| client.post("/say", &rig.bearer(), b"x").status).collect();
    assert!(answers.contains(&204) && answers.contains(&429), "{answers:?}");
    let refused = (0..9).map(|_| client.post("/say", &rig.bearer(), b"x")).find(|answer| answer.status == 429).unwrap();
    assert_eq!(refused.field("retry-after"), Some("1"), "one message per second is allowed");
    assert_eq!(client.request("GET", "/say", &rig.bearer()).status, 405);
}

#[test]
fn presence_is_reported_until_the_page_leaves() {
    let rig = Rig::new();
    let records = rig.connect().listen(&rig, "");
    rig.wait_for_status("streams=1 speaking=no");
    let mut client = rig.connect();
    assert_eq!(client.post("/show", &rig.bearer(), br#"{"hand":true,"microphone":"open","weak":true}"#).status, 204);
    rig.wait_for_status("streams=1 speaking=no hand weak");
    assert_eq!(client.post("/show", &rig.bearer(), br#"{"hand":true,"microphone":"muted"}"#).status, 204);
    rig.wait_for_status("streams=1 speaking=no hand mic=muted");
    let report = br#"{"delay_ms":142,"depth_ms":52,"underruns":0,"lost":0,"browser":"Firefox 153","errors":["0","stream: lost"]}"#;
    assert_eq!(client.post("/report", &rig.bearer(), report).status, 204);
    let shown = rig.wait_for_report("the page's report", |report| report.page.is_some());
    assert_eq!(shown.to_string(), "streams=1 speaking=no hand mic=muted");
    let expected = PageReport {
        delay_ms: Some(142),
        depth_ms: Some(52),
        underruns: Some(0),
        lost: Some(0),
        browser: "Firefox_153".into(),
        errors: 2,
        error: "stream:_lost".into(),
        ..PageReport::default()
    };
    assert_eq!(shown.page, Some(expected));
    let refused =
        (0..9).map(|_| client.post("/report", &rig.bearer(), report)).find(|answer| answer.status == 429).unwrap();
    assert_eq!(refused.field("retry-after"), Some("5"), "one report in five seconds is allowed");
    drop(records);
    rig.wait_for_status("streams=0 speaking=no");
    for bad in ["", "{}", "[]", r#"{"hand":1,"microphone":"open"}"#, r#"{"hand":true,"microphone":"loud"}"#] {
        assert_eq!(rig.connect().post("/show", &rig.bearer(), bad.as_bytes()).status, 400, "{bad}");
    }
}

#[test]
fn hand_is_lowered_when_the_page_that_raised_it_has_left() {
    let rig = Rig::new();
    let [one, two] = ["one", "two"].map(|page| rig.connect().listen(&rig, &format!("?page={page}")));
    rig.wait_for_status("streams=2 speaking=no");
    let mut client = rig.connect();
    let mut show =
        |page: &str, body: &str| client.post(&format!("/show?page={page}"), &rig.bearer(), body.as_bytes()).status;
    assert_eq!(show("one", r#"{"hand":true,"microphone":"open"}"#), 204);
    // The page `two` sends its microphone state, and nothing about the hand. So the hand that the page `one` has raised stays raised.
    assert_eq!(show("two", r#"{"microphone":"muted"}"#), 204);
    rig.wait_for_status("streams=2 speaking=no hand mic=muted");
    assert_eq!(show("ONE", r#"{"microphone":"muted"}"#), 400);
    drop(one);
    rig.wait_for_status("streams=1 speaking=no hand mic=muted");
    rig.wait_for_status("streams=1 speaking=no mic=muted");
    drop(two);
}

#[test]
fn personal_gains_are_written_to_the_file_gains() {
    let rig = Rig::new();
    let alice = rig.room.participant(&"alice".parse().unwrap());
    let mut client = rig.connect();
    assert_eq!(client.get(&rig, "/gains").text(), "");
    assert_eq!(client.post("/gains", &rig.bearer(), b"carol\nbob\t1\nbob\t-6.0\n").status, 204);
    assert_eq!(std::fs::read_to_string(alice.path().join("gains")).unwrap(), "bob\t-6.0\ncarol\tmute\n");
    assert_eq!(client.get(&rig, "/gains").text(), "bob\t-6.0\ncarol\tmute\n");
    for bad in ["Bob", "../alice", "bob carol", "bob\t20.1", "bob\tnan"] {
        assert_eq!(client.post("/gains", &rig.bearer(), bad.as_bytes()).status, 400, "{bad}");
    }
    let many: String = (0..1001).map(|i| format!("p{i}\t-60.0\n")).collect();
    assert_eq!(client.post("/gains", &rig.bearer(), many.as_bytes()).status, 400);
    assert_eq!(client.post("/gains", &rig.bearer(), b"").status, 204);
    assert!(alice.gains().unwrap().is_empty());
}

#[test]
fn display_name_is_changed_only_if_the_operator_allows_it_and_the_supervisor_records_it() {
    let rig = Rig::new();
    assert_eq!(rig.connect().post("/name", &rig.bearer(), b"Ali").status, 403);
    assert!(!rig.connect().get(&rig, "/me").text().contains("own_name"));
    let rig = Rig::with("[room]\nown-display-names = true\n");
    for bad in ["", " ", "a\nb", "\u{202e}Ali", &"é".repeat(65)] {
        assert_eq!(rig.connect().post("/name", &rig.bearer(), bad.as_bytes()).status, 400, "{bad:?}");
    }
    assert_eq!(rig.connect().post("/name", &rig.bearer(), b"Ali").status, 503, "no supervisor runs");
    let alice = |display: &str| palabre_room::Member::new("alice".parse().unwrap(), display, true);
    for display in ["Ali", "Alice"] {
        rig.room.write_names(&[alice(display)]).unwrap();
        let me: serde_json::Value = serde_json::from_str(rig.connect().get(&rig, "/me").text()).unwrap();
        assert_eq!((&me["display"], &me["own_name"]), (&display.into(), &true.into()));
        let hello: serde_json::Value = serde_json::from_str(&rig.connect().listen(&rig, "").next_of(0).json).unwrap();
        assert_eq!(hello["display"], display);
    }
}

#[test]
fn cookie_may_write_texts_from_own_page_only() {
    let rig = Rig::new();
    let own = format!("{}Origin: https://localhost\r\n", rig.cookie());
    let foreign = format!("{}Origin: https://elsewhere\r\n", rig.cookie());
    for target in ["/say", "/show", "/gains", "/name", "/report"] {
        assert_eq!(rig.connect().post(target, &foreign, b"x").status, 403, "{target}");
        assert_eq!(rig.connect().post(target, &rig.cookie(), b"x").status, 403, "{target}");
        assert_eq!(rig.connect().post(target, "", b"x").status, 401, "{target}");
    }
    assert_eq!(rig.connect().post("/say", &own, b"x").status, 204);
    assert_eq!(rig.connect().request("GET", "/gains", &foreign).status, 200, "reading is not writing");
}

#[test]
fn next_process_takes_the_inbox() {
    let mut rig = Rig::new();
    let mut first = rig.replace();
    crate::rig::signal(&first, "TERM");
    crate::rig::wait_for_exit(&mut first);
    let mut records = rig.connect().listen(&rig, "");
    records.next_of(2);
    let hello = Message::new("bob".parse().unwrap(), "encore là").unwrap();
    assert_eq!(wait_for(|| rig.room.tell(&hello).ok()), 1);
    assert_eq!(records.next_of(4).json, r#"{"from":"bob","text":"encore là"}"#);
}
