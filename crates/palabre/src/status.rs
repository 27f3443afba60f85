//! `palabre status`: how every participant's listener is, for people and as JSON.
//!
//! The supervisor says what it knows; the rest is what anybody can see: levels in the room, and what the kernel says about
//! processes and connections.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{self, IsTerminal};
use std::path::Path;

use palabre_config::control::{
    Certificate, LinkUse, ListenerReport, MixedParticipant, PageReport, ParticipantStatus, State, Status, Traffic,
};
use palabre_host::exit::Failure;
use palabre_host::usage::{self, Usage};
use palabre_room::{LevelLine, RoomDir, Talk, Voice};
use serde_json::{Value, json};

use crate::output::print;
use crate::units::{self, Unit};
use crate::{cli, control, processes, table};

/// SGR of ECMA-48: what stands out, and the end of it.
const FAILED: &str = "\x1b[1;31m";
const BACKING_OFF: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

const HEAD: [&str; 18] = [
    "STATE",
    "NAME",
    "ROOM",
    "PORT",
    "PID",
    "CONN",
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

/// Prints the status. That a listener has failed is an answer and no failure of the question.
///
/// # Errors
/// The supervisor isn't there (system).
pub fn run(run: &Path, options: &cli::Status) -> Result<(), Failure> {
    let status = control::status(run)?;
    let mut seen = Seen::now(run, &status);
    seen.ask_systemd(run);
    if options.json {
        return print(serde_json::to_string_pretty(&seen.json(&status)?).map_err(Failure::system)? + "\n");
    }
    print(seen.table(&status, has_colours()))?;
    let fault = status.certificate.as_ref().and_then(|certificate| certificate.fault.as_ref());
    for error in status.errors.iter().chain(fault) {
        eprintln!("palabre: warning: {error}");
    }
    Ok(())
}

/// On a terminal, unless somebody wants none: <https://no-color.org>
fn has_colours() -> bool {
    let says_no = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !says_no && env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// What can be seen from outside.
#[derive(Debug, Default)]
pub struct Seen {
    /// By port.
    connections: BTreeMap<u16, usize>,
    /// By room and login name.
    levels: BTreeMap<(String, String), LevelLine>,
    /// By process id.
    usage: BTreeMap<u32, Usage>,
    /// Those who are no listeners.
    pub others: Vec<Other>,
}

/// A process that is no listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Its program.
    pub program: String,
    /// None where systemd says that it doesn't run.
    pub pid: Option<u32>,
    /// What systemd says about it, where it does.
    unit: Option<Unit>,
}

impl Other {
    fn state(&self) -> &str {
        self.unit.as_ref().map_or("running", |unit| &unit.state)
    }

    fn restarts(&self) -> Option<u64> {
        self.unit.as_ref().map(|unit| unit.restarts)
    }

    fn last_exit(&self) -> Option<&String> {
        self.unit.as_ref()?.last_exit.as_ref()
    }
}

impl Seen {
    /// All that can be seen now.
    #[must_use]
    pub fn now(run: &Path, status: &Status) -> Self {
        let other = |(program, pid)| Other { program, pid: Some(pid), unit: None };
        let others: Vec<Other> = processes::others(run).into_iter().map(other).collect();
        let listeners = status.participants.iter().filter_map(|participant| participant.pid);
        let pids = listeners.chain(others.iter().filter_map(|other| other.pid));
        let usage = pids.filter_map(|pid| Some((pid, usage::of(pid)?))).collect();
        let mut seen = Self { connections: usage::connections(), levels: BTreeMap::new(), usage, others };
        seen.hear(run, status);
        seen
    }

    /// Adds what systemd knows of these processes; and those that don't run, where it watches over what is in `run`.
    fn ask_systemd(&mut self, run: &Path) {
        let known = ["palabre-exporter", "palabre-mixer", "palabre-supervisor"];
        self.learn(units::ask(&known), run == Path::new(cli::RUN));
    }

    fn learn(&mut self, units: BTreeMap<String, Unit>, is_theirs: bool) {
        for (program, unit) in units {
            let same = |other: &&mut Other| other.pid.is_some() && other.pid == unit.pid;
            match self.others.iter_mut().find(same) {
                Some(other) => other.unit = Some(unit),
                // What nobody has started is missed by nobody.
                None if is_theirs && unit.pid.is_none() && unit.state != "dead" => {
                    self.others.push(Other { program, pid: None, unit: Some(unit) });
                }
                None => {}
            }
        }
    }

    /// Reads the levels again, which change faster than the rest.
    pub fn hear(&mut self, run: &Path, status: &Status) {
        self.levels.clear();
        let rooms: BTreeSet<&String> = status.participants.iter().map(|participant| &participant.room).collect();
        for room in rooms {
            let lines = RoomDir::new(run.join("rooms").join(room)).levels().unwrap_or_default();
            self.levels.extend(lines.into_iter().map(|line| ((room.clone(), line.name.to_string()), line)));
        }
    }

    /// How loud a participant is, where the room says so.
    #[must_use]
    pub fn level(&self, participant: &ParticipantStatus) -> Option<&LevelLine> {
        self.levels.get(&(participant.room.clone(), participant.name.clone()))
    }

    /// How many TCP connections there are to a participant's port.
    #[must_use]
    pub fn connections(&self, participant: &ParticipantStatus) -> usize {
        self.connections.get(&participant.port).copied().unwrap_or(0)
    }

    /// What a process has used.
    #[must_use]
    pub fn usage(&self, pid: Option<u32>) -> Option<Usage> {
        pid.and_then(|pid| self.usage.get(&pid)).copied()
    }

    fn table(&self, status: &Status, colours: bool) -> String {
        let mut text = String::new();
        if status.participants.is_empty() {
            text.push_str("nobody; 'palabre invite NAME' adds a participant\n");
        } else {
            let rows: Vec<[String; HEAD.len()]> = std::iter::once(HEAD.map(str::to_owned))
                .chain(status.participants.iter().map(|p| self.row(status, p)))
                .collect();
            let states = std::iter::once(None).chain(status.participants.iter().map(|p| Some(p.state)));
            for (line, state) in table::lines(&rows).iter().zip(states) {
                text.push_str(&painted(line, state.filter(|_| colours)));
                text.push('\n');
            }
        }
        let mut rows = vec![["STATE", "PROCESS", "PID", "CPU", "MEMORY", "RESTARTS", "LAST EXIT"].map(str::to_owned)];
        rows.extend(self.others.iter().map(|other| self.other(other)));
        if rows.len() > 1 {
            text.push('\n');
            text.extend(table::lines(&rows).iter().map(|line| format!("{line}\n")));
        }
        text.extend(status.certificate.as_ref().map(|certificate| format!("\n{}\n", in_words(certificate))));
        text
    }

    fn other(&self, other: &Other) -> [String; 7] {
        let usage = self.usage(other.pid);
        [
            other.state().to_owned(),
            other.program.clone(),
            or_dash(other.pid),
            cpu(usage),
            memory(usage),
            or_dash(other.restarts()),
            or_dash(other.last_exit()),
        ]
    }

    fn row(&self, status: &Status, participant: &ParticipantStatus) -> [String; HEAD.len()] {
        let level = self.level(participant);
        let usage = self.usage(participant.pid);
        let page = page(participant);
        [
            participant.state.to_string(),
            participant.name.clone(),
            participant.room.clone(),
            participant.port.to_string(),
            or_dash(participant.pid),
            self.connections(participant).to_string(),
            or_dash(level.map(|line| word(line.state))),
            or_dash(level.map(|line| format!("{:.0} dBFS", line.dbfs))),
            or_dash(page.delay_ms.map(|ms| format!("{ms} ms"))),
            or_dash(page.lost),
            or_dash(page.underruns),
            or_dash(dropped_frames(status, participant)),
            cpu(usage),
            memory(usage),
            participant.restarts.to_string(),
            duration(participant.since_ms),
            or_dash(participant.last_exit.as_ref()),
            or_dash(note(participant)),
        ]
    }

    /// What the supervisor says, and in each of its objects what was seen.
    fn json(&self, status: &Status) -> Result<Value, Failure> {
        let mut value = serde_json::to_value(status).map_err(Failure::system)?;
        let processes: Vec<Value> = self
            .others
            .iter()
            .map(|other| {
                let mut process = json!({
                    "program": other.program,
                    "pid": other.pid,
                    "state": other.state(),
                    "restarts": other.restarts(),
                    "last_exit": other.last_exit(),
                });
                add(&mut process, self.used(other.pid));
                process
            })
            .collect();
        for (seen, participant) in value["participants"].as_array_mut().into_iter().flatten().zip(&status.participants)
        {
            let (level, page) = (self.level(participant), page(participant));
            // Shown as words, below.
            seen.as_object_mut().map(|seen| seen.remove("report"));
            add(
                seen,
                json!({
                    "note": participant.report.as_ref().map(all_words).or_else(|| participant.note.clone()),
                    "connections": self.connections(participant),
                    "talk": level.map(|line| word(line.state)),
                    // JSON has no infinity: digital silence is null.
                    "level_dbfs": level.map(|line| line.dbfs).filter(|dbfs| dbfs.is_finite()),
                    "delay_ms": page.delay_ms,
                    "lost": page.lost,
                    "underruns": page.underruns,
                    "dropped_frames": dropped_frames(status, participant),
                    "counters": participant.report.iter().flat_map(words).collect::<BTreeMap<_, _>>(),
                }),
            );
            add(seen, self.used(participant.pid));
        }
        add(&mut value, json!({ "processes": processes }));
        Ok(value)
    }

    fn used(&self, pid: Option<u32>) -> Value {
        let usage = self.usage(pid);
        json!({
            "cpu_ms": usage.map(|usage| usage.cpu_ms),
            "cpu_percent": usage.map(|usage| (usage.cpu_percent * 100.0).round() / 100.0),
            "rss_kib": usage.map(|usage| usage.rss_kib),
        })
    }
}

/// Returns what the participant's page reported last.
#[must_use]
pub fn page(participant: &ParticipantStatus) -> Cow<'_, PageReport> {
    let page = participant.report.as_ref().and_then(|report| report.page.as_ref());
    page.map_or_else(|| Cow::Owned(PageReport::default()), Cow::Borrowed)
}

