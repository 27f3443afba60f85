//! `palabre status`: the state of listeners and daemons, as a table or as JSON.
//!
//! The supervisor sends the state of the listeners. Levels are read from the room directories, processes and connections from the kernel.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{self, IsTerminal};
use std::path::Path;

use palabre_config::control::{
    Bridging, Certificate, LinkUse, ListenerReport, MixedParticipant, MixerState, PageReport, ParticipantStatus,
    SignerStatus, State, Status, Traffic,
};
use palabre_host::exit::Failure;
use palabre_host::usage::Usage;
use palabre_room::{MicState, Talk};
use serde_json::{Value, json};

use crate::output::{print, print_json};
use crate::snapshot::{Daemon, Snapshot};
use crate::{cli, control, record, table};

/// Colour of the state `failed` in a terminal: an SGR sequence of ECMA-48.
const FAILED: &str = "\x1b[1;31m";
const BACKING_OFF: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

const HEAD: [&str; 19] = [
    "STATE",
    "NAME",
    "ROOM",
    "PORT",
    "PID",
    "CONN",
    "CODEC",
    "TALK",
    "LEVEL",
    "DELAY",
    "LOST",
    "UNDERRUNS",
    "DROPPED",
    "CPU",
    "MEMORY",
    "RESTARTS",
    "SINCE",
    "LAST EXIT",
    "NOTE",
];

/// Prints the status. The exit code is 0 even if a listener has failed.
pub(crate) fn run(run: &Path, options: &cli::Status) -> Result<(), Failure> {
    let status = control::status(run)?;
    let mut snapshot = Snapshot::now(run, &status);
    snapshot.add_systemd(run);
    if options.json {
        return print_json(&json_object(&snapshot, &status)?);
    }
    print(tables(&snapshot, &status, has_colours()))?;
    let fault = status.certificate.as_ref().and_then(|certificate| certificate.fault.as_ref());
    for error in status.errors.iter().chain(fault) {
        eprintln!("palabre: warning: {error}");
    }
    if let Some(storage) = status.storage.as_ref().filter(|storage| storage.nearly_full) {
        let disk = record::disk(storage);
        eprintln!("palabre: warning: the disk of the recordings is nearly full: {disk}; {}", record::remedy());
    }
    for (text, command) in snapshot.faults(run) {
        eprintln!("palabre: warning: {text}; run '{command}'");
    }
    Ok(())
}

