//! The mixer's event loop.

use std::io;
use std::time::Duration;

use palabre_host::exit::Failure;
use palabre_host::inherit::Inherited;
use palabre_host::program::Program;
use palabre_host::restart::Client;
use palabre_host::sandbox::Enforced;
use palabre_host::signals::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, Signals};
use palabre_host::{logging, notify, process};
use palabre_room::MIXER_SOCKET;
use palabre_sound::jitter::MARGIN_MIN;

use crate::cli::{Args, PROGRAM};
use crate::clock::Ticker;
use crate::context::Context;
use crate::counts::CountersFile;
use crate::poller::{Interest, Token};
use crate::restart::Restarts;
use crate::rooms::{Rooms, RoomsRemoved};
use crate::sandbox;
use crate::watcher::{Change, Event, Target};

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    // Take the inherited descriptors before the mixer opens any descriptor of its own.
    let mut inherited = Inherited::take();
    if let Some(parent) = args.parent_pid {
        process::die_with_parent(parent).map_err(Failure::system)?;
    }
    logging::init(PROGRAM, None, args.verbose);
    process::protect();
    process::share_with_the_group_only();
    let max_descriptors = process::raise_nofile().unwrap_or_else(|error| {
        log::warn!("unable to raise the limit of open files: {error}");
        u64::MAX
    });
    let program = Program::this()
        .map_err(|error| Failure::System(format!("unable to find the path of this program: {error}")))?;
    let mut daemon = Daemon::new(args, program, &mut inherited, max_descriptors)?;
    drop(inherited);
    notify::ready();
    daemon.restarts.serves();
    let ended = daemon.run();
    daemon.rooms.flush_ears(&mut daemon.cx);
    notify::stopping();
    ended
}

struct Daemon {
    cx: Context,
    rooms: Rooms,
    ticker: Ticker,
    signals: Signals,
    path: String,
    program: Program,
    restarts: Restarts,
    enforced: Enforced,
    wakeups: u64,
    counters: CountersFile,
}

impl Daemon {
    fn new(args: &Args, program: Program, inherited: &mut Inherited, max_descriptors: u64) -> Result<Self, Failure> {
        let system = |verb: &'static str| move |error: io::Error| Failure::System(format!("unable to {verb}: {error}"));
        let path = args.rooms.display().to_string();
        let mut cx = Context::new(args.files.clone(), max_descriptors).map_err(system("set up polling"))?;
        let signals = Signals::new(&[SIGTERM, SIGINT, SIGUSR1, SIGHUP]).map_err(system("receive signals"))?;
        // Open the restart socket after the signal handlers are installed, and before the mixer changes a room: opening the socket fails if
        // another mixer runs.
        let restarts = Restarts::open(&args.rooms, inherited)?;
        // Enter the sandbox after the restart socket is open: the sandbox forbids system calls that open the socket.
        let enforced = sandbox::enter(args, &program, inherited)?;
        let ticker = Ticker::new().map_err(|errno| system("create a timer")(errno.into()))?;
        let rooms = Rooms::open(args.rooms.clone(), &mut cx).map_err(|error| {
            let remedy = match error.kind() {
                io::ErrorKind::NotFound => "; make the directory, or give another one with --rooms",
                io::ErrorKind::PermissionDenied => "; make the directory readable by the mixer's user",
                io::ErrorKind::StorageFull => "; raise the limit fs.inotify.max_user_watches",
                _ => "",
            };
            Failure::System(format!("unable to watch '{path}': {error}{remedy}"))
        })?;
        let poll = || {
            restarts.watch(&cx.poller)?;
            cx.poller.add(&signals, Interest::Read, Token::Signals)?;
            cx.poller.add(ticker.timer(), Interest::Read, Token::Timer)?;
            cx.poller.add(cx.watcher.inotify(), Interest::Read, Token::Watcher)?;
            cx.poller.add(cx.file_writer.event(), Interest::Read, Token::FileWriter)
        };
        poll().map_err(system("set up polling"))?;
        let counters = CountersFile::new(args.rooms.clone(), enforced);
        Ok(Self { cx, rooms, ticker, signals, path, program, restarts, enforced, wakeups: 0, counters })
    }

    fn run(&mut self) -> Result<(), Failure> {
        let mut tokens = Vec::new();
        loop {
            let failed = |error: io::Error| Failure::System(format!("unable to wait for events: {error}"));
            self.ticker.arm().map_err(|errno| failed(errno.into()))?;
            self.cx.poller.wait(self.timeout(), &mut tokens).map_err(failed)?;
            self.wakeups += 1;
            self.cx.wake();
            for token in &tokens {
                if self.handle(*token)? == Next::End {
                    return Ok(());
                }
            }
            if !self.ticker.is_running() {
                self.rooms.catch_up(&mut self.cx);
            }
            self.tick();
        }
    }

