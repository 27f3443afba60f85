//! Participants of machines with real mixers: threads that say samples in real time, and that hear.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use palabre_room::{Format, PipeReader, PipeWriter, Start};

use super::{Site, name, wait_until};

/// Sample rate of the rooms, in Hz.
pub const RATE_HZ: u32 = 24_000;
/// Length of a burst, the sound that is written at once.
const BURST: Duration = Duration::from_millis(100);
const BURST_SAMPLES: usize = 2_400;
/// The test writes each tenth burst late by this time, so that the mixers' buffers come to hold this much sound. Then the mix doesn't change if each
/// thread through which the sound passes is late by up to [`HARMLESS`].
pub const LATE: Duration = Duration::from_millis(60);
/// Maximum time by which a thread may run late without a change of any mix, if bursts are late by [`LATE`].
pub const HARMLESS: Duration = Duration::from_millis(10);

/// The pipes of a simulated participant. A real mixer reads `mic` and writes `ear`.
pub struct Person {
    pub mic: PipeWriter,
    pub ear: PipeReader,
}

impl Person {
    pub fn join(site: &Site, who: &str) -> Self {
        let dir = site.room.participant(&name(who));
        dir.create().unwrap();
        let ear = PipeReader::open(&dir.ear(), Format::default(), Start::Discard).unwrap();
        let mic = wait_until("the mixer", || PipeWriter::open(&dir.mic(), Format::default()).ok());
        Self { mic, ear }
    }
}

/// The sample that a participant says at a place, counted from the first sample.
pub type Voice = Box<dyn Fn(usize) -> i16 + Send>;

/// A thread that runs until this value is dropped.
pub struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(run: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        Self { stop, thread: Some(std::thread::spawn(move || run(&stopped))) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Writes the sound of all voices in bursts. The talkers' clock runs at `faster` times the speed of the real clock; 1.0 is real time. Every tenth burst is late
/// by `late`. Errors of writing are ignored, for example after the mixer has ended.
pub fn talk(faster: f64, late: Duration, mut voices: Vec<(PipeWriter, Voice)>) -> Running {
    Running::start(move |stop| {
        let start = Instant::now();
        for burst in 0.. {
            let late = if burst % 10 == 5 { late } else { Duration::ZERO };
            let due = start + (BURST * burst).div_f64(faster) + late;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let from = burst as usize * BURST_SAMPLES;
            for (mic, voice) in &mut voices {
                let samples: Vec<i16> = (from..from + BURST_SAMPLES).map(voice).collect();
                let _ = mic.write(&samples);
            }
        }
    })
}

/// Reads the pipe `ear` in a thread, so that the pipe doesn't become full while the test waits for something else. `take` gets all samples in order.
pub fn listen<T: Send + 'static>(
    mut ear: PipeReader,
    heard: Arc<Mutex<T>>,
    take: impl Fn(&mut T, &[i16]) + Send + 'static,
) -> Running {
    Running::start(move |stop| {
        let mut samples = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            samples.clear();
            while ear.read(Instant::now(), &mut samples, 1 << 16).unwrap() > 0 {}
            take(&mut heard.lock().unwrap(), &samples);
            std::thread::sleep(Duration::from_millis(10));
        }
    })
}