/// Returns whether standard output is a terminal and colours are not disabled, by `NO_COLOR` (<https://no-color.org>) or `TERM=dumb`.
fn has_colours() -> bool {
    let disabled = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !disabled && env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// Returns the text of the status: the tables of participants and daemons, and a line about the certificate.
fn tables(snapshot: &Snapshot, status: &Status, colours: bool) -> String {
    let mut text = String::new();
    if status.participants.is_empty() {
        text.push_str("no participants; add one with 'palabre invite NAME'\n");
    } else {
        let rows: Vec<[String; HEAD.len()]> = std::iter::once(HEAD.map(str::to_owned))
            .chain(status.participants.iter().map(|p| participant_row(snapshot, status, p)))
            .collect();
        let states = std::iter::once(None).chain(status.participants.iter().map(|p| Some(p.state)));
        for (line, state) in table::lines(&rows).iter().zip(states) {
            text.push_str(&coloured(line, state.filter(|_| colours)));
            text.push('\n');
        }
    }
    let mut rows = vec![["STATE", "PROCESS", "PID", "CPU", "MEMORY", "RESTARTS", "LAST EXIT"].map(str::to_owned)];
    rows.extend(snapshot.daemons.iter().map(|daemon| daemon_row(snapshot, daemon)));
    if rows.len() > 1 {
        text.push('\n');
        text.extend(table::lines(&rows).iter().map(|line| format!("{line}\n")));
    }
    text.extend(status.bridge.as_ref().map(bridge_text));
    text.extend(status.certificate.as_ref().map(|certificate| format!("\n{}\n", certificate_line(certificate))));
    text.extend(status.signer.as_ref().map(|signer| format!("{}\n", signer_line(signer))));
    text.extend(sandbox_line(status));
    text.extend(mixer_sandbox(status).map(|sandbox| format!("sandbox of the mixer: {sandbox}\n")));
    text
}

/// Returns a table of the other machines, and a line about the NATS server.
fn bridge_text(bridge: &Bridging) -> String {
    let mut rows = vec![["MACHINE", "ROOM", "STATE", "DELAY", "LOST", "LATE"].map(str::to_owned)];
    rows.extend(bridge.machines.iter().map(|one| {
        let state = if one.cut_off { "cut off" } else { "connected" };
        let (delay, lost) = (format!("{} ms", one.delay_ms), format!("{} ms", one.lost_ms));
        [one.machine.clone(), one.room.clone(), state.to_owned(), delay, lost, one.late_messages.to_string()]
    }));
    let mut text = String::from("\n");
    if rows.len() > 1 {
        text.extend(table::lines(&rows).iter().map(|line| format!("{line}\n")));
    }
    let server = if bridge.connected { "connected to the NATS server" } else { "not connected to the NATS server" };
    text.push_str(&format!("this machine is '{}', {server}; messages not sent: {}\n", bridge.machine, bridge.unsent));
    text
}

/// Returns a line with the parts of the listeners' sandboxes that the kernel enforces. Returns `None` if no listener has reported them.
fn sandbox_line(status: &Status) -> Option<String> {
    let reports = status.participants.iter().filter_map(|participant| participant.report.as_ref());
    let kinds: BTreeSet<&str> = reports.map(|report| report.sandbox.as_str()).filter(|kind| !kind.is_empty()).collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    (!kinds.is_empty()).then(|| format!("sandbox of the listeners: {}\n", table::printable(&kinds.join("; "))))
}

/// Returns the parts of the mixer's sandbox that the kernel enforces. Returns `None` if no mixer works, or if the mixer has not reported them.
pub(crate) fn mixer_sandbox(status: &Status) -> Option<String> {
    let mixing = status.mixing.as_ref().filter(|_| status.mixer != Some(MixerState::Missing))?;
    (!mixing.sandbox.is_empty()).then(|| table::printable(&mixing.sandbox))
}

fn daemon_row(snapshot: &Snapshot, daemon: &Daemon) -> [String; 7] {
    let usage = snapshot.usage(daemon.pid);
    [
        daemon.state().to_owned(),
        daemon.program.clone(),
        or_dash(daemon.pid),
        cpu(usage),
        memory(usage),
        or_dash(daemon.restarts()),
        or_dash(daemon.last_exit()),
    ]
}

fn participant_row(snapshot: &Snapshot, status: &Status, participant: &ParticipantStatus) -> [String; HEAD.len()] {
    let level = snapshot.level(participant);
    let usage = snapshot.usage(participant.pid);
    let page = page(participant);
    [
        match snapshot.stopped.contains_key(&participant.name) {
            true => "stopped".to_owned(),
            false => participant.state.to_string(),
        },
        participant.name.clone(),
        participant.room.clone(),
        participant.port.to_string(),
        or_dash(participant.pid),
        snapshot.connections(participant).to_string(),
        or_dash(codec(participant)),
        or_dash(level.map(|line| talk_word(line.state))),
        or_dash(level.map(|line| format!("{:.0} dBFS", line.dbfs))),
        or_dash(page.delay_ms.map(|ms| format!("{ms} ms"))),
        or_dash(page.lost),
        or_dash(page.underruns),
        or_dash(dropped_frames(status, participant)),
        cpu(usage),
        memory(usage),
        participant.restarts.to_string(),
        duration(participant.since_ms),
        // The note has the reason.
        or_dash(participant.last_exit.as_ref().and_then(|exit| exit.split(": ").next())),
        or_dash(note(participant)),
    ]
}

/// Returns the JSON object: the supervisor's answer, with the data of the snapshot added to each object in it.
fn json_object(snapshot: &Snapshot, status: &Status) -> Result<Value, Failure> {
    let mut value = serde_json::to_value(status).map_err(Failure::system)?;
    for (object, participant) in value["participants"].as_array_mut().into_iter().flatten().zip(&status.participants) {
        // Remove the member `report`: the members `note` and `counters` show its content.
        object.as_object_mut().map(|object| object.remove("report"));
        extend(object, participant_json(snapshot, status, participant));
        extend(object, usage_json(snapshot, participant.pid));
    }
    let daemons: Vec<Value> = snapshot.daemons.iter().map(|daemon| daemon_json(snapshot, daemon)).collect();
    extend(&mut value, json!({ "processes": daemons }));
    Ok(value)
}

fn participant_json(snapshot: &Snapshot, status: &Status, participant: &ParticipantStatus) -> Value {
    let (level, page, report) = (snapshot.level(participant), page(participant), participant.report.as_ref());
    let codecs = report.map(|report| report.codecs).unwrap_or_default();
    json!({
        "note": report.map(report_line).or_else(|| participant.note.clone()),
        "process_stopped": snapshot.stopped.contains_key(&participant.name),
        "connections": snapshot.connections(participant),
        "codec_down": report.and_then(|report| report.down).map(|codec| codec.to_string()),
        "codec_up": report.and_then(|report| report.up).map(|codec| codec.to_string()),
        "streams_by_codec": { "pcm": codecs.pcm, "adpcm": codecs.adpcm, "opus": codecs.opus },
        "talk": level.map(|line| talk_word(line.state)),
        // Digital silence is minus infinity, which JSON can't express, so it is null.
        "level_dbfs": level.map(|line| line.dbfs).filter(|dbfs| dbfs.is_finite()),
        "delay_ms": page.delay_ms,
        "lost": page.lost,
        "underruns": page.underruns,
        "dropped_frames": dropped_frames(status, participant),
        "counters": participant.report.iter().flat_map(counters).collect::<BTreeMap<_, _>>(),
    })
}

fn daemon_json(snapshot: &Snapshot, daemon: &Daemon) -> Value {
    let mut value = json!({
        "program": daemon.program,
        "pid": daemon.pid,
        "state": daemon.state(),
        "restarts": daemon.restarts(),
        "last_exit": daemon.last_exit(),
    });
    extend(&mut value, usage_json(snapshot, daemon.pid));
    value
}

fn usage_json(snapshot: &Snapshot, pid: Option<u32>) -> Value {
    let usage = snapshot.usage(pid);
    json!({
        "cpu_ms": usage.map(|usage| usage.cpu_ms),
        "cpu_percent": usage.map(|usage| (usage.cpu_percent * 100.0).round() / 100.0),
        "rss_kib": usage.map(|usage| usage.rss_kib),
    })
}

/// Returns the last report of the participant's page.
pub(crate) fn page(participant: &ParticipantStatus) -> Cow<'_, PageReport> {
    let page = participant.report.as_ref().and_then(|report| report.page.as_ref());
    page.map_or_else(|| Cow::Owned(PageReport::default()), Cow::Borrowed)
}

