use super::*;
use crate::units::Unit;
use palabre_config::control::{Codec, MixerState, StreamCodecs};
use palabre_room::LevelLine;
use std::collections::BTreeSet;

fn alice() -> ParticipantStatus {
    ParticipantStatus {
        name: "alice".into(),
        display: "Alice".into(),
        display_chosen: false,
        room: "main".into(),
        port: 9001,
        state: State::Serving,
        pid: Some(4242),
        restarts: 0,
        last_exit: None,
        since_ms: 61_000,
        report: Some(ListenerReport {
            streams: 1,
            down: Some(Codec::Opus { kbps: Some(24) }),
            codecs: StreamCodecs { opus: 1, ..StreamCodecs::default() },
            up: Some(Codec::Pcm),
            traffic: Traffic { sent: 9, received: 7, skipped: 0 },
            page: Some(PageReport {
                delay_ms: Some(142),
                underruns: Some(0),
                lost: Some(3),
                depth_ms: Some(52),
                jitter_ms: Some(3),
                bytes: Some(99),
                rate_hz: Some(48_000),
                codec: "PCM_16".into(),
                browser: "Firefox_153,_Linux".into(),
                errors: 1,
                error: "12:00:00_stream:_lost".into(),
            }),
            ..ListenerReport::default()
        }),
        note: None,
        pending: false,
        kept: None,
        gain_fault: None,
        suspended: false,
        link: None,
    }
}

fn bob() -> ParticipantStatus {
    ParticipantStatus {
        name: "bob".into(),
        port: 9002,
        state: State::BackingOff,
        pid: None,
        last_exit: Some("killed by signal 9".into()),
        note: Some("killed by signal 9".into()),
        report: None,
        ..alice()
    }
}

pub(crate) fn scene() -> (Status, Snapshot) {
    let exit = Some("exit code 78: unable to read '/k.pem'".to_owned());
    let (note, last_exit) = (exit.clone(), exit);
    let carol = ParticipantStatus { name: "carol".into(), state: State::Failed, port: 9003, last_exit, note, ..bob() };
    let status = Status {
        version: "0".into(),
        supervisor: None,
        participants: vec![alice(), bob(), carol],
        certificate: None,
        signer: None,
        mixer: None,
        bridge: None,
        mixing: None,
        recordings: vec![],
        storage: None,
        errors: vec![],
    };
    let line = LevelLine { name: "alice".parse().unwrap(), state: Talk::Talking, dbfs: -21.3 };
    let snapshot = Snapshot {
        connections: BTreeMap::from([(9001, 2)]),
        levels: BTreeMap::from([(("main".to_owned(), "alice".to_owned()), line)]),
        usage: BTreeMap::from([(4242, Usage { cpu_ms: 610, cpu_percent: 1.0, rss_kib: 2048 })]),
        daemons: vec![Daemon { is_stopped: false, ..Daemon::new("palabre-supervisor".into(), Some(77)) }],
        stopped: BTreeMap::new(),
    };
    (status, snapshot)
}

#[test]
fn table_has_aligned_columns_and_coloured_states() {
    let (status, snapshot) = scene();
    let text = tables(&snapshot, &status, false);
    let expected = "\
STATE        NAME   ROOM  PORT  PID   CONN  CODEC             TALK     LEVEL     DELAY   LOST  UNDERRUNS  DROPPED  CPU    MEMORY   RESTARTS  SINCE      LAST EXIT           NOTE
serving      alice  main  9001  4242  2     Opus 24 / PCM 16  talking  -21 dBFS  142 ms  3     0          0        1.0 %  2.0 MiB  0         1 min 1 s  -                   streams=1 speaking=no
backing off  bob    main  9002  -     0     -                 -        -         -       -     -          -        -      -        0         1 min 1 s  killed by signal 9  killed by signal 9
failed       carol  main  9003  -     0     -                 -        -         -       -     -          -        -      -        0         1 min 1 s  exit code 78        exit code 78: unable to read '/k.pem'

STATE    PROCESS             PID  CPU  MEMORY  RESTARTS  LAST EXIT
running  palabre-supervisor  77   -    -       -         -
";
    assert_eq!(text, expected);
    let coloured = tables(&snapshot, &status, true);
    assert!(coloured.contains("\n\x1b[33mbacking off\x1b[0m  bob "), "{coloured}");
    assert!(coloured.contains("\n\x1b[1;31mfailed\x1b[0m       carol "), "{coloured}");
    let plain = [FAILED, BACKING_OFF, PLAIN].iter().fold(coloured, |text, code| text.replace(code, ""));
    assert_eq!(plain, expected);
}

