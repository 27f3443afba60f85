//! Defines the metrics and the source of each value. A test compares the metrics with the list in docs/metrics.md.

use std::collections::BTreeMap;
use std::path::Path;

use palabre_config::control::{
    Bridging, Certificate, Codec, ListenerReport, MixerState, Mixing, ParticipantStatus, Recording, RecordingState,
    SharedRoom, SignerStatus, State, Status, Storage,
};
use palabre_host::usage::{self, Usage};
use palabre_room::{LevelLine, RoomDir, Talk};
use prometheus_client::registry::Unit;

use crate::openmetrics::{Family, Labels, Samples};

/// Measurements that the exporter makes itself: levels in the rooms, connections and resource usage.
#[derive(Debug, Default)]
pub(crate) struct Measurements {
    /// Number of TCP connections by local port.
    connections: BTreeMap<u16, usize>,
    /// Levels by room and login name.
    levels: BTreeMap<(String, String), LevelLine>,
    /// Resource usage by process id.
    usage: BTreeMap<u32, Usage>,
}

impl Measurements {
    /// Reads the current values from the directory `run` and from /proc.
    pub(crate) fn now(run: &Path, status: &Status) -> Self {
        // If the mixer doesn't work, the files `levels` are old, so no levels are read.
        let is_silent = status.mixer.is_some_and(|mixer| mixer != MixerState::Running);
        let mut rooms: Vec<&String> = status.participants.iter().map(|participant| &participant.room).collect();
        rooms.sort_unstable();
        rooms.dedup();
        rooms.truncate(if is_silent { 0 } else { rooms.len() });
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

/// Returns all metric families. If `status` is `None`, returns only the family `up` with the value 0.
pub(crate) fn families(status: Option<&Status>, measured: &Measurements) -> Vec<Family> {
    let mut families = vec![gauge(
        "up",
        "Whether the supervisor answers the exporter",
        None,
        vec![(Vec::new(), f64::from(status.is_some()))],
    )];
    let Some(status) = status else { return families };
    let version = vec![("version", status.version.clone())];
    families.push(gauge("build", "The supervisor's version, always 1", None, vec![(version, 1.0)]));
    if let Some(supervisor) = status.supervisor {
        let help = "Time when the supervisor's program started, in seconds since boot";
        let began = vec![(Vec::new(), supervisor.began_ms as f64 / 1000.0)];
        families.push(gauge("supervisor_began", help, Some(Unit::Seconds), began));
    }
    if let Some(mixer) = status.mixer {
        let runs = vec![(Vec::new(), f64::from(mixer == MixerState::Running))];
        families.push(gauge("mixer_up", "Whether the mixer runs; if not, all rooms are silent", None, runs));
    }
    families.extend(signer(status.signer.as_ref()));
    let records = |one: &Recording| f64::from(one.state == RecordingState::On);
    let recordings = status.recordings.iter().map(|one| (vec![("room", one.room.clone())], records(one)));
    let help = "Whether the recorder of a recorded room runs";
    families.push(gauge("recorder_up", help, None, recordings.collect()));
    families.extend(status.storage.as_ref().map(storage).unwrap_or_default());
    let errors = vec![(Vec::new(), status.errors.len() as f64)];
    families.push(gauge("configuration_errors", "Number of faults that the supervisor reports: invalid files, failed upgrades, unusable certificates, failed recordings", None, errors));
    families.extend(status.certificate.as_ref().map(certificate).unwrap_or_default());
    families.extend(participants(&status.participants, measured));
    families.extend(listeners(&status.participants));
    families.extend(status.mixing.as_ref().map(mixer).unwrap_or_default());
    families.extend(status.bridge.as_ref().map(bridge).unwrap_or_default());
    families
}

/// Returns the metrics of the connections with other machines.
fn bridge(bridge: &Bridging) -> Vec<Family> {
    let each = |value: fn(&SharedRoom) -> f64| -> Vec<(Labels, f64)> {
        let labels = |one: &SharedRoom| vec![("room", one.room.clone()), ("machine", one.machine.clone())];
        bridge.machines.iter().map(|one| (labels(one), value(one))).collect()
    };
    let one = |value: f64| vec![(Vec::new(), value)];
    let seconds = || Some(Unit::Seconds);
    vec![
        gauge(
            "bridge_connected",
            "Whether palabre-bridge is connected to the NATS server",
            None,
            one(f64::from(bridge.connected)),
        ),
        counter(
            "bridge_unsent_messages",
            "Number of messages to other machines that were not sent, because the NATS server was not connected or too slow",
            None,
            one(bridge.unsent as f64),
        ),
        gauge(
            "machine_connected",
            "Whether another machine that shares the room is connected",
            None,
            each(|one| f64::from(!one.cut_off)),
        ),
        gauge(
            "machine_delay",
            "How much longer the newest message from the machine took than the fastest message of the last minute",
            seconds(),
            each(|one| one.delay_ms as f64 / 1000.0),
        ),
        counter(
            "machine_lost",
            "Seconds of sound from the other machine that were lost on the way, or that the mixer's pipe refused",
            seconds(),
            each(|one| one.lost_ms as f64 / 1000.0),
        ),
        counter(
            "machine_late_messages",
            "Number of messages with sound from the machine that were dropped, because they came more than 300 ms late",
            None,
            each(|one| one.late_messages as f64),
        ),
    ]
}

/// Returns the metrics of the signer.
fn signer(signer: Option<&SignerStatus>) -> Vec<Family> {
    let one = |value: f64| vec![(Vec::new(), value)];
    let help = "Whether a process runs that signs TLS handshakes; if not, nobody can connect";
    let mut families = vec![gauge("signer_up", help, None, one(f64::from(signer.is_some())))];
    if let Some(signer) = signer {
        let help = "Number of TLS handshakes that the signer has signed";
        families.push(counter("signer_signatures", help, None, one(signer.signatures as f64)));
        let help = "Number of requests that the signer has refused";
        families.push(counter("signer_refused", help, None, one(signer.refused as f64)));
    }
    families
}

/// Returns the metrics of the recordings' disk.
fn storage(storage: &Storage) -> Vec<Family> {
    let one = |name, help, unit, value: f64| gauge(name, help, unit, vec![(Vec::new(), value)]);
    let bytes = |name, help, bytes: u64| one(name, help, Some(Unit::Bytes), bytes as f64);
    let mut families = vec![
        bytes("recordings_disk_free", "Free space of the disk of the recordings", storage.free_bytes),
        bytes("recordings_disk_size", "Size of the disk of the recordings", storage.total_bytes),
        bytes("recordings_size", "Space that all recordings take", storage.recordings_bytes),
        one(
            "recordings_disk_nearly_full",
            "Whether there are recordings, and the disk has less than 1 GiB of free space, or less than 2 hours until it is full",
            None,
            f64::from(storage.nearly_full),
        ),
    ];
    if let Some(seconds) = storage.left_s {
        let help = "Time until the disk is full if the present recordings go on at their average rate";
        families.push(one("recordings_left", help, Some(Unit::Seconds), seconds as f64));
    }
    families
}

fn certificate(certificate: &Certificate) -> Vec<Family> {
    let one = |value: f64| vec![(Vec::new(), value)];
    let mut families = vec![
        gauge(
            "certificate_fault",
            "Whether the certificate can't be used: unreadable, expired, not valid yet, or not for its private key",
            None,
            one(f64::from(certificate.fault.is_some())),
        ),
        gauge(
            "certificate_self_signed",
            "Whether the certificate is self-signed, so browsers warn",
            None,
            one(f64::from(certificate.self_signed)),
        ),
    ];
    if let Some(days) = certificate.days_left {
        let help = "Days until the certificate expires";
        families.push(gauge("certificate", help, Some(Unit::Other("days".into())), one(days as f64)));
    }
    families
}

/// Returns the metrics that exist for every participant, connected or not.
fn participants(all: &[ParticipantStatus], measured: &Measurements) -> Vec<Family> {
    let each = |value: &dyn Fn(&ParticipantStatus) -> Option<f64>| -> Vec<(Labels, f64)> {
        all.iter().filter_map(|one| Some((labels(&one.room, &one.name), value(one)?))).collect()
    };
    let level = |one: &ParticipantStatus| measured.levels.get(&(one.room.clone(), one.name.clone()));
    let talks = |one: &ParticipantStatus, talk: Talk| Some(f64::from(level(one).is_some_and(|it| it.state == talk)));
    let used = |one: &ParticipantStatus| one.pid.and_then(|pid| measured.usage.get(&pid));
    vec![
        gauge(
            "participant_state",
            "Whether the listener is in the state that the label 'state' names: 1 or 0",
            None,
            states(all),
        ),
        counter(
            "participant_restarts",
            "Number of restarts of the listener process after it died",
            None,
            each(&|one| Some(one.restarts as f64)),
        ),
        gauge(
            "participant_connections",
            "Number of open TCP connections to the participant's port",
            None,
            each(&|one| Some(measured.connections.get(&one.port).copied().unwrap_or(0) as f64)),
        ),
        gauge("participant_talking", "Whether the participant talks", None, each(&|one| talks(one, Talk::Talking))),
        gauge(
            "participant_muted",
            "Whether the mixer mutes the participant because an operator ordered it; 0 while no mixer runs",
            None,
            each(&|one| talks(one, Talk::Muted)),
        ),
        gauge(
            "participant_level_dbfs",
            "Level of the participant's microphone in dBFS, absent while there is no sound",
            None,
            each(&|one| level(one).map(|line| f64::from(line.dbfs)).filter(|dbfs| dbfs.is_finite())),
        ),
        counter(
            "participant_cpu",
            "CPU time of the listener process",
            Some(Unit::Seconds),
            each(&|one| used(one).map(|usage| usage.cpu_ms as f64 / 1000.0)),
        ),
        gauge(
            "participant_resident_memory",
            "Resident memory of the listener process, including shared memory",
            Some(Unit::Bytes),
            each(&|one| used(one).map(|usage| usage.rss_kib as f64 * 1024.0)),
        ),
    ]
}

/// Returns the metrics that the listeners report about themselves and their pages.
fn listeners(all: &[ParticipantStatus]) -> Vec<Family> {
    let each = |value: fn(&ListenerReport) -> Option<u64>, scale: f64| -> Vec<(Labels, f64)> {
        let value = |one: &ParticipantStatus| Some(value(one.report.as_ref()?)? as f64 * scale);
        all.iter().filter_map(|one| Some((labels(&one.room, &one.name), value(one)?))).collect()
    };
    let (seconds, bytes) = (Some(Unit::Seconds), Some(Unit::Bytes));
    vec![
        gauge(
            "participant_streams",
            "Number of open streams to the participant's clients",
            None,
            each(|report| Some(report.streams.into()), 1.0),
        ),
        gauge(
            "participant_codec_streams",
            "Number of open streams to the participant's clients with the codec that the label 'codec' names",
            None,
            codec_streams(all),
        ),
        gauge(
            "participant_sends",
            "Whether the participant sends sound with the codec that the label 'codec' names: 1 or 0",
            None,
            sends(all),
        ),
        counter(
            "participant_sent",
            "Bytes that the listener sent to the participant's clients, including TLS",
            bytes.clone(),
            each(|report| Some(report.traffic.sent), 1.0),
        ),
        counter(
            "participant_received",
            "Bytes that the listener received from the participant's clients, including TLS",
            bytes,
            each(|report| Some(report.traffic.received), 1.0),
        ),
        counter(
            "participant_stream_lost_frames",
            "Number of 20 ms frames that the listener did not send to clients that read their stream too slowly",
            None,
            each(|report| Some(report.traffic.skipped), 1.0),
        ),
        gauge(
            "participant_page_lost_chunks",
            "Number of gaps in the stream, where one or more chunks didn't reach the page, as the page reports",
            None,
            each(|report| report.page.as_ref()?.lost, 1.0),
        ),
        gauge(
            "participant_delay",
            "Delay of sound from its arrival in the page to the sound card, as the page reports",
            seconds,
            each(|report| report.page.as_ref()?.delay_ms, 0.001),
        ),
        gauge(
            "participant_page_underruns",
            "Number of underruns of the page's player since the page was opened, as the page reports",
            None,
            each(|report| report.page.as_ref()?.underruns, 1.0),
        ),
    ]
}

fn codec_streams(all: &[ParticipantStatus]) -> Vec<(Labels, f64)> {
    by_codec(all, |report, codec| match codec {
        "pcm" => report.codecs.pcm.into(),
        "adpcm" => report.codecs.adpcm.into(),
        _ => report.codecs.opus.into(),
    })
}

fn sends(all: &[ParticipantStatus]) -> Vec<(Labels, f64)> {
    let name = |codec: Codec| match codec {
        Codec::Pcm => "pcm",
        Codec::Adpcm => "adpcm",
        Codec::Opus { .. } => "opus",
    };
    by_codec(all, |report, codec| f64::from(report.up.is_some_and(|up| name(up) == codec)))
}

/// Calls `value` with each listener report and each codec name. Returns the results, each with the labels room, name and codec.
fn by_codec(all: &[ParticipantStatus], value: impl Fn(&ListenerReport, &str) -> f64) -> Vec<(Labels, f64)> {
    let reports = all.iter().filter_map(|one| Some((one, one.report.as_ref()?)));
    let of = |(one, report): (&ParticipantStatus, &ListenerReport)| {
        ["pcm", "adpcm", "opus"].map(|codec| {
            let mut labels = labels(&one.room, &one.name);
            labels.push(("codec", codec.to_owned()));
            (labels, value(report, codec))
        })
    };
    reports.flat_map(of).collect()
}

fn mixer(mixing: &Mixing) -> Vec<Family> {
    let each = |value: fn(&palabre_config::control::MixedParticipant) -> f64| -> Vec<(Labels, f64)> {
        mixing.participants.iter().map(|one| (labels(&one.room, &one.name), value(one))).collect()
    };
    let bound = |us: Option<u64>| us.map_or(f64::MAX, |us| us as f64 / 1e6);
    let buckets = mixing.late.iter().map(|&(us, count)| (bound(us), count)).collect();
    let late = Samples::Histogram { buckets, sum: mixing.late_us as f64 / 1e6 };
    let seconds = Some(Unit::Seconds);
    vec![
        Family {
            name: "mixer_tick_lateness",
            help: "Lateness of the mixer's 20 ms ticks",
            unit: seconds.clone(),
            samples: late,
        },
        counter(
            "mixer_skipped_ticks",
            "Number of ticks that the mixer skipped because it was not scheduled",
            None,
            vec![(Vec::new(), mixing.skipped as f64)],
        ),
        counter(
            "participant_talk",
            "Time for which the participant has talked",
            seconds,
            each(|one| one.talked_ms as f64 / 1000.0),
        ),
        counter(
            "participant_ear_lost_frames",
            "Number of 20 ms frames for the participant that the mixer dropped because the listener didn't read them in time",
            None,
            each(|one| one.lost_frames as f64),
        ),
        counter(
            "participant_voice_underruns",
            "Number of underruns of the mixer's jitter buffer for the participant",
            None,
            each(|one| one.underruns as f64),
        ),
    ]
}

fn states(all: &[ParticipantStatus]) -> Vec<(Labels, f64)> {
    let of = |one: &ParticipantStatus, state: State| {
        let mut labels = labels(&one.room, &one.name);
        labels.push(("state", state.to_string().replace(' ', "-")));
        (labels, f64::from(one.state == state))
    };
    all.iter().flat_map(|one| State::ALL.map(|state| of(one, state))).collect()
}

fn labels(room: &str, name: &str) -> Labels {
    vec![("room", room.to_owned()), ("name", name.to_owned())]
}

fn gauge(name: &'static str, help: &'static str, unit: Option<Unit>, samples: Vec<(Labels, f64)>) -> Family {
    Family { name, help, unit, samples: Samples::Gauge(samples) }
}

fn counter(name: &'static str, help: &'static str, unit: Option<Unit>, samples: Vec<(Labels, f64)>) -> Family {
    Family { name, help, unit, samples: Samples::Counter(samples) }
}
