//! The load: opens all streams, lets the talkers talk, measures, and ends. One thread serves all connections without blocking.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use palabre_host::exit::Failure;
use rustls::ClientConfig;

use crate::continuity::Window;
use crate::ear::{Common, Ear, Format, STREAMS};
use crate::histogram::Histogram;
use crate::links::Link;
use crate::series::Interval;
use crate::spans::Span;
use crate::talker::Talker;
use crate::tones::Tones;
use crate::wire::Wire;

/// Interval between two rounds. All connections that became readable meanwhile are read in one round, which costs less than a wake-up for each.
const ROUND: Duration = Duration::from_millis(2);
/// Maximum number of streams that are opened in one round.
const OPEN_PER_ROUND: usize = 2;
/// Maximum number of streams that have not delivered their first record yet. No further stream is opened meanwhile.
const OPENING_MAX: usize = 32;
/// Minimum delay in ms before a participant's connection is opened again.
const RETRY_MS: f64 = 500.0;
/// Time in ms for which all participants must have heard sound before the measurement begins. The mixer's buffers adapt meanwhile.
/// [`SETTLE_EACH_MS`] is added for each participant.
const SETTLE_MS: f64 = 3_000.0;
/// Additional time in ms for each participant, see [`SETTLE_MS`]: the listeners of a large room read a long list of people while the streams open.
const SETTLE_EACH_MS: f64 = 5.0;
/// Timeout in ms until the measurement begins. [`START_EACH_MS`] is added for each participant.
const START_MS: f64 = 30_000.0;
/// Additional time in ms for each participant, see [`START_MS`].
const START_EACH_MS: f64 = 100.0;
/// Maximum time in ms to wait for late records after the end of the measurement.
const GRACE_MS: f64 = 2_000.0;
/// Interval in ms between two updates of the progress.
const PROGRESS_MS: f64 = 500.0;
/// Number of participants, counted from the last one, in whose streams every mix is checked and the talkers' delays are measured.
const METERS: usize = 3;
/// Maximum number of participants with whom the mix in every record is checked. With more participants, only a part of the records is checked,
/// so that the cost stays the same.
const CHECK_ALL: usize = 50;
/// Interval in ms between two searches for streams that must be opened, during the measurement.
const OPEN_INTERVAL_MS: f64 = 20.0;
/// Maximum number of events of one epoll_wait(2).
const EVENTS: usize = 512;
/// Size of the buffer for one read: larger than what a connection reads from the network at once.
const SCRATCH_BYTES: usize = 64 * 1024;
/// Number in an event's data for a talker's connection, instead of the number of a stream.
const TALKER: u64 = STREAMS as u64;
/// How many numbers each participant has in an event's data: one for each stream, and [`TALKER`].
const NUMBERS: u64 = TALKER + 1;

/// What the load does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    Opening,
    Settling,
    Measuring,
    Ending,
}

/// The progress, for another thread.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) phase: Phase,
    pub(crate) open: usize,
    pub(crate) elapsed_s: f64,
    pub(crate) missing: u64,
    pub(crate) wrong: u64,
    pub(crate) p99_ms: f64,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { phase: Phase::Opening, open: 0, elapsed_s: 0.0, missing: 0, wrong: 0, p99_ms: 0.0 }
    }
}

/// The figures of one participant.
pub(crate) struct Participant {
    pub(crate) name: String,
    pub(crate) missing: u64,
    pub(crate) gaps: u64,
    pub(crate) records: u64,
    pub(crate) checked: u64,
    pub(crate) wrong: u64,
    pub(crate) disturbed: u64,
    pub(crate) ended: u64,
    pub(crate) max_late_ms: f64,
    /// Time in ms from the participant's last record to the end of the measurement.
    pub(crate) silent_ms: f64,
    /// The faults. Their times are in ms from the beginning of the measurement.
    pub(crate) spans: Vec<Span>,
    /// The last error of the participant's connections.
    pub(crate) error: Option<String>,
}

/// The result of a measurement.
pub(crate) struct Outcome {
    pub(crate) format: Option<Format>,
    pub(crate) seconds: f64,
    pub(crate) participants: Vec<Participant>,
    /// Name and delays of each talker.
    pub(crate) talkers: Vec<(String, Histogram)>,
    pub(crate) lateness: Histogram,
    pub(crate) faults: BTreeMap<String, u64>,
    /// By how much later than planned the rounds of this program began.
    pub(crate) own_lateness: Histogram,
    /// Number of connections of talkers that ended.
    pub(crate) talkers_ended: u64,
    /// Wall-clock time at which the measurement began.
    pub(crate) began: SystemTime,
    pub(crate) intervals: Vec<Interval>,
}