#[test]
fn listener_whose_process_is_stopped_is_shown_so() {
    let (status, mut snapshot) = scene();
    snapshot.stopped.insert("alice".to_owned(), 4242);
    assert!(tables(&snapshot, &status, false).contains("\nstopped      alice  main  9001  4242  "));
    assert_eq!(json_object(&snapshot, &status).unwrap()["participants"][0]["process_stopped"], true);
}

#[test]
fn json_combines_the_supervisors_answer_with_observations() {
    let (status, snapshot) = scene();
    let json = json_object(&snapshot, &status).unwrap();
    let (alice, bob) = (&json["participants"][0], &json["participants"][1]);
    assert_eq!(
        (&alice["state"], &alice["connections"], &alice["talk"]),
        (&json!("serving"), &json!(2), &json!("talking"))
    );
    assert_eq!(
        (&alice["cpu_ms"], &alice["rss_kib"], &alice["counters"]["lost"]),
        (&json!(610), &json!(2048), &json!("3"))
    );
    assert_eq!(
        (&alice["delay_ms"], &alice["lost"], &alice["underruns"], &bob["lost"]),
        (&json!(142), &json!(3), &json!(0), &json!(null))
    );
    assert_eq!(
        (&alice["codec_down"], &alice["codec_up"], &alice["streams_by_codec"]["opus"]),
        (&json!("Opus 24"), &json!("PCM 16"), &json!(1))
    );
    assert_eq!((&bob["codec_down"], &bob["streams_by_codec"]["pcm"]), (&json!(null), &json!(0)));
    assert_eq!((&bob["talk"], &bob["rss_kib"], &bob["counters"]), (&json!(null), &json!(null), &json!({})));
    let page = &alice["counters"];
    assert_eq!(
        (&page["depth"], &page["browser"], &page["error"]),
        (&json!("52ms"), &json!("Firefox_153,_Linux"), &json!("12:00:00_stream:_lost"))
    );
    assert_eq!(
        alice["note"],
        "streams=1 speaking=no delay=142ms underruns=0 lost=3 sent=9 received=7 skipped=0 depth=52ms jitter=3ms bytes=99 \
         rate=48000Hz codec=PCM_16 browser=Firefox_153,_Linux errors=1 error=12:00:00_stream:_lost"
    );
    assert_eq!(json["processes"][0]["program"], "palabre-supervisor");
}

#[test]
fn empty_table_names_the_command_to_use() {
    let status = Status {
        version: "0".into(),
        supervisor: None,
        participants: Vec::new(),
        certificate: None,
        signer: None,
        mixer: None,
        bridge: None,
        mixing: None,
        recordings: vec![],
        storage: None,
        errors: Vec::new(),
    };
    assert!(tables(&Snapshot::default(), &status, true).contains("palabre invite"));
}

