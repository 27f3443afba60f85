//! `palabre swarm`: many participants in one process, to find out how many a machine can serve.
//!
//! [`run`] starts a room as `palabre try` does, or uses given links. A thread (`load`) opens a stream for each participant, lets some of them
//! talk, and checks all that arrives. Meanwhile the main thread watches the room and prints the progress.

mod continuity;
mod delay;
mod ear;
mod histogram;
mod limits;
mod links;
mod load;
mod options;
mod records;
mod report;
mod series;
mod spans;
mod talker;
mod tones;
mod usage;
mod wire;

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use palabre_host::exit::Failure;
use palabre_host::priority;
use palabre_host::signals::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, Signals};
use palabre_trial::Room;
use rustls::ClientConfig;

pub use options::Options;

use links::Link;
use load::{Load, Outcome, Phase, Progress};
use report::Report;
use tones::Tones;
use usage::{Processes, Snapshot};

/// Number of participants if neither `--participants` nor `--links` is given.
const PARTICIPANTS: u16 = 100;
/// Maximum time to wait, after the end of all sound, until the mixer has written its counters.
const LAST_COUNTERS: Duration = Duration::from_millis(1_500);
/// Interval at which the main thread checks whether the load's thread has ended.
const POLL: Duration = Duration::from_millis(100);
/// Interval between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// Timeout for the start of all listeners of the swarm's own room. [`READY_EACH`] is added for each participant.
const READY: Duration = Duration::from_secs(30);
/// Additional time for the start of each listener of the swarm's own room.
const READY_EACH: Duration = Duration::from_millis(100);
/// Sample rate of the swarm's own room, in Hz: the default in palabre.toml.
const RATE_HZ: u32 = 24_000;

/// The runtime directory, the verbosity and the functions that the program `palabre` passes to [`run`].
pub struct Surroundings<'a> {
    /// Runtime directory of the room to which the links of `--links` lead.
    pub run: &'a Path,
    /// Number of options `-v`. From 1 on, all log lines of the daemons are shown.
    pub verbosity: u8,
    /// Returns program name and process id of each daemon of a runtime directory, except listeners.
    pub daemons: fn(&Path) -> Vec<(String, u32)>,
}

/// Runs the load and prints the report. The caller must have set up the log.
///
/// # Errors
/// Returns [`Failure::Refused`] if records were missing or mixes were wrong, or if the limits of the machine are too low.
pub fn run(options: &Options, surroundings: &Surroundings<'_>) -> Result<(), Failure> {
    // Read the links before handling signals: the file may be a named pipe without a writer, and then SIGINT must end the program.
    let given = options.links.as_deref().map(links::read).transpose()?;
    let mut signals = Signals::new(&[SIGINT, SIGTERM, SIGHUP, SIGCHLD]).map_err(Failure::system)?;
    let participants = participants(options, given.as_deref())?;
    limits::check(u64::from(participants), u64::from(options.talkers), given.is_none())?;
    let (mut room, links, certificate) = match given {
        Some(mut links) => {
            links.truncate(usize::from(participants));
            (None, links, options.certificate.clone())
        }
        None => match start_room(options, participants, surroundings.verbosity, &mut signals)? {
            Some((room, links)) => {
                let certificate = room.certificate().to_owned();
                (Some(room), links, Some(certificate))
            }
            None => return Err(interrupted()),
        },
    };
    let config = wire::trust(certificate.as_deref())?;
    let run = room.as_ref().map_or_else(|| surroundings.run.to_owned(), Room::run);
    let measured = measure(options, links, config, &run, surroundings, room.as_mut(), &mut signals);
    if let Some(room) = &room {
        room.silence();
    }
    let report = measured?.ok_or_else(interrupted)?;
    print_report(&report, options.json)?;
    verdict(&report)
}

fn interrupted() -> Failure {
    Failure::refused("unable to measure: a signal ended the program before the measurement began")
}

/// Checks the options, and returns the number of participants.
fn participants(options: &Options, given: Option<&[Link]>) -> Result<u16, Failure> {
    let links = given.map(|links| u16::try_from(links.len()).unwrap_or(u16::MAX));
    let participants = match (options.participants, links) {
        (Some(wanted), Some(links)) if wanted > links => {
            return Err(Failure::usage(format!(
                "unable to run {wanted} participants: the number of links in the file of --links is {links}; choose a lower --participants"
            )));
        }
        (Some(wanted), _) => wanted,
        (None, Some(links)) => links,
        (None, None) => PARTICIPANTS,
    };
    if options.talkers > participants {
        return Err(Failure::usage(format!(
            "--talkers is {}, but the number of participants is {participants}; choose a lower --talkers",
            options.talkers
        )));
    }
    if given.is_none() && usize::from(options.talkers) > Tones::max(RATE_HZ) {
        return Err(Failure::usage(format!("--talkers is at most {} at {RATE_HZ} Hz", Tones::max(RATE_HZ))));
    }
    Ok(participants)
}