pub(crate) struct Load<'a> {
    config: Arc<ClientConfig>,
    epoll: Epoll,
    began: Instant,
    ears: Vec<Ear>,
    talkers: Vec<Talker>,
    /// Index in `talkers` by index of the participant.
    voices: BTreeMap<usize, usize>,
    common: Common,
    own_lateness: Histogram,
    talkers_ended: u64,
    stop: &'a AtomicBool,
    progress: &'a Mutex<Progress>,
    reported_ms: f64,
    scratch: Vec<u8>,
}

impl<'a> Load<'a> {
    /// Returns a load in which the first `talkers` participants talk.
    pub(crate) fn new(
        links: Vec<Link>,
        talkers: usize,
        config: Arc<ClientConfig>,
        stop: &'a AtomicBool,
        progress: &'a Mutex<Progress>,
    ) -> Result<Self, Failure> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(Failure::system)?;
        let count = links.len();
        let stride = count.div_ceil(CHECK_ALL) as u64;
        let ear = |(index, link)| Ear::new(link, (index < talkers).then_some(index), index + METERS >= count);
        Ok(Self {
            config,
            epoll,
            began: Instant::now(),
            ears: links.into_iter().enumerate().map(ear).collect(),
            talkers: (0..talkers).map(|talker| Talker::new(talker, talker)).collect(),
            voices: (0..talkers).map(|talker| (talker, talker)).collect(),
            common: Common::new(talkers, stride),
            own_lateness: Histogram::new(),
            talkers_ended: 0,
            stop,
            progress,
            reported_ms: 0.0,
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    /// Opens all streams, and measures for `seconds`. Returns `None` if the caller stopped the load before the measurement.
    pub(crate) fn run(mut self, seconds: u32) -> Result<Option<Outcome>, Failure> {
        let mut retry_talkers_ms = vec![0.0; self.talkers.len()];
        let deadline_ms = START_MS + START_EACH_MS * self.ears.len() as f64;
        let (mut next, mut opened_ms) = (self.began + ROUND, 0.0);
        loop {
            let now_ms = self.now_ms();
            if self.common.window.is_none() || now_ms >= opened_ms + OPEN_INTERVAL_MS {
                opened_ms = now_ms;
                self.open_streams(now_ms);
            }
            self.talk(now_ms, &mut retry_talkers_ms);
            self.receive()?;
            let phase = self.phase(now_ms);
            if phase == Phase::Measuring && self.common.window.is_none() {
                let end_ms = now_ms + f64::from(seconds) * 1000.0;
                self.common.window = Some(Window { begin_ms: now_ms, end_ms });
                self.own_lateness = Histogram::new();
            }
            let report = now_ms - self.reported_ms > PROGRESS_MS;
            if report || self.stop.load(Ordering::Relaxed) {
                self.reported_ms = now_ms;
                self.report(phase, now_ms);
            }
            match &mut self.common.window {
                None if self.stop.load(Ordering::Relaxed) => return Ok(None),
                None if now_ms > deadline_ms => return Err(self.not_started()),
                Some(window) if self.stop.load(Ordering::Relaxed) => window.end_ms = window.end_ms.min(now_ms),
                _ => {}
            }
            if phase == Phase::Ending && self.is_complete(now_ms) {
                return Ok(Some(self.finish()));
            }
            next = self.sleep_until(next);
        }
    }

    fn now_ms(&self) -> f64 {
        self.began.elapsed().as_secs_f64() * 1000.0
    }

    /// Sleeps until the next round. Returns the time of the round after it.
    fn sleep_until(&mut self, next: Instant) -> Instant {
        let now = Instant::now();
        if next > now {
            thread::sleep(next - now);
        }
        let late = Instant::now().saturating_duration_since(next);
        self.own_lateness.add(late.as_secs_f64() * 1000.0);
        let next = next + ROUND;
        if late > ROUND { Instant::now() + ROUND } else { next }
    }

    /// Opens streams of participants who have none, and the second streams for planned restarts.
    fn open_streams(&mut self, now_ms: f64) {
        let opening = self.ears.iter().filter(|ear| !ear.is_closed() && !ear.is_open()).count();
        let mut budget = OPENING_MAX.saturating_sub(opening).min(OPEN_PER_ROUND);
        for (index, ear) in self.ears.iter_mut().enumerate() {
            if budget == 0 {
                break;
            }
            if !(ear.is_closed() && now_ms >= ear.retry_ms || ear.needs_second()) {
                continue;
            }
            budget -= 1;
            ear.retry_ms = now_ms + RETRY_MS;
            let opened = ear.open(&self.config).and_then(|opened| match opened {
                Some((number, wire)) => watch(&self.epoll, wire, index as u64 * NUMBERS + number as u64),
                None => Ok(()),
            });
            if let Err(error) = opened {
                ear.last_error = Some(format!("unable to connect: {error}"));
            }
        }
    }

    /// Connects talkers and lets them talk. The tones begin when all streams are open.
    fn talk(&mut self, now_ms: f64, retry_ms: &mut [f64]) {
        if self.common.tones.is_none() && self.ears.iter().all(Ear::is_open) {
            let rate_hz = self.common.format.map_or(0, |format| format.rate_hz);
            self.common.tones = Some(Tones::new(rate_hz, self.talkers.len()));
            self.common.tones_began_ms = now_ms;
        }
        let Some(tones) = &self.common.tones else { return };
        let voice_ms = now_ms - self.common.tones_began_ms;
        for (talker, retry_ms) in self.talkers.iter_mut().zip(retry_ms) {
            let participant = talker.participant;
            let result = match talker.wire() {
                Some(_) => talker.send(tones, voice_ms),
                None if now_ms < *retry_ms => Ok(()),
                None => {
                    *retry_ms = now_ms + RETRY_MS;
                    let connected = talker.connect(&self.config, &self.ears[participant].link, tones, voice_ms);
                    let token = participant as u64 * NUMBERS + TALKER;
                    connected.and_then(|()| talker.wire().map_or(Ok(()), |wire| watch(&self.epoll, wire, token)))
                }
            };
            if let Err(error) = result {
                talker.close();
                self.talkers_ended += u64::from(self.common.window.is_some());
                self.ears[participant].last_error = Some(format!("unable to send sound: {error}"));
            }
        }
    }

    /// Reads from all connections that are readable.
    fn receive(&mut self) -> Result<(), Failure> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Err(Errno::EINTR) => 0,
            result => result.map_err(Failure::system)?,
        };
        for event in &events[..count] {
            let (index, number) = ((event.data() / NUMBERS) as usize, event.data() % NUMBERS);
            let now_ms = self.now_ms();
            let is_inside = self.common.window.is_some_and(|window| now_ms < window.end_ms);
            let ear = &mut self.ears[index];
            if number == TALKER {
                let Some(talker) = self.voices.get(&index).map(|&talker| &mut self.talkers[talker]) else { continue };
                if let Err(cause) = talker.read(&mut self.scratch) {
                    talker.close();
                    self.talkers_ended += u64::from(is_inside);
                    ear.last_error = Some(cause);
                }
            } else if let Err(cause) = ear.read(number as usize, &mut self.common, &mut self.scratch, now_ms) {
                // A stream that ended while another one is open was replaced in a planned restart.
                ear.ended += u64::from(is_inside && ear.is_closed());
                ear.last_error = Some(cause);
            }
        }
        Ok(())
    }