#[test]
fn certificate_is_described_in_a_line() {
    let ours = Certificate {
        path: "/c.pem".into(),
        days_left: Some(396),
        not_after: Some("2027-12-31T18:00:00Z".into()),
        self_signed: true,
        names: vec!["localhost".into()],
        fault: None,
    };
    let end = "2027-12-31T18:00:00Z";
    let expected = format!("certificate '/c.pem': 396 days left, until {end}, self-signed: browsers warn about it");
    assert_eq!(certificate_line(&ours), expected);
    let over = Certificate { days_left: Some(-1), self_signed: false, ..ours.clone() };
    assert_eq!(certificate_line(&over), format!("certificate '/c.pem': expired on {end}"));
    let broken = Certificate { days_left: None, not_after: None, ..ours };
    assert_eq!(certificate_line(&broken), "certificate '/c.pem': missing, unreadable or invalid");
}

#[test]
fn duration_has_at_most_two_units() {
    let shown = [0, 59_999, 192_000, 7_260_000, 190_800_000].map(duration);
    assert_eq!(shown, ["0 s", "59 s", "3 min 12 s", "2 h 1 min", "2 d 5 h"]);
}

#[test]
fn units_are_matched_with_processes() {
    let unit = |state: &str, pid, last_exit: Option<&str>| Unit {
        state: state.into(),
        pid,
        restarts: 2,
        last_exit: last_exit.map(str::to_owned),
        user: None,
    };
    let units = BTreeMap::from([
        ("palabre-supervisor".to_owned(), unit("running", Some(77), None)),
        ("palabre-mixer".to_owned(), unit("auto-restart", None, Some("killed by signal 9"))),
        ("palabre-exporter".to_owned(), unit("dead", None, None)),
    ]);
    let (status, mut snapshot) = scene();
    snapshot.add_units(units.clone(), true);
    let text = tables(&snapshot, &status, false);
    assert!(text.contains("running       palabre-supervisor  77   -    -       2         -\n"), "{text}");
    assert!(
        text.contains("auto-restart  palabre-mixer       -    -    -       2         killed by signal 9\n"),
        "{text}"
    );
    assert!(!text.contains("palabre-exporter"), "{text}");
    // The units use the default runtime directory, so they are not shown for another directory.
    let (_, mut elsewhere) = scene();
    elsewhere.daemons[0].pid = Some(78);
    elsewhere.add_units(units, false);
    assert_eq!((elsewhere.daemons.len(), elsewhere.daemons[0].restarts()), (1, None));
}

#[test]
fn daemon_that_does_not_work_is_named_with_the_remedy() {
    let (_, mut snapshot) = scene();
    let faults = |snapshot: &Snapshot| {
        let all = snapshot.faults(std::path::Path::new("/r"));
        all.into_iter().map(|(text, command)| format!("{text}; {command}")).collect::<Vec<_>>()
    };
    assert_eq!(faults(&snapshot), Vec::<String>::new());
    let stopped = |program: &str, pid| Daemon { is_stopped: true, ..Daemon::new(program.into(), Some(pid)) };
    snapshot.daemons.extend([stopped("palabre-mixer", u32::MAX), stopped("palabre-recorder", u32::MAX)]);
    let expected = [
        "palabre-mixer is stopped: all rooms are silent; kill -CONT 4294967295",
        "palabre-recorder is stopped; kill -CONT 4294967295",
    ];
    assert_eq!(faults(&snapshot), expected);
    snapshot.daemons = vec![Daemon::new("palabre-mixer".into(), None)];
    assert_eq!(faults(&snapshot), ["no palabre-mixer runs: all rooms are silent; palabre-mixer --rooms /r/rooms &"]);
    assert_eq!(snapshot.daemons[0].state(), "missing");
    let dead =
        Unit { state: "failed".into(), pid: None, restarts: 3, last_exit: Some("exit code 78".into()), user: None };
    snapshot.add_units(BTreeMap::from([("palabre-mixer".to_owned(), dead)]), true);
    assert_eq!((snapshot.daemons.len(), snapshot.daemons[0].state()), (1, "failed"));
    assert_eq!(faults(&snapshot), ["no palabre-mixer runs: all rooms are silent; systemctl restart palabre-mixer"]);
}

