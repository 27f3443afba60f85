//! Runs the real exporter and scrapes it over HTTP. The test acts as the supervisor.
#![allow(clippy::unwrap_used, missing_docs)]

mod documents;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use palabre_config::control::{
    Certificate, Codec, ListenerReport, MixedParticipant, MixerState, Mixing, PageReport, ParticipantStatus, Request,
    Response, State, Status, StreamCodecs, Traffic, read_request, write_response,
};

/// Timeout for every wait in these tests.
const TIMEOUT: Duration = Duration::from_secs(30);

struct Exporter {
    child: Child,
    address: String,
    run: tempfile::TempDir,
}

impl Exporter {
    fn start() -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_palabre-exporter"))).0
    }

    /// Runs `command` with the exporter's arguments appended. Returns the exporter and the log lines after the line with its address.
    fn start_by(mut command: Command) -> (Self, mpsc::Receiver<String>) {
        let run = tempfile::tempdir().unwrap();
        let mut child = command
            .args(["-vv", "--listen", "127.0.0.1:0", "--run"])
            .arg(run.path())
            .env_remove("NOTIFY_SOCKET")
            .env_remove("JOURNAL_STREAM")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = mpsc::channel();
        // Read all lines even if the test ignores them. Otherwise the exporter would block on a full pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| _ = sender.send(line)));
        // On a kernel without Landlock, the first line is a warning.
        let address = loop {
            let line = log.recv_timeout(TIMEOUT).unwrap();
            if let Some(address) = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()) {
                break address.to_owned();
            }
        };
        (Self { child, address, run }, log)
    }

    /// Starts a thread that answers one request on the control socket with `status`, like the supervisor.
    fn supervisor(&self, status: Status) -> std::thread::JoinHandle<()> {
        let socket = self.run.path().join("control.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            assert_eq!(read_request(&client, TIMEOUT).unwrap(), Request::Status);
            write_response(&client, &Response::Status(status), TIMEOUT).unwrap();
        })
    }

    fn ask(&self, request: &str) -> String {
        let mut client = TcpStream::connect(&self.address).unwrap();
        client.set_read_timeout(Some(TIMEOUT)).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Scrapes the metrics. Returns `None` if the exporter closes the connection because it has too many clients.
    fn try_metrics(&self) -> Option<String> {
        let mut client = TcpStream::connect(&self.address).ok()?;
        client.set_read_timeout(Some(TIMEOUT)).ok()?;
        client.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
        let mut answer = String::new();
        client.read_to_string(&mut answer).ok()?;
        (!answer.is_empty()).then_some(answer)
    }

    fn metrics(&self) -> String {
        self.ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn status() -> Status {
    let alice = ParticipantStatus {
        name: "alice".into(),
        display: "Alice".into(),
        display_chosen: false,
        room: "main".into(),
        port: 1,
        state: State::BackingOff,
        pid: Some(std::process::id()),
        restarts: 2,
        last_exit: None,
        since_ms: 1,
        report: Some(ListenerReport {
            streams: 1,
            down: Some(Codec::Opus { kbps: Some(24) }),
            codecs: StreamCodecs { opus: 1, ..StreamCodecs::default() },
            up: Some(Codec::Pcm),
            traffic: Traffic { sent: 5000, received: 700, skipped: 4 },
            page: Some(PageReport { delay_ms: Some(142), underruns: Some(3), lost: Some(2), ..PageReport::default() }),
            ..ListenerReport::default()
        }),
        note: None,
        pending: false,
        kept: None,
        gain_fault: None,
        suspended: false,
        link: None,
    };
    let certificate = Certificate {
        path: "/c.pem".into(),
        days_left: Some(30),
        not_after: None,
        self_signed: true,
        names: Vec::new(),
        fault: None,
    };
    let losses =
        MixedParticipant { room: "main".into(), name: "alice".into(), lost_frames: 7, underruns: 1, talked_ms: 65_000 };
    let mixing = Mixing {
        sandbox: String::new(),
        ticks: 12,
        skipped: 1,
        late: vec![(Some(250), 10), (Some(1_000), 1), (None, 1)],
        late_us: 50_000,
        participants: vec![losses],
    };
    let supervisor = serde_json::json!({ "pid": 1, "began_ms": 12_500 });
    let signer = serde_json::json!({ "pid": 2, "user": null, "signatures": 5, "refused": 1, "sandbox": "" });
    let recording = serde_json::json!({ "room": "main", "state": "stopped", "since_ms": 1, "restarts": 0 });
    let storage = serde_json::json!({
        "directory": "/r", "free_bytes": 1_000, "total_bytes": 4_000, "recordings_bytes": 500, "left_s": 60, "nearly_full": true,
    });
    let bridge = serde_json::json!({
        "machine": "lyon", "connected": true, "unsent": 7,
        "machines": [{ "machine": "paris", "room": "main", "cut_off": false, "delay_ms": 12, "lost_ms": 40, "late_messages": 3 }],
    });
    let status = serde_json::json!({
        "version": "9.9", "bridge": bridge, "supervisor": supervisor, "signer": signer, "mixer": "running", "recordings": [recording], "storage": storage,
        "participants": [], "errors": ["bad"],
    });
    let status: Status = serde_json::from_value(status).unwrap();
    Status { participants: vec![alice], certificate: Some(certificate), mixing: Some(mixing), ..status }
}

#[test]
fn scrape_returns_the_supervisors_status() {
    let exporter = Exporter::start();
    let supervisor = exporter.supervisor(status());
    let answer = exporter.metrics();
    supervisor.join().unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0"),
        "{answer}"
    );
    for line in [
        "palabre_up 1.0",
        "palabre_build{version=\"9.9\"} 1.0",
        "palabre_supervisor_began_seconds 12.5",
        "palabre_mixer_up 1.0",
        "palabre_recorder_up{room=\"main\"} 0.0",
        "palabre_configuration_errors 1.0",
        "palabre_certificate_days 30.0",
        "palabre_certificate_self_signed 1.0",
        "palabre_participant_state{room=\"main\",name=\"alice\",state=\"backing-off\"} 1.0",
        "palabre_participant_state{room=\"main\",name=\"alice\",state=\"ready\"} 0.0",
        "palabre_participant_restarts_total{room=\"main\",name=\"alice\"} 2.0",
        "palabre_participant_codec_streams{room=\"main\",name=\"alice\",codec=\"opus\"} 1.0",
        "palabre_participant_sends{room=\"main\",name=\"alice\",codec=\"pcm\"} 1.0",
        "palabre_participant_sent_bytes_total{room=\"main\",name=\"alice\"} 5000.0",
        "palabre_participant_stream_lost_frames_total{room=\"main\",name=\"alice\"} 4.0",
        "palabre_participant_ear_lost_frames_total{room=\"main\",name=\"alice\"} 7.0",
        "palabre_participant_page_lost_chunks{room=\"main\",name=\"alice\"} 2.0",
        "palabre_participant_page_underruns{room=\"main\",name=\"alice\"} 3.0",
        "palabre_participant_talk_seconds_total{room=\"main\",name=\"alice\"} 65.0",
        "palabre_mixer_tick_lateness_seconds_bucket{le=\"0.00025\"} 10",
        "palabre_mixer_tick_lateness_seconds_bucket{le=\"+Inf\"} 12",
        "palabre_mixer_tick_lateness_seconds_sum 0.05",
        "# EOF",
    ] {
        assert!(answer.lines().any(|found| found == line), "{line} is not in:\n{answer}");
    }
    assert!(answer.contains("palabre_participant_delay_seconds{room=\"main\",name=\"alice\"} 0.142"), "{answer}");
}

#[test]
fn system_calls_of_the_exporter_are_filtered_and_it_gains_no_privileges() {
    let exporter = Exporter::start();
    let status = std::fs::read_to_string(format!("/proc/{}/status", exporter.child.id())).unwrap();
    let has = |line: &str| status.lines().any(|it| it == line);
    assert!(has("Seccomp:\t2") && has("NoNewPrivs:\t1"), "{status}");
}

#[test]
fn missing_supervisor_is_a_metric() {
    let exporter = Exporter::start();
    let answer = exporter.metrics();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.lines().any(|line| line == "palabre_up 0.0"), "{answer}");
}