/// Starts a room and waits until its listeners are ready. Returns `None` after a signal.
fn start_room(
    options: &Options,
    participants: u16,
    verbosity: u8,
    signals: &mut Signals,
) -> Result<Option<(Room, Vec<Link>)>, Failure> {
    let settings = options.chunk_ms.map_or(String::new(), |ms| format!("[stream]\nchunk-ms = {ms}\n"));
    eprintln!("palabre: starting a room with {participants} listeners");
    let mut room = Room::start(&palabre_trial::Options::for_swarm(participants), &settings, verbosity)?;
    let deadline = Instant::now() + READY + READY_EACH * u32::from(participants);
    while room.is_starting() {
        room.supervise();
        room.newly_ready();
        if Instant::now() > deadline {
            room.report_late();
            return Err(Failure::system("unable to start the room: some listeners are not ready; see the warnings"));
        }
        match signals.wait(Some(room.status_interval())).map_err(Failure::system)? {
            Some(SIGCHLD) | None => {}
            Some(_) => return Ok(None),
        }
    }
    let links = room.links().map(|(name, link)| Link::parse(name, link)).collect::<Result<_, _>>();
    let links =
        links.map_err(|cause| Failure::system(format!("unable to parse a participant's invitation link: {cause}")))?;
    Ok(Some((room, links)))
}

/// Runs the load in a thread. Returns `None` if a signal arrived before the measurement began.
fn measure(
    options: &Options,
    links: Vec<Link>,
    config: Arc<ClientConfig>,
    run: &Path,
    surroundings: &Surroundings<'_>,
    mut room: Option<&mut Room>,
    signals: &mut Signals,
) -> Result<Option<Report>, Failure> {
    let (stop, progress) = (AtomicBool::new(false), Mutex::new(Progress::new()));
    let total = links.len();
    let load = Load::new(links, usize::from(options.talkers), config, &stop, &progress)?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // The thread stands for programs of other machines, which don't wait for processors of this machine. So it gets a lower niceness.
            priority::prefer_this_thread();
            load.run(options.seconds)
        });
        let mut observer = Observer::new(run, surroundings.daemons);
        while !thread.is_finished() {
            if let Some(room) = &mut room {
                room.supervise();
            }
            observer.observe(&progress.lock().unwrap_or_else(PoisonError::into_inner).clone(), total, options.seconds);
            match signals.wait(Some(POLL)) {
                Ok(Some(SIGCHLD) | None) => {}
                Ok(Some(_)) | Err(_) => stop.store(true, Ordering::Relaxed),
            }
        }
        let outcome = thread
            .join()
            .map_err(|_| Failure::system("the thread that generates the load has panicked; this is a bug"))??;
        Ok(outcome.map(|outcome| observer.report(outcome)))
    })
}

/// Follows the load from the main thread.
struct Observer<'a> {
    run: &'a Path,
    daemons: fn(&Path) -> Vec<(String, u32)>,
    /// The processes that are measured. They are found before the measurement begins.
    processes: Option<Processes>,
    /// The processes at the beginning of the measurement.
    before: Option<Snapshot>,
    /// The processes at the end of the measurement.
    after: Option<Snapshot>,
    /// Phase and time of the last line of progress.
    printed: Option<(Phase, Instant)>,
}

impl<'a> Observer<'a> {
    fn new(run: &'a Path, daemons: fn(&Path) -> Vec<(String, u32)>) -> Self {
        Self { run, daemons, processes: None, before: None, after: None, printed: None }
    }

    fn observe(&mut self, progress: &Progress, total: usize, seconds: u32) {
        if progress.phase >= Phase::Settling {
            let processes = self.processes.get_or_insert_with(|| Processes::find(self.run, self.daemons));
            if progress.phase >= Phase::Measuring && self.before.is_none() {
                self.before = Some(Snapshot::take(self.run, processes));
            }
            if progress.phase == Phase::Ending && self.after.is_none() {
                self.after = Some(Snapshot::take(self.run, processes));
            }
        }
        let is_due = |(phase, at): (Phase, Instant)| phase != progress.phase || at.elapsed() >= PROGRESS;
        if self.printed.is_none_or(is_due) {
            self.printed = Some((progress.phase, Instant::now()));
            match progress.phase {
                Phase::Opening => eprintln!("palabre: {} of {total} streams are open", progress.open),
                Phase::Settling => eprintln!("palabre: all streams are open, and the talkers talk"),
                Phase::Measuring => eprintln!(
                    "palabre: {:.0} of {seconds} s: {} records missing, {} mixes wrong, lateness p99 {:.1} ms",
                    progress.elapsed_s, progress.missing, progress.wrong, progress.p99_ms
                ),
                Phase::Ending => {}
            }
        }
    }

    fn report(mut self, outcome: Outcome) -> Report {
        let processes = self.processes.take().unwrap_or_else(|| Processes::find(self.run, self.daemons));
        let mut after = self.after.unwrap_or_else(|| Snapshot::take(self.run, &processes));
        if after.mixing.is_some() {
            std::thread::sleep(LAST_COUNTERS);
            after.mixing = usage::mixing(self.run).or(after.mixing);
        }
        let before = self.before;
        let used = before.as_ref().map(|before| before.until(&after)).unwrap_or_default();
        Report { outcome, mixing: before.and_then(|before| before.mixing).zip(after.mixing), used }
    }
}

fn print_report(report: &Report, as_json: bool) -> Result<(), Failure> {
    let text = match as_json {
        true => serde_json::to_string_pretty(&report.json()).map_err(Failure::system)? + "\n",
        false => report.text(),
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::system(format!("unable to write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Returns an error if records were missing or mixes were wrong.
fn verdict(report: &Report) -> Result<(), Failure> {
    match (report.missing(), report.wrong()) {
        (0, 0) => Ok(()),
        (missing, wrong) => Err(Failure::refused(format!("records missing: {missing}, wrong mixes: {wrong}"))),
    }
}