#[test]
fn levels_of_a_mixer_that_does_not_work_are_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let room = dir.path().join("rooms/main");
    std::fs::create_dir_all(&room).unwrap();
    std::fs::write(room.join("levels"), "alice\ttalking\t-20.0\n").unwrap();
    let (mut status, _) = scene();
    for (mixer, is_shown) in [(MixerState::Running, true), (MixerState::Stopped, false), (MixerState::Missing, false)] {
        status.mixer = Some(mixer);
        let snapshot = Snapshot::now(dir.path(), &status);
        assert_eq!(snapshot.level(&status.participants[0]).is_some(), is_shown, "{mixer:?}");
    }
}

/// Collects the names of all members of a JSON value, except those inside `counters`.
fn members(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                names.insert(name.clone());
                if name != "counters" {
                    members(value, names);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| members(value, names)),
        _ => {}
    }
}

#[test]
fn manual_documents_exactly_the_members_of_the_object() {
    let (mut status, snapshot) = scene();
    status.participants[0].link = Some(LinkUse::Unused);
    (status.participants[0].pending, status.participants[0].kept) = (true, Some("unable to".into()));
    let recording =
        json!({ "room": "main", "state": "on", "directory": "/d", "since_ms": 1, "restarts": 0, "note": null });
    status.recordings = vec![serde_json::from_value(recording).unwrap()];
    let storage = json!({
        "directory": "/r", "free_bytes": 1, "total_bytes": 1, "recordings_bytes": 1, "left_s": 1, "nearly_full": false,
    });
    status.storage = serde_json::from_value(storage).unwrap();
    status.supervisor = serde_json::from_value(json!({ "pid": 1, "began_ms": 2 })).unwrap();
    let signer = json!({ "pid": 1, "user": null, "signatures": 1, "refused": 0, "sandbox": "" });
    status.signer = serde_json::from_value(signer).unwrap();
    let certificate =
        json!({ "path": "/c.pem", "days_left": 1, "not_after": null, "self_signed": true, "names": [], "fault": null });
    status.certificate = serde_json::from_value(certificate).unwrap();
    let alice = json!({ "room": "main", "name": "alice", "lost_frames": 4, "underruns": 0, "talked_ms": 0 });
    let mixing = json!({ "sandbox": "seccomp", "ticks": 1, "skipped": 0, "late": [[250, 1], [null, 0]], "late_us": 9, "participants": [alice] });
    status.mixing = serde_json::from_value(mixing).unwrap();
    status.bridge = Some(serde_json::from_value(bridge()).unwrap());
    let json = json_object(&snapshot, &status).unwrap();
    assert_eq!(json["participants"][0]["dropped_frames"], 4);
    let mut printed = BTreeSet::new();
    members(&json, &mut printed);
    let page = include_str!("../manual.roff");
    let section = page.split(".B palabre status \\-\\-json").nth(1).unwrap().split(".SH ").next().unwrap();
    let name = |line: &str| Some(line.trim_start().strip_prefix('"')?.split_once("\":")?.0.to_owned());
    let documented: BTreeSet<String> = section.lines().filter_map(name).collect();
    assert_eq!(printed, documented);
}

fn bridge() -> Value {
    json!({
        "machine": "lyon", "connected": true, "unsent": 7,
        "machines": [
            { "machine": "lille", "room": "main", "cut_off": true, "delay_ms": 0, "lost_ms": 0, "late_messages": 0 },
            { "machine": "paris", "room": "main", "cut_off": false, "delay_ms": 2, "lost_ms": 40, "late_messages": 3 },
        ],
    })
}

#[test]
fn other_machines_are_a_table_with_a_line_about_the_server() {
    let text = bridge_text(&serde_json::from_value(bridge()).unwrap());
    let expected = "
MACHINE  ROOM  STATE      DELAY  LOST   LATE
lille    main  cut off    0 ms   0 ms   0
paris    main  connected  2 ms   40 ms  3
this machine is 'lyon', connected to the NATS server; messages not sent: 7
";
    assert_eq!(text, expected);
}
