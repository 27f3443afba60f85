//! The loop: wait, hear, tick, and nothing else.

use std::io;
use std::time::Duration;

use palabre_host::exit::Failure;
use palabre_host::program::Program;
use palabre_host::signals::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, Signals};
use palabre_host::{logging, notify, process};
use palabre_room::MIXER_POST;
use palabre_sound::jitter::MARGIN_MIN;

use crate::cli::{Args, PROGRAM};
use crate::clock::Ticker;
use crate::context::Context;
use crate::counts::Counts;
use crate::poller::{Interest, Token};
use crate::post::Post;
use crate::rooms::{Rooms, Vanished};
use crate::watcher::{Change, Place, What};

/// Runs until a signal ends it.
///
/// # Errors
/// [`Failure::System`] when the rooms can't be watched, or the kernel refuses what a daemon needs.
pub fn run(args: &Args) -> Result<(), Failure> {
    if let Some(parent) = args.parent_pid {
        process::die_with_parent(parent).map_err(Failure::system)?;
    }
    logging::init(PROGRAM, None, args.verbose);
    if let Err(error) = process::raise_nofile() {
        log::warn!("unable to raise the number of open files: {error}");
    }
    let program =
        Program::this().map_err(|error| Failure::System(format!("unable to find our own program: {error}")))?;
    let post = Post::take(&args.rooms)?;
    let mut daemon = Daemon::new(args, program, post)?;
    notify::ready();
    daemon.post.serves();
    let ended = daemon.run();
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
    post: Post,
    wakeups: u64,
    counts: Counts,
}

impl Daemon {
    fn new(args: &Args, program: Program, post: Post) -> Result<Self, Failure> {
        let system = |verb: &'static str| move |error: io::Error| Failure::System(format!("unable to {verb}: {error}"));
        let path = args.rooms.display().to_string();
        let mut cx = Context::new().map_err(system("set up polling"))?;
        let signals = Signals::new(&[SIGTERM, SIGINT, SIGUSR1, SIGHUP]).map_err(system("receive signals"))?;
        let ticker = Ticker::new().map_err(|errno| system("make a timer")(errno.into()))?;
        let rooms = Rooms::open(args.rooms.clone(), &mut cx).map_err(|error| {
            Failure::System(format!(
                "unable to watch '{path}': {error}; make the directory, or give another one with --rooms"
            ))
        })?;
        let poll = || {
            cx.poller.add(&signals, Interest::Read, Token::Signals)?;
            cx.poller.add(ticker.timer(), Interest::Read, Token::Timer)?;
            cx.poller.add(cx.watcher.inotify(), Interest::Read, Token::Watcher)
        };
        poll().map_err(system("set up polling"))?;
        let counts = Counts::new(args.rooms.clone());
        Ok(Self { cx, rooms, ticker, signals, path, program, post, wakeups: 0, counts })
    }

    fn run(&mut self) -> Result<(), Failure> {
        let mut tokens = Vec::new();
        loop {
            let failed = |error: io::Error| Failure::System(format!("unable to wait for sound: {error}"));
            self.ticker.arm().map_err(|errno| failed(errno.into()))?;
            let timeout = self.rooms.timeout(&self.cx);
            self.cx.poller.wait(timeout, &mut tokens).map_err(failed)?;
            self.wakeups += 1;
            self.cx.wake();
            for token in &tokens {
                if self.handle(*token)? == Next::End {
                    return Ok(());
                }
            }
            self.rooms.catch_up(&mut self.cx);
            self.tick();
        }
    }

    fn handle(&mut self, token: Token) -> Result<Next, Failure> {
        match token {
            Token::Mic(key) => self.rooms.hear(&mut self.cx, key),
            Token::Ear(key) => self.rooms.ear_left(key),
            Token::Watcher => self.look()?,
            // The clock decides below; setting the timer anew takes the event back.
            Token::Timer => {}
            Token::Signals => {
                while let Some(signal) = self.signals.try_next() {
                    match signal {
                        SIGUSR1 => self.report(),
                        SIGHUP => self.replace(),
                        _ => return Ok(Next::End),
                    }
                }
            }
        }
        Ok(Next::Go)
    }

    /// Becomes what is now at our path. Whoever reads and writes the pipes finds them again; only what is in them is lost.
    fn replace(&self) {
        let path = self.program.path().display();
        log::info!("replacing this process by '{path}'");
        let error = self.program.replace(&[]);
        let why = format!("unable to become '{path}': {error}; the mixer goes on as it was");
        log::error!("{why}");
        self.post.refuses(&why);
    }

    fn look(&mut self) -> Result<(), Failure> {
        let mut changes = Vec::new();
        let read = self.cx.watcher.read(&mut changes);
        read.map_err(|error| Failure::System(format!("unable to watch '{}': {error}", self.path)))?;
        for change in changes {
            if matches!(&change, Change::Entry { place: Place::Rooms, what: What::Left, name, .. } if name == MIXER_POST)
            {
                self.post.lose();
            }
            self.rooms.changed(&mut self.cx, change).map_err(|Vanished| {
                Failure::System(format!("unable to watch '{}': it was removed or moved; make it again", self.path))
            })?;
        }
        Ok(())
    }

    /// Ticks as often as is due, and only while somebody's sound flows.
    fn tick(&mut self) {
        let now = self.cx.now.since_boot;
        if self.rooms.is_active() {
            // The first frame of whoever wakes the room up waits exactly as long as it must.
            self.ticker.start(now + MARGIN_MIN);
        }
        let mut ticked = false;
        while let Some(at) = self.ticker.due(now) {
            self.cx.tick_at = at;
            self.rooms.tick(&mut self.cx, at);
            self.counts.tick(now.saturating_sub(at));
            ticked = true;
        }
        if !self.rooms.is_active() {
            self.ticker.stop();
        }
        if ticked {
            let (skipped, ends) = (self.ticker.skipped(), !self.rooms.is_active());
            self.counts.write(&mut self.cx, &self.rooms, skipped, ends);
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
        let (wakeups, ticks, skipped) = (self.wakeups, self.counts.ticks(), self.ticker.skipped());
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