    /// Returns the time until the next deadline. Returns `None` if there is none, or while the ticker runs, because the ticks then handle the deadlines.
    fn timeout(&self) -> Option<Duration> {
        let deadline = self.rooms.deadline(&self.cx).filter(|_| !self.ticker.is_running());
        deadline.map(|deadline| deadline.saturating_sub(self.cx.now.since_boot))
    }

    fn handle(&mut self, token: Token) -> Result<Next, Failure> {
        match token {
            Token::Mic(id) => self.rooms.read_mic(&mut self.cx, id),
            Token::Ear(id) => self.rooms.ear_lost_reader(id),
            Token::Watcher => self.read_events()?,
            Token::FileWriter => {
                for failure in self.cx.file_writer.failures() {
                    self.rooms.ear_failed(&mut self.cx, &failure);
                }
            }
            // Nothing to do: `tick` compares the timer's deadline with the clock after each wake-up.
            Token::Timer => {}
            Token::Restart => {
                if let Some(client) = self.restarts.request(&self.cx.poller) {
                    self.replace(Some(client));
                }
            }
            Token::Signals => {
                while let Some(signal) = self.signals.try_next() {
                    match signal {
                        SIGUSR1 => self.report(),
                        SIGHUP => self.replace(None),
                        _ => return Ok(Next::End),
                    }
                }
            }
        }
        Ok(Next::Go)
    }

    /// Executes the file at this program's path in this process. The next program opens the participants' pipes again; only the sound in
    /// the pipes is lost.
    fn replace(&mut self, client: Option<Client>) {
        let path = self.program.path().display();
        log::info!("replacing this process by '{path}'");
        self.rooms.flush_ears(&mut self.cx);
        let error = self.restarts.replace(&self.program, client.as_ref(), self.enforced);
        let why = format!("unable to execute '{path}': {error}; the mixer keeps the running program");
        log::error!("{why}");
        if let Some(client) = client {
            client.failed(&why);
        }
    }

    fn read_events(&mut self) -> Result<(), Failure> {
        let mut events = Vec::new();
        let read = self.cx.watcher.read(&mut events);
        read.map_err(|error| {
            Failure::System(format!(
                "unable to read the inotify events of '{}': {error}; start the mixer again",
                self.path
            ))
        })?;
        for event in events {
            if matches!(&event, Event::Entry { dir: Target::Rooms, change: Change::Removed, name, .. } if name == MIXER_SOCKET)
            {
                self.restarts.close();
            }
            self.rooms.handle(&mut self.cx, event).map_err(|RoomsRemoved| {
                Failure::System(format!(
                    "unable to watch '{}': the directory was removed or moved; create it again, then start the mixer",
                    self.path
                ))
            })?;
        }
        Ok(())
    }

    /// Runs the ticks that are due. The ticker runs only while a room is active.
    fn tick(&mut self) {
        let now = self.cx.now.since_boot;
        if self.rooms.is_active() {
            // Schedule the first tick for the time at which the first frame leaves the jitter buffer: after the minimum margin.
            self.ticker.start(now + MARGIN_MIN);
        }
        let mut ticked = false;
        while let Some(at) = self.ticker.due(now) {
            (self.cx.tick_at, self.cx.tick) = (at, self.cx.tick + 1);
            self.rooms.tick(&mut self.cx, at);
            self.counters.count_tick(now.saturating_sub(at));
            ticked = true;
        }
        if !self.rooms.is_active() {
            self.ticker.stop();
        }
        if ticked {
            let (skipped, is_last) = (self.ticker.skipped(), !self.rooms.is_active());
            self.counters.write(&mut self.cx, &self.rooms, skipped, is_last);
        }
    }

    fn report(&self) {
        let (mut lost_frames, mut stray_bytes, mut participants, mut resampled) = (0, 0, 0, 0);
        let (mut cut_ms, mut repeated_ms, mut underruns, mut depth_ms) = (0, 0, 0, 0);
        for room in self.rooms.iter() {
            let ms = |samples: u64| samples * 1000 / u64::from(room.format.rate.hz());
            for participant in room.participants() {
                let jitter = participant.jitter();
                let counters = jitter.counters();
                participants += 1;
                lost_frames += participant.ear().lost_frames();
                stray_bytes += participant.mic().stray_bytes();
                cut_ms += ms(counters.cut_samples);
                repeated_ms += ms(counters.repeated_samples);
                underruns += counters.underruns;
                resampled += u32::from(jitter.is_following());
                depth_ms = depth_ms.max(jitter.margin().as_millis());
            }
        }
        let (wakeups, ticks, skipped) = (self.wakeups, self.counters.ticks(), self.ticker.skipped());
        log::info!(
            "wakeups={wakeups} ticks={ticks} skipped_ticks={skipped} rooms={} participants={participants} \
             lost_frames={lost_frames} cut_ms={cut_ms} repeated_ms={repeated_ms} underruns={underruns} \
             depth_ms_max={depth_ms} resampled={resampled} stray_bytes={stray_bytes}",
            self.rooms.iter().count()
        );
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Go,
    End,
}

const _: () = assert!(MARGIN_MIN.as_millis() < Duration::from_millis(20).as_millis());
