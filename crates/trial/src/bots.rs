//! The bots of `palabre try`: a melody and an echo, for a room in which only one participant listens.
//!
//! Each bot has a participant's directory with two pipes, but no page and no listener. A thread writes frames in real time, and writes
//! nothing during silence. Both bots are silent while two or more participants listen.

mod echo;
mod melody;
mod mic_writer;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use palabre_host::pace::Pace;
use palabre_host::wait;
use palabre_room::{
    FRAME_MS, Format, Levelling, Name, OpenError, ParticipantDir, PersonalGain, PipeReader, PipeWriter, RoomDir, Start,
};

use echo::Echo;
use melody::Melody;
use mic_writer::MicWriter;

/// Interval between checks of how many participants listen. A silent bot also sleeps for this time.
const IDLE: Duration = Duration::from_millis(200);
/// Interval between attempts to open the `ear` pipe of the echo.
const RETRY: Duration = Duration::from_secs(1);
/// Maximum sound that the echo reads from its ear at once, in ms.
const MAX_READ_MS: u64 = 400;
const FRAME: Duration = Duration::from_millis(FRAME_MS);

/// The running bots. Dropping this stops their threads and removes them from the room.
pub(crate) struct Bots {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    directories: Vec<ParticipantDir>,
}

/// State that the threads of all bots share.
struct Shared {
    stopping: AtomicBool,
    /// Number of participants whose `ear` is being read.
    listening: AtomicUsize,
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn listening(&self) -> usize {
        self.listening.load(Ordering::Relaxed)
    }
}

impl Bots {
    /// Adds both bots to `room` and starts their threads. `participants` are the participants to count as listening.
    pub(crate) fn start(room: &RoomDir, participants: Vec<Name>) -> anyhow::Result<Self> {
        let format = room.format()?;
        let melody_name: Name = "melody".parse()?;
        let melody = add(room, &melody_name)?;
        let echo = add(room, &"echo".parse()?)?;
        echo.set_gains(&[PersonalGain::mute(melody_name)])?;
        let shared = Arc::new(Shared { stopping: AtomicBool::new(false), listening: AtomicUsize::new(0) });
        let mut bots = Self { shared, threads: Vec::new(), directories: vec![melody.clone(), echo.clone()] };
        let room = room.clone();
        bots.spawn("presence", move |shared| count_listening(&room, format, &participants, shared))?;
        bots.spawn("melody", move |shared| play_melody(&melody, format, shared))?;
        bots.spawn("echo", move |shared| run_echo(&echo, format, shared))?;
        Ok(bots)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce(&Shared) + Send + 'static) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(move || work(&shared))?);
        Ok(())
    }
}

impl Drop for Bots {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // An error means that the thread panicked, and the panic was printed already.
            let _ = thread.join();
        }
        for directory in &self.directories {
            let _ = directory.remove();
        }
    }
}

fn add(room: &RoomDir, name: &Name) -> anyhow::Result<ParticipantDir> {
    let directory = room.participant(name);
    directory.create()?;
    // Neither bot needs levelling: the melody is soft on purpose, and the echo repeats speech that is levelled already.
    directory.set_levelling(Some(Levelling::Off))?;
    Ok(directory)
}

/// Counts the `ear` pipes that are being read, until the bots stop. A listener reads the `ear` from its first stream until 2 s after its
/// last stream.
fn count_listening(room: &RoomDir, format: Format, participants: &[Name], shared: &Shared) {
    while !shared.is_stopping() {
        let listens = |name: &&Name| PipeWriter::open(&room.participant(name).ear(), format).is_ok();
        shared.listening.store(participants.iter().filter(listens).count(), Ordering::Relaxed);
        thread::sleep(IDLE);
    }
}

fn play_melody(directory: &ParticipantDir, format: Format, shared: &Shared) {
    let mut melody = Melody::new(format.rate.hz());
    let mut mic = MicWriter::new(directory.clone(), format);
    let mut pace = Pace::new(FRAME);
    let mut frame = Vec::with_capacity(format.frame_samples());
    while !shared.is_stopping() {
        melody.set_playing(shared.listening() == 1);
        if melody.is_silent() {
            thread::sleep(IDLE);
            pace.restart();
            continue;
        }
        melody.next_frame(format.frame_samples(), &mut frame);
        mic.write(&frame);
        pace.wait();
    }
}

fn run_echo(directory: &ParticipantDir, format: Format, shared: &Shared) {
    let mut echo = Echo::new(format.rate.hz());
    let mut mic = MicWriter::new(directory.clone(), format);
    let mut pace = Pace::new(FRAME);
    let began = Instant::now();
    let (mut heard, mut frame) = (Vec::new(), Vec::new());
    while let Some(mut ear) = open_ear(directory, format, shared) {
        while !shared.is_stopping() {
            echo.set_muted(began.elapsed(), shared.listening() >= 2);
            match wait::is_readable(&ear, if echo.is_busy() { Duration::ZERO } else { IDLE }) {
                Ok(false) if !echo.is_busy() => {
                    pace.restart();
                    continue;
                }
                Ok(_) => {}
                Err(_) => break,
            }
            heard.clear();
            if ear.read(Instant::now(), &mut heard, format.samples_in_ms(MAX_READ_MS)).is_err() {
                break;
            }
            echo.hear(began.elapsed(), &heard);
            if echo.next_frame(began.elapsed(), format.frame_samples(), &mut frame) {
                mic.write(&frame);
            }
            pace.wait();
        }
        thread::sleep(IDLE);
    }
}

/// Opens the `ear` pipe of the echo, and retries until this succeeds. Returns `None` when the bots are stopping.
fn open_ear(directory: &ParticipantDir, format: Format, shared: &Shared) -> Option<PipeReader> {
    let mut last_try: Option<Instant> = None;
    while !shared.is_stopping() {
        if last_try.is_none_or(|last| last.elapsed() >= RETRY) {
            last_try = Some(Instant::now());
            match PipeReader::open(&directory.ear(), format, Start::Discard) {
                Ok(ear) => return Some(ear),
                Err(OpenError::Missing(_)) => drop(directory.create()),
                Err(error) => log::warn!("{error}; the echo bot is silent until its pipe 'ear' can be opened"),
            }
        }
        thread::sleep(IDLE);
    }
    None
}