    /// Returns the number of tones that a participant hears.
    fn voices_of(&self, ear: &Ear) -> usize {
        self.talkers.len() - usize::from(ear.own.is_some())
    }

    fn phase(&self, now_ms: f64) -> Phase {
        match self.common.window {
            Some(window) if now_ms >= window.end_ms => return Phase::Ending,
            Some(_) => return Phase::Measuring,
            None => {}
        }
        if self.common.tones.is_none() {
            return Phase::Opening;
        }
        let settle_ms = SETTLE_MS + SETTLE_EACH_MS * self.ears.len() as f64;
        let settled = |since: Option<f64>| since.is_some_and(|since| now_ms >= since + settle_ms);
        let hears = |ear: &Ear| settled(ear.heard().first_sound_ms);
        let is_settled = settled(Some(self.common.tones_began_ms));
        match is_settled && self.ears.iter().all(|ear| self.voices_of(ear) == 0 || hears(ear)) {
            true => Phase::Measuring,
            false => Phase::Settling,
        }
    }

    fn is_complete(&mut self, now_ms: f64) -> bool {
        let Some(window) = self.common.window else { return false };
        let talkers = self.talkers.len();
        let mut hearing = self.ears.iter_mut().filter(|ear| talkers > usize::from(ear.own.is_some()));
        now_ms > window.end_ms + GRACE_MS || hearing.all(|ear| ear.continuity().is_complete(window))
    }

