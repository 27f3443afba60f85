//! The two voices that keep a single person company in `palabre try`: a melody and an echo.
//!
//! They are participants like any other: a directory with two pipes each, paced by absolute deadlines, silent by sending
//! nothing. They have no page and no listener. Both step back as soon as two people listen, which they know from the
//! room directory alone: a person is there when somebody reads their ear.

mod echo;
mod outlet;
mod tune;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use palabre_host::wait;
use palabre_room::{Format, Levelling, Name, OpenError, ParticipantDir, PipeReader, PipeWriter, RoomDir, Start};

use crate::pace::Pace;
use echo::Echo;
use outlet::Outlet;
use tune::Tune;

/// How often we look who is there, and how long a silent voice sleeps.
const IDLE: Duration = Duration::from_millis(200);
/// Between two tries to open a pipe.
const RETRY: Duration = Duration::from_secs(1);
/// The most the echo takes from its ear at once, in ms.
const MOST_HEARD_MS: u64 = 400;

/// The voices while they are in the room; dropping this sends them away.
pub struct Voices {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    directories: Vec<ParticipantDir>,
}

/// What the threads know of each other.
struct Shared {
    over: AtomicBool,
    /// How many people listen.
    people: AtomicUsize,
}

impl Shared {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn people(&self) -> usize {
        self.people.load(Ordering::Relaxed)
    }
}

/// Names that a participant of the same room can't have.
pub const NAMES: [&str; 2] = ["melody", "echo"];

impl Voices {
    /// Brings both voices into `room`, to keep company to `people`.
    ///
    /// # Errors
    /// Their directories can't be made, or no thread can be started.
    pub fn start(room: &RoomDir, people: Vec<Name>) -> anyhow::Result<Self> {
        let format = room.format()?;
        let [melody, echo] = [voice(room, NAMES[0])?, voice(room, NAMES[1])?];
        echo.1.set_without(&[melody.0])?;
        let (melody, echo) = (melody.1, echo.1);
        let shared = Arc::new(Shared { over: AtomicBool::new(false), people: AtomicUsize::new(0) });
        let mut voices = Self { shared, threads: Vec::new(), directories: vec![melody.clone(), echo.clone()] };
        let room = room.clone();
        voices.spawn("company", move |shared| watch_company(&room, format, &people, shared))?;
        voices.spawn("melody", move |shared| play_melody(&melody, format, shared))?;
        voices.spawn("echo", move |shared| answer(&echo, format, shared))?;
        Ok(voices)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce(&Shared) + Send + 'static) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(move || work(&shared))?);
        Ok(())
    }
}

impl Drop for Voices {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A voice that panicked has said so already.
            let _ = thread.join();
        }
        for directory in &self.directories {
            let _ = directory.remove();
        }
    }
}

fn voice(room: &RoomDir, name: &str) -> anyhow::Result<(Name, ParticipantDir)> {
    let name: Name = name.parse()?;
    let directory = room.participant(&name);
    directory.create()?;
    // Music is meant as it is, and the echo says again what was levelled.
    directory.set_levelling(Some(Levelling::Off))?;
    Ok((name, directory))
}

/// A person is there when somebody reads their ear: their listener does from its first stream until 2 s after the last.
fn watch_company(room: &RoomDir, format: Format, people: &[Name], shared: &Shared) {
    while !shared.is_over() {
        let is_there = |name: &&Name| PipeWriter::open(&room.participant(name).ear(), format).is_ok();
        shared.people.store(people.iter().filter(is_there).count(), Ordering::Relaxed);
        thread::sleep(IDLE);
    }
}

fn play_melody(directory: &ParticipantDir, format: Format, shared: &Shared) {
    let mut tune = Tune::new(format.rate.hz());
    let mut outlet = Outlet::new(directory.clone(), format);
    let mut pace = Pace::begin();
    let mut frame = Vec::with_capacity(format.frame_samples());
    while !shared.is_over() {
        tune.want(shared.people() == 1);
        if tune.is_silent() {
            thread::sleep(IDLE);
            pace = Pace::begin();
            continue;
        }
        tune.next_frame(format.frame_samples(), &mut frame);
        outlet.write(&frame);
        pace.wait_for_next_frame();
    }
}

fn answer(directory: &ParticipantDir, format: Format, shared: &Shared) {
    let mut echo = Echo::new(format.rate.hz());
    let mut outlet = Outlet::new(directory.clone(), format);
    let mut pace = Pace::begin();
    let began = Instant::now();
    let (mut heard, mut said) = (Vec::new(), Vec::new());
    while let Some(mut ear) = open_ear(directory, format, shared) {
        while !shared.is_over() {
            echo.step_back(began.elapsed(), shared.people() >= 2);
            match wait::is_readable(&ear, if echo.is_busy() { Duration::ZERO } else { IDLE }) {
                Ok(false) if !echo.is_busy() => {
                    pace = Pace::begin();
                    continue;
                }
                Ok(_) => {}
                Err(_) => break,
            }
            heard.clear();
            if ear.read(Instant::now(), &mut heard, format.samples_in_ms(MOST_HEARD_MS)).is_err() {
                break;
            }
            echo.hear(began.elapsed(), &heard);
            if echo.say(began.elapsed(), format.frame_samples(), &mut said) {
                outlet.write(&said);
            }
            pace.wait_for_next_frame();
        }
        thread::sleep(IDLE);
    }
}

/// `None` when it is over.
fn open_ear(directory: &ParticipantDir, format: Format, shared: &Shared) -> Option<PipeReader> {
    let mut last_try: Option<Instant> = None;
    while !shared.is_over() {
        if last_try.is_none_or(|last| last.elapsed() >= RETRY) {
            last_try = Some(Instant::now());
            match PipeReader::open(&directory.ear(), format, Start::Discard) {
                Ok(ear) => return Some(ear),
                Err(OpenError::Missing(_)) => drop(directory.create()),
                Err(error) => log::warn!("the echo can't hear: {error}"),
            }
        }
        thread::sleep(IDLE);
    }
    None
}