/// Returns the codecs of the newest stream and of the sound that the participant sends: `Opus 24 / PCM 16`. Returns `None` if there is neither.
pub(crate) fn codec(participant: &ParticipantStatus) -> Option<String> {
    let report = participant.report.as_ref()?;
    (report.down.is_some() || report.up.is_some()).then(|| format!("{} / {}", or_dash(report.down), or_dash(report.up)))
}

/// Returns the values of a listener's report, with their names in the JSON object `counters`.
fn counters(report: &ListenerReport) -> Vec<(&'static str, String)> {
    let page = report.page.clone().unwrap_or_default();
    let Traffic { sent, received, skipped } = report.traffic;
    let number = |value: Option<u64>, unit: &str| value.map(|value| format!("{value}{unit}"));
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let microphone = match report.microphone {
        MicState::Open => None,
        MicState::Muted => Some("muted".to_owned()),
        MicState::None => Some("none".to_owned()),
    };
    let words = [
        ("streams", Some(report.streams.to_string())),
        ("speaking", Some(report.speaking.to_string())),
        ("mic", microphone),
        ("delay", number(page.delay_ms, "ms")),
        ("underruns", number(page.underruns, "")),
        ("lost", number(page.lost, "")),
        ("certificate", report.certificate_refused.then(|| "refused".to_owned())),
        ("sent", Some(sent.to_string())),
        ("received", Some(received.to_string())),
        ("skipped", Some(skipped.to_string())),
        ("depth", number(page.depth_ms, "ms")),
        ("jitter", number(page.jitter_ms, "ms")),
        ("bytes", number(page.bytes, "")),
        ("rate", number(page.rate_hz, "Hz")),
        ("codec", text(&page.codec)),
        ("browser", text(&page.browser)),
        ("errors", report.page.as_ref().map(|page| page.errors.to_string())),
        ("error", text(&page.error)),
    ];
    words.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Returns a listener's report as text, for the JSON member `note`.
fn report_line(report: &ListenerReport) -> String {
    let mut words: Vec<String> = counters(report).iter().map(|(name, value)| format!("{name}={value}")).collect();
    if report.hand {
        words.insert(2, "hand".to_owned());
    }
    if report.weak {
        words.push("weak".to_owned());
    }
    words.join(" ")
}

/// Returns the number of dropped frames. The mixer drops frames when the listener is slow, the listener when a stream is slow.
fn dropped_frames(status: &Status, participant: &ParticipantStatus) -> Option<u64> {
    let matches = |one: &&MixedParticipant| one.name == participant.name && one.room == participant.room;
    let mixed = status.mixing.as_ref().and_then(|mixing| mixing.participants.iter().find(matches));
    let by_listener = participant.report.as_ref().map(|report| report.traffic.skipped);
    match (mixed, by_listener) {
        (None, None) => None,
        (mixed, by_listener) => Some(mixed.map_or(0, |one| one.lost_frames) + by_listener.unwrap_or(0)),
    }
}

fn extend(to: &mut Value, more: Value) {
    if let (Some(to), Value::Object(more)) = (to.as_object_mut(), more) {
        to.extend(more);
    }
}

/// Describes the certificate's validity in one line. The cause for which listeners can't use the certificate is printed separately.
fn certificate_line(certificate: &Certificate) -> String {
    let path = &certificate.path;
    let signed = if certificate.self_signed { ", self-signed: browsers warn about it" } else { "" };
    match (certificate.days_left, &certificate.not_after) {
        (Some(1), Some(end)) => format!("certificate '{path}': 1 day left, until {end}{signed}"),
        (Some(days), Some(end)) if days >= 0 => format!("certificate '{path}': {days} days left, until {end}{signed}"),
        (Some(_), Some(end)) => format!("certificate '{path}': expired on {end}{signed}"),
        _ => format!("certificate '{path}': missing, unreadable or invalid"),
    }
}

/// Describes the signer in one line.
fn signer_line(signer: &SignerStatus) -> String {
    let SignerStatus { pid, signatures, refused, .. } = signer;
    let user = match &signer.user {
        Some(user) => format!("user '{user}'"),
        None => "the user of the supervisor".to_owned(),
    };
    format!("signer: process {pid} of {user}, handshakes signed: {signatures}, requests refused: {refused}")
}

/// Returns the text of the column NOTE: whether the participant is suspended, the listener's report or the supervisor's note, and the use of a
/// one-time link.
fn note(participant: &ParticipantStatus) -> Option<String> {
    let link = participant.link.map(|link| format!("link={}", if link == LinkUse::Unused { "unused" } else { "used" }));
    let state = participant.report.as_ref().map(ToString::to_string).or_else(|| participant.note.clone());
    let suspended = participant.suspended.then(|| "suspended".to_owned());
    let words: Vec<String> = suspended.into_iter().chain(state).chain(link).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn talk_word(talk: Talk) -> &'static str {
    match talk {
        Talk::Talking => "talking",
        Talk::Quiet => "quiet",
        Talk::Muted => "muted",
    }
}

/// Formats a value, or a dash if there is none.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Formats the CPU usage.
pub(crate) fn cpu(usage: Option<Usage>) -> String {
    or_dash(usage.map(|usage| format!("{:.1} %", usage.cpu_percent)))
}

/// Formats the memory in use.
pub(crate) fn memory(usage: Option<Usage>) -> String {
    or_dash(usage.map(|usage| format!("{:.1} MiB", usage.rss_kib as f64 / 1024.0)))
}

/// Adds a colour to the state at the start of a table line.
fn coloured(line: &str, state: Option<State>) -> String {
    let colour = match state {
        Some(State::Failed) => FAILED,
        Some(State::BackingOff) => BACKING_OFF,
        _ => return line.to_owned(),
    };
    let word = state.map(|state| state.to_string()).unwrap_or_default();
    format!("{colour}{word}{PLAIN}{}", &line[word.len()..])
}

/// Formats a duration with its two largest units: `42 s`, `3 min 12 s`, `2 d 5 h`.
fn duration(ms: u64) -> String {
    let (s, min, h, d) = (ms / 1000 % 60, ms / 60_000 % 60, ms / 3_600_000 % 24, ms / 86_400_000);
    match (d, h, min) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, _) => format!("{min} min {s} s"),
        (0, _, _) => format!("{h} h {min} min"),
        _ => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;