    fn report(&mut self, phase: Phase, now_ms: f64) {
        let elapsed_s = self.common.window.map_or(0.0, |window| (now_ms.min(window.end_ms) - window.begin_ms) / 1000.0);
        let (missing, wrong) = self.missing_and_wrong();
        if phase == Phase::Measuring && self.common.series.is_due(elapsed_s * 1000.0) {
            self.common.series.end(elapsed_s * 1000.0, missing, wrong);
        }
        let progress = Progress {
            phase,
            open: self.ears.iter().filter(|ear| ear.is_open()).count(),
            elapsed_s,
            missing,
            wrong,
            p99_ms: self.common.lateness.percentile_ms(99.0),
        };
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// Returns how many records are missing and how many mixes are wrong so far, for all participants together.
    fn missing_and_wrong(&self) -> (u64, u64) {
        let heard = || self.ears.iter().map(Ear::heard);
        let missing = heard().filter_map(|heard| Some(heard.continuity.as_ref()?.missing)).sum();
        (missing, heard().map(|heard| heard.wrong).sum())
    }

    fn not_started(&self) -> Failure {
        let lacks = |ear: &&Ear| !ear.is_open() || self.voices_of(ear) > 0 && ear.heard().first_sound_ms.is_none();
        let lacking: Vec<&Ear> = self.ears.iter().filter(lacks).collect();
        let first = lacking.first().map_or_else(String::new, |ear| {
            let cause = ear.last_error.as_deref().unwrap_or("no sound arrived");
            format!("; the first of these participants has the link '{}': {cause}", ear.link)
        });
        Failure::system(format!(
            "unable to begin the measurement: {} of {} participants have no stream with sound{first}",
            lacking.len(),
            self.ears.len()
        ))
    }

    fn finish(mut self) -> Outcome {
        let (now_ms, voices) = (self.now_ms(), self.talkers.len());
        let window = self.common.window.unwrap_or(Window { begin_ms: now_ms, end_ms: now_ms });
        let talkers = self.talkers.iter().map(|talker| self.ears[talker.participant].link.name.clone());
        let talkers = talkers.zip(std::mem::take(&mut self.common.delays)).collect();
        let participants = self.ears.iter_mut().map(|ear| {
            if voices > usize::from(ear.own.is_some()) {
                ear.continuity().finish(window);
            }
            let (missing, gaps) = (ear.continuity().missing, ear.continuity().gaps);
            let mut spans = ear.continuity().spans.take();
            for span in &mut spans {
                (span.begin_ms, span.end_ms) = (span.begin_ms - window.begin_ms, span.end_ms - window.begin_ms);
            }
            let heard = ear.heard();
            Participant {
                name: ear.link.name.clone(),
                missing,
                gaps,
                records: heard.records,
                checked: heard.checked,
                wrong: heard.wrong,
                disturbed: heard.disturbed,
                ended: ear.ended,
                max_late_ms: heard.max_late_ms,
                silent_ms: (window.end_ms - heard.last_record_ms).max(0.0),
                spans,
                error: ear.last_error.clone(),
            }
        });
        let participants: Vec<Participant> = participants.collect();
        let (missing, wrong) = participants.iter().fold((0, 0), |sum, one| (sum.0 + one.missing, sum.1 + one.wrong));
        self.common.series.end(window.end_ms - window.begin_ms, missing, wrong);
        let ago = Duration::from_secs_f64((now_ms - window.begin_ms).max(0.0) / 1000.0);
        Outcome {
            format: self.common.format,
            seconds: (window.end_ms - window.begin_ms) / 1000.0,
            participants,
            began: SystemTime::now() - ago,
            intervals: self.common.series.take(),
            talkers,
            lateness: self.common.lateness,
            faults: self.common.faults,
            own_lateness: self.own_lateness,
            talkers_ended: self.talkers_ended,
        }
    }
}

/// Makes `epoll` report when the connection is readable. The kernel removes a closed connection from `epoll`: epoll(7).
fn watch(epoll: &Epoll, wire: &Wire, token: u64) -> io::Result<()> {
    Ok(epoll.add(wire, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
}
