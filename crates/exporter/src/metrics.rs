//! Which metrics there are, and where each comes from. docs/metrics.md lists them; a test compares the two.

use std::collections::BTreeMap;
use std::path::Path;

use palabre_config::control::{Certificate, ListenerReport, Mixing, ParticipantStatus, State, Status};
use palabre_host::usage::{self, Usage};
use palabre_room::{LevelLine, RoomDir, Talk};
use prometheus_client::registry::Unit;

use crate::openmetrics::{Family, Labels, Samples};

/// What the supervisor doesn't know: levels in the rooms, and what the kernel says.
#[derive(Debug, Default)]
pub struct Seen {
    /// By port.
    connections: BTreeMap<u16, usize>,
    /// By room and login name.
    levels: BTreeMap<(String, String), LevelLine>,
    /// By process id.
    usage: BTreeMap<u32, Usage>,
}

impl Seen {
    /// Looks around in the directory `run` and in /proc.
    pub fn now(run: &Path, status: &Status) -> Self {
        let mut rooms: Vec<&String> = status.participants.iter().map(|participant| &participant.room).collect();
        rooms.sort_unstable();
        rooms.dedup();
        let lines = |room: &String| RoomDir::new(run.join("rooms").join(room)).levels().unwrap_or_default();
        let levels = rooms
            .into_iter()
            .flat_map(|room| lines(room).into_iter().map(|line| ((room.clone(), line.name.to_string()), line)))
            .collect();
        let pids = status.participants.iter().filter_map(|participant| participant.pid);
        let usage = pids.filter_map(|pid| Some((pid, usage::of(pid)?))).collect();
        Self { connections: usage::connections(), levels, usage }
    }
}

/// All families; without a status only that there is none.
pub fn families(status: Option<&Status>, seen: &Seen) -> Vec<Family> {
    let mut families =
        vec![gauge("up", "Whether the supervisor answers", None, vec![(Vec::new(), f64::from(status.is_some()))])];
    let Some(status) = status else { return families };
    let version = vec![("version", status.version.clone())];
    families.push(gauge("build", "The supervisor's version, always 1", None, vec![(version, 1.0)]));
    if let Some(supervisor) = status.supervisor {
        let help = "When the supervisor's program began, since the machine did";
        let began = vec![(Vec::new(), supervisor.began_ms as f64 / 1000.0)];
        families.push(gauge("supervisor_began", help, Some(Unit::Seconds), began));
    }
    let errors = vec![(Vec::new(), status.errors.len() as f64)];
    families.push(gauge("configuration_errors", "Files of the configuration that are passed over", None, errors));
    families.extend(status.certificate.as_ref().map(certificate).unwrap_or_default());
    families.extend(participants(&status.participants, seen));
    families.extend(listeners(&status.participants));
    families.extend(status.mixing.as_ref().map(mixer).unwrap_or_default());
    families
}

fn certificate(certificate: &Certificate) -> Vec<Family> {
    let one = |value: f64| vec![(Vec::new(), value)];
    let mut families = vec![
        gauge(
            "certificate_fault",
            "Whether the certificate's file can't be used",
            None,
            one(f64::from(certificate.fault.is_some())),
        ),
        gauge("certificate_self_signed", "Whether browsers warn of it", None, one(f64::from(certificate.self_signed))),
    ];
    if let Some(days) = certificate.days_left {
        let help = "Whole days until the certificate is valid no longer";
        families.push(gauge("certificate", help, Some(Unit::Other("days".into())), one(days as f64)));
    }
    families
}

/// What is known of every participant, whether somebody is there or not.
fn participants(all: &[ParticipantStatus], seen: &Seen) -> Vec<Family> {
    let each = |value: &dyn Fn(&ParticipantStatus) -> Option<f64>| -> Vec<(Labels, f64)> {
        all.iter().filter_map(|one| Some((who(&one.room, &one.name), value(one)?))).collect()
    };
    let level = |one: &ParticipantStatus| seen.levels.get(&(one.room.clone(), one.name.clone()));
    let talks = |one: &ParticipantStatus, talk: Talk| Some(f64::from(level(one).is_some_and(|it| it.state == talk)));
    let used = |one: &ParticipantStatus| one.pid.and_then(|pid| seen.usage.get(&pid));
    vec![
        gauge("participant_state", "1 for the state in which the listener is", None, states(all)),
        counter(
            "participant_restarts",
            "Times the listener was started again after it died",
            None,
            each(&|one| Some(one.restarts as f64)),
        ),
        gauge(
            "participant_connections",
            "TCP connections",
            None,
            each(&|one| Some(seen.connections.get(&one.port).copied().unwrap_or(0) as f64)),
        ),
        gauge("participant_talking", "Whether they talk", None, each(&|one| talks(one, Talk::Talking))),
        gauge("participant_muted", "Whether the operator has muted them", None, each(&|one| talks(one, Talk::Muted))),
        gauge(
            "participant_level_dbfs",
            "Level of what they say, while sound flows",
            None,
            each(&|one| level(one).map(|line| f64::from(line.dbfs)).filter(|dbfs| dbfs.is_finite())),
        ),
        counter(
            "participant_cpu",
            "Processor time of the listener's process",
            Some(Unit::Seconds),
            each(&|one| used(one).map(|usage| usage.cpu_ms as f64 / 1000.0)),
        ),
        gauge(
            "participant_resident_memory",
            "Memory of the listener's process, shared parts included",
            Some(Unit::Bytes),
            each(&|one| used(one).map(|usage| usage.rss_kib as f64 * 1024.0)),
        ),
    ]
}