/// Returns the values of a report by their names in the JSON object `counters`.
fn words(report: &ListenerReport) -> Vec<(&'static str, String)> {
    let page = report.page.clone().unwrap_or_default();
    let Traffic { sent, received, skipped } = report.traffic;
    let number = |value: Option<u64>, unit: &str| value.map(|value| format!("{value}{unit}"));
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let microphone = match report.microphone {
        Voice::Open => None,
        Voice::Muted => Some("muted".to_owned()),
        Voice::None => Some("none".to_owned()),
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

/// Returns a report in one line, as the JSON object `note` has it.
fn all_words(report: &ListenerReport) -> String {
    let mut words: Vec<String> = words(report).iter().map(|(name, value)| format!("{name}={value}")).collect();
    if report.hand {
        words.insert(2, "hand".to_owned());
    }
    words.join(" ")
}

/// Frames that were left out on the way to a participant: by the mixer, since the listener was slow, and by the listener, since a stream was.
fn dropped_frames(status: &Status, participant: &ParticipantStatus) -> Option<u64> {
    let is_it = |one: &&MixedParticipant| one.name == participant.name && one.room == participant.room;
    let mixed = status.mixing.as_ref().and_then(|mixing| mixing.participants.iter().find(is_it));
    let by_listener = participant.report.as_ref().map(|report| report.traffic.skipped);
    match (mixed, by_listener) {
        (None, None) => None,
        (mixed, by_listener) => Some(mixed.map_or(0, |one| one.lost_frames) + by_listener.unwrap_or(0)),
    }
}

fn add(to: &mut Value, more: Value) {
    if let (Some(to), Value::Object(more)) = (to.as_object_mut(), more) {
        to.extend(more);
    }
}

/// The certificate in one line; its fault is a warning of its own.
fn in_words(certificate: &Certificate) -> String {
    let path = &certificate.path;
    let signed = if certificate.self_signed { ", self-signed: browsers warn of it" } else { "" };
    match (certificate.days_left, &certificate.not_after) {
        (Some(days), Some(end)) if days >= 0 => format!("certificate '{path}': {days} days left, until {end}{signed}"),
        (Some(_), Some(end)) => format!("certificate '{path}': ended on {end}{signed}"),
        _ => format!("certificate '{path}': can't be used"),
    }
}

/// Returns the listener's state or why there is none, and whether the link waits to be used.
fn note(participant: &ParticipantStatus) -> Option<String> {
    let link = participant.link.map(|link| format!("link={}", if link == LinkUse::Unused { "unused" } else { "used" }));
    let state = participant.report.as_ref().map(ToString::to_string).or_else(|| participant.note.clone());
    let words: Vec<String> = state.into_iter().chain(link).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn word(talk: Talk) -> &'static str {
    match talk {
        Talk::Talking => "talking",
        Talk::Quiet => "quiet",
        Talk::Muted => "muted",
    }
}

/// A dash where there is nothing.
#[must_use]
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// The share of a processor, in words.
#[must_use]
pub fn cpu(usage: Option<Usage>) -> String {
    or_dash(usage.map(|usage| format!("{:.1} %", usage.cpu_percent)))
}

/// The memory in use, in words.
#[must_use]
pub fn memory(usage: Option<Usage>) -> String {
    or_dash(usage.map(|usage| format!("{:.1} MiB", usage.rss_kib as f64 / 1024.0)))
}

/// The line with its state, which comes first, in the colour of that state.
fn painted(line: &str, state: Option<State>) -> String {
    let colour = match state {
        Some(State::Failed) => FAILED,
        Some(State::BackingOff) => BACKING_OFF,
        _ => return line.to_owned(),
    };
    let word = state.map(|state| state.to_string()).unwrap_or_default();
    format!("{colour}{word}{PLAIN}{}", &line[word.len()..])
}

/// The two largest units: `42 s`, `3 min 12 s`, `2 d 5 h`.
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