#[test]
fn mixer_that_does_not_work_is_a_metric_and_its_old_levels_are_none() {
    let exporter = Exporter::start();
    let room = exporter.run.path().join("rooms/main");
    std::fs::create_dir_all(&room).unwrap();
    std::fs::write(room.join("levels"), "alice\ttalking\t-20.0\n").unwrap();
    for (state, up) in [(MixerState::Running, "1.0"), (MixerState::Stopped, "0.0"), (MixerState::Missing, "0.0")] {
        let supervisor = exporter.supervisor(Status { mixer: Some(state), ..status() });
        let answer = exporter.metrics();
        supervisor.join().unwrap();
        for name in ["palabre_mixer_up", "palabre_participant_talking{room=\"main\",name=\"alice\"}"] {
            assert!(answer.lines().any(|line| line == format!("{name} {up}")), "{name} {up}: {answer}");
        }
    }
}

#[test]
fn other_requests_are_refused() {
    let exporter = Exporter::start();
    for (request, answer) in [
        ("GET /nothing HTTP/1.1\r\n\r\n", "HTTP/1.1 404 "),
        ("POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 "),
        ("\u{0}\u{1}\r\n\r\n", "HTTP/1.1 400 "),
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 "),
    ] {
        let got = exporter.ask(request);
        assert!(got.starts_with(answer), "{request:?}: {got}");
    }
    // A client disconnects in the middle of its request.
    TcpStream::connect(&exporter.address).unwrap().write_all(b"GET /met").unwrap();
    let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(9_000));
    assert!(exporter.ask(&long).starts_with("HTTP/1.1 400 "));
    assert!(exporter.metrics().contains("palabre_up 0.0"));
}