/// What the listeners say of themselves and of their pages.
fn listeners(all: &[ParticipantStatus]) -> Vec<Family> {
    let each = |value: fn(&ListenerReport) -> Option<u64>, scale: f64| -> Vec<(Labels, f64)> {
        let value = |one: &ParticipantStatus| Some(value(one.report.as_ref()?)? as f64 * scale);
        all.iter().filter_map(|one| Some((who(&one.room, &one.name), value(one)?))).collect()
    };
    let (seconds, bytes) = (Some(Unit::Seconds), Some(Unit::Bytes));
    vec![
        gauge(
            "participant_streams",
            "Streams that somebody listens to",
            None,
            each(|report| Some(report.streams.into()), 1.0),
        ),
        counter(
            "participant_sent",
            "Bytes sent, TLS included",
            bytes.clone(),
            each(|report| Some(report.traffic.sent), 1.0),
        ),
        counter(
            "participant_received",
            "Bytes received, TLS included",
            bytes,
            each(|report| Some(report.traffic.received), 1.0),
        ),
        counter(
            "participant_stream_lost_frames",
            "Frames of 20 ms that slow streams missed",
            None,
            each(|report| Some(report.traffic.skipped), 1.0),
        ),
        gauge(
            "participant_page_lost_chunks",
            "Chunks that never came to the page, as it reports",
            None,
            each(|report| report.page.as_ref()?.lost, 1.0),
        ),
        gauge(
            "participant_delay",
            "From a sound's arrival in the page to the sound card, as the page reports it",
            seconds,
            each(|report| report.page.as_ref()?.delay_ms, 0.001),
        ),
        gauge(
            "participant_page_underruns",
            "Times the page's player ran dry since it was opened, as it reports",
            None,
            each(|report| report.page.as_ref()?.underruns, 1.0),
        ),
    ]
}

fn mixer(mixing: &Mixing) -> Vec<Family> {
    let each = |value: fn(&palabre_config::control::MixedParticipant) -> f64| -> Vec<(Labels, f64)> {
        mixing.participants.iter().map(|one| (who(&one.room, &one.name), value(one))).collect()
    };
    let bound = |us: Option<u64>| us.map_or(f64::MAX, |us| us as f64 / 1e6);
    let buckets = mixing.late.iter().map(|&(us, count)| (bound(us), count)).collect();
    let late = Samples::Histogram { buckets, sum: mixing.late_us as f64 / 1e6 };
    let seconds = Some(Unit::Seconds);
    vec![
        Family {
            name: "mixer_tick_lateness",
            help: "How late the mixer handled its ticks of 20 ms",
            unit: seconds.clone(),
            samples: late,
        },
        counter(
            "mixer_skipped_ticks",
            "Ticks that were left out because the mixer was kept from running",
            None,
            vec![(Vec::new(), mixing.skipped as f64)],
        ),
        counter(
            "participant_talk",
            "Time for which they have talked",
            seconds,
            each(|one| one.talked_ms as f64 / 1000.0),
        ),
        counter(
            "participant_ear_lost_frames",
            "Frames of 20 ms for which the listener's process was too slow",
            None,
            each(|one| one.lost_frames as f64),
        ),
        counter(
            "participant_voice_underruns",
            "Times that what they say came too late for the jitter buffer",
            None,
            each(|one| one.underruns as f64),
        ),
    ]
}

fn states(all: &[ParticipantStatus]) -> Vec<(Labels, f64)> {
    let of = |one: &ParticipantStatus, state: State| {
        let mut labels = who(&one.room, &one.name);
        labels.push(("state", state.to_string().replace(' ', "-")));
        (labels, f64::from(one.state == state))
    };
    all.iter().flat_map(|one| State::ALL.map(|state| of(one, state))).collect()
}

fn who(room: &str, name: &str) -> Labels {
    vec![("room", room.to_owned()), ("name", name.to_owned())]
}

fn gauge(name: &'static str, help: &'static str, unit: Option<Unit>, samples: Vec<(Labels, f64)>) -> Family {
    Family { name, help, unit, samples: Samples::Gauge(samples) }
}

fn counter(name: &'static str, help: &'static str, unit: Option<Unit>, samples: Vec<(Labels, f64)>) -> Family {
    Family { name, help, unit, samples: Samples::Counter(samples) }
}
