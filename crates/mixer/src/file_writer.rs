//! A thread that writes the ears that are files, so that a slow or full disk delays no tick.
//!
//! Each ear has a queue of limited length. The thread reports failures to the main thread and wakes it by an eventfd(2).

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;
use palabre_room::{FileId, Format, OpenError, RegularFile, Wrote};

use crate::clock::Clock;
use crate::ear_file::EarFile;
use crate::poller::ParticipantId;

/// Maximum number of frames in the queue of one ear: 5 s of sound.
const QUEUE_FRAMES: usize = 250;

/// Why an ear file could not be opened or written.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) participant: ParticipantId,
    pub(crate) file: FileId,
    pub(crate) error: io::Error,
}

/// The main thread's side of the file writer. It starts the writing thread when the first file is opened.
#[derive(Debug)]
pub(crate) struct FileWriter {
    clock: Clock,
    jobs: Option<Sender<Job>>,
    next_number: u64,
    failures: (Sender<Failure>, Receiver<Failure>),
    has_failures: Arc<EventFd>,
}

/// An open ear file, which the writing thread writes. Dropping this closes the file.
#[derive(Debug)]
pub(crate) struct QueuedEar {
    number: u64,
    file: FileId,
    jobs: Sender<Job>,
    queued: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Job {
    Open { number: u64, participant: ParticipantId, file: RegularFile, format: Format, queued: Arc<AtomicUsize> },
    Write { number: u64, at: Duration, frame: Vec<i16> },
    Close { number: u64 },
}

impl FileWriter {
    pub(crate) fn new(clock: Clock) -> nix::Result<Self> {
        let has_failures = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        Ok(Self { clock, jobs: None, next_number: 0, failures: channel(), has_failures })
    }

    /// Returns the eventfd to poll. It is readable when an ear file could not be opened or written.
    pub(crate) fn event(&self) -> &EventFd {
        &self.has_failures
    }

    /// Opens the file at `path`. The writing thread then appends to it. If the file is neither empty nor a WAV in the room's format, the
    /// thread reports a [`Failure`].
    pub(crate) fn open(
        &mut self,
        participant: ParticipantId,
        path: &Path,
        format: Format,
    ) -> Result<QueuedEar, OpenError> {
        let file = RegularFile::open_to_write(path)?;
        let jobs = self.jobs().map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let number = self.next_number;
        self.next_number += 1;
        let ear = QueuedEar { number, file: file.id(), jobs, queued: Arc::default() };
        ear.send(Job::Open { number, participant, file, format, queued: Arc::clone(&ear.queued) });
        Ok(ear)
    }

    /// Returns the failures since the last call.
    pub(crate) fn failures(&mut self) -> Vec<Failure> {
        let _ = self.has_failures.read();
        self.failures.1.try_iter().collect()
    }

    fn jobs(&mut self) -> io::Result<Sender<Job>> {
        if let Some(jobs) = &self.jobs {
            return Ok(jobs.clone());
        }
        let (send, jobs) = channel();
        let (failures, has_failures) = (self.failures.0.clone(), Arc::clone(&self.has_failures));
        let thread = Thread { clock: self.clock, ears: HashMap::new(), failures, has_failures };
        // A new thread inherits the signal mask. Block all signals in it, so that only the main thread receives them.
        let mask = SigSet::all().thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
        let started = thread::Builder::new().name("file-writer".into()).spawn(move || thread.run(&jobs));
        mask.thread_set_mask()?;
        started?;
        Ok(self.jobs.insert(send).clone())
    }
}

impl QueuedEar {
    /// Returns the device and inode number of the file.
    pub(crate) fn id(&self) -> FileId {
        self.file
    }

    /// Queues a frame, or drops it if the queue is full. `at` is the time of its tick.
    pub(crate) fn write(&self, frame: &[i16], at: Duration) -> Wrote {
        if self.queued.load(Ordering::Relaxed) >= QUEUE_FRAMES {
            return Wrote::Slow;
        }
        self.queued.fetch_add(1, Ordering::Relaxed);
        self.send(Job::Write { number: self.number, at, frame: frame.to_vec() });
        Wrote::Whole
    }

    fn send(&self, job: Job) {
        // This can't fail: the writing thread runs until the process ends.
        let _ = self.jobs.send(job);
    }
}

impl Drop for QueuedEar {
    fn drop(&mut self) {
        self.send(Job::Close { number: self.number });
    }
}

/// The state of the writing thread: the open ear files.
struct Thread {
    clock: Clock,
    ears: HashMap<u64, OpenEar>,
    failures: Sender<Failure>,
    has_failures: Arc<EventFd>,
}

struct OpenEar {
    participant: ParticipantId,
    file: FileId,
    ear: EarFile,
    queued: Arc<AtomicUsize>,
}

impl Thread {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let deadline = self.ears.values().map(|open| open.ear.deadline()).min();
            let job = match deadline {
                Some(deadline) => jobs.recv_timeout(deadline.saturating_sub(self.clock.now().since_boot)),
                None => jobs.recv().map_err(RecvTimeoutError::from),
            };
            match job {
                Ok(job) => self.handle(job),
                Err(RecvTimeoutError::Timeout) => self.update(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn handle(&mut self, job: Job) {
        match job {
            Job::Open { number, participant, file, format, queued } => {
                let id = file.id();
                match EarFile::open(file, format, self.clock.now().since_boot) {
                    Ok(ear) => drop(self.ears.insert(number, OpenEar { participant, file: id, ear, queued })),
                    Err(error) => self.report(Failure { participant, file: id, error }),
                }
            }
            Job::Write { number, at, frame } => {
                // The file was closed after a failure: drop the frames that were queued before.
                let Some(open) = self.ears.get_mut(&number) else { return };
                open.queued.fetch_sub(1, Ordering::Relaxed);
                let written = open.ear.write(&frame, at);
                self.close_after_failure(number, written);
            }
            Job::Close { number } => {
                // An error is ignored here: if the last update of the header fails, the header counts fewer samples than the file has.
                let _ = self.ears.remove(&number).map(|open| open.ear.close());
            }
        }
    }

    fn update(&mut self) {
        let now = self.clock.now().since_boot;
        let updated: Vec<_> = self.ears.iter_mut().map(|(number, open)| (*number, open.ear.update(now))).collect();
        updated.into_iter().for_each(|(number, updated)| self.close_after_failure(number, updated));
    }

    fn close_after_failure(&mut self, number: u64, written: io::Result<()>) {
        let Err(error) = written else { return };
        let Some(open) = self.ears.remove(&number) else { return };
        // Try to update the header, so that the samples written so far remain usable.
        let _ = open.ear.close();
        self.report(Failure { participant: open.participant, file: open.file, error });
    }

    fn report(&self, failure: Failure) {
        let _ = self.failures.send(failure);
        let _ = self.has_failures.write(1);
    }
}