#[test]
fn slow_clients_do_not_delay_a_scrape() {
    let exporter = Exporter::start();
    let slow: Vec<TcpStream> = (0..12).map(|_| TcpStream::connect(&exporter.address).unwrap()).collect();
    for mut client in &slow[6..] {
        client.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    }
    // If the exporter served one client at a time, this scrape would time out.
    assert!(exporter.metrics().contains("palabre_up 0.0"));
    // The exporter closes connections above its maximum number of clients.
    let more: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(&exporter.address).unwrap()).collect();
    let closed = |mut client: &TcpStream| {
        client.set_read_timeout(Some(TIMEOUT)).unwrap();
        client.read(&mut [0]).is_ok_and(|count| count == 0)
    };
    assert!(closed(&more[39]));
    drop((slow, more));
    assert!(wait_for(|| exporter.try_metrics()).contains("palabre_up 0.0"));
}

#[test]
fn exporter_without_descriptors_waits_and_recovers() {
    let mut command = Command::new("sh");
    // A limit of 8 descriptors leaves room for about two clients besides the standard streams, the socket and the signals.
    command.args(["-c", "ulimit -n 8; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_palabre-exporter")]);
    let (exporter, log) = Exporter::start_by(command);
    let clients: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(&exporter.address).unwrap()).collect();
    while !log.recv_timeout(TIMEOUT).unwrap().contains("unable to accept a connection") {}
    let before = cpu_ticks(exporter.child.id());
    std::thread::sleep(Duration::from_secs(1));
    let used = cpu_ticks(exporter.child.id()) - before;
    assert!(used < 10, "{used} ticks of CPU time in a second");
    drop(clients);
    assert!(wait_for(|| exporter.try_metrics()).contains("palabre_up 0.0"));
}

/// Returns the CPU time of a process in ticks of 10 ms.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // The fields utime and stime: proc_pid_stat(5).
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn wait_for<T>(mut value: impl FnMut() -> Option<T>) -> T {
    let until = std::time::Instant::now() + TIMEOUT;
    loop {
        if let Some(value) = value() {
            return value;
        }
        assert!(std::time::Instant::now() < until, "waited too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}
