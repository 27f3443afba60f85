//! The launcher's start and its main loop.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use palabre_host::exit::Failure;
use palabre_host::inherit::Inherited;
use palabre_host::packet::Packet;
use palabre_host::process::OurChild;
use palabre_host::signals::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, Signals};
use palabre_host::wait::Set;
use palabre_host::{executable, logging, notify, process, sandbox};
use palabre_launcher::{Directories, Given, MAX_MESSAGE_BYTES, Order, Report, Signal, Start, encode, parse};

use crate::cli::{Args, PROGRAM};
use crate::link;
use crate::renewal::{LINK, Renewal};

const LISTENER: &str = "palabre-listener";
/// Delay before reports are sent again to a supervisor that has too many unread reports.
const FULL_DELAY: Duration = Duration::from_millis(5);

/// Starts listeners until SIGTERM or SIGINT arrives, or until the supervisor has closed the connection. Then this process ends, and with it all
/// listeners: the kernel kills them.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    // Take the inherited connection before any descriptor is opened: `take` closes all other descriptors above 2.
    let mut inherited = Inherited::take();
    logging::init(PROGRAM, None, args.verbose);
    process::protect();
    // If an attacker controls a listener, orphans of the listener become children of this process, which reaps them.
    if let Err(error) = process::adopt_orphans() {
        log::warn!("unable to adopt orphaned processes: {error}");
    }
    process::share_with_the_group_only();
    sandbox::forbid_machine();
    let renewal = Renewal::new().map_err(Failure::system)?;
    let mut signals = Signals::new(&[SIGTERM, SIGINT, SIGHUP, SIGCHLD]).map_err(Failure::system)?;
    if let Err(error) = process::raise_nofile() {
        log::warn!("unable to raise the limit of open files: {error}");
    }
    let directories = directories(args)?;
    notify::ready();
    let link = match inherited.packet(LINK) {
        Some(link) => link,
        None => match link::connect(&directories.run, &mut signals, &renewal)? {
            Some(link) => link,
            None => return Ok(()),
        },
    };
    drop(inherited);
    log::info!("connected to the supervisor of '{}', to start its listeners", directories.run.display());
    Launcher::new(directories, renewal, signals, link).map_err(Failure::system)?.serve().map_err(Failure::system)
}

fn directories(args: &Args) -> Result<Directories, Failure> {
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map_err(|error| Failure::usage(format!("unable to make '{}' an absolute path: {error}", path.display())))
    };
    let listener = match &args.listener {
        Some(path) => absolute(path)?,
        None => executable::find(LISTENER).unwrap_or_else(|| LISTENER.into()),
    };
    Ok(Directories { listener, config: absolute(&args.config)?, run: absolute(&args.run)? })
}

struct Launcher {
    directories: Directories,
    renewal: Renewal,
    set: Set,
    signals: Signals,
    link: Packet,
    /// Reports that the supervisor has not received.
    unsent: VecDeque<Report>,
}

impl Launcher {
    fn new(directories: Directories, renewal: Renewal, signals: Signals, link: Packet) -> io::Result<Self> {
        let set = Set::new()?;
        set.add(&signals, 0)?;
        set.add(&link, 1)?;
        Ok(Self { directories, renewal, set, signals, link, unsent: VecDeque::new() })
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            // Reap before the first wait, too: a listener may have ended while this process replaced its program.
            while let Some((pid, status)) = process::reap_any()? {
                self.unsent.push_back(Report::Ended { pid, status: status.into_raw() });
            }
            self.send();
            self.set.wait((!self.unsent.is_empty()).then_some(FULL_DELAY))?;
            while let Some(signal) = self.signals.try_next() {
                match signal {
                    SIGTERM | SIGINT => return Ok(()),
                    SIGHUP => self.renewal.replace(Some(&self.link)),
                    _ => {}
                }
            }
            if !self.obey() {
                log::info!(
                    "the supervisor has closed the connection, so palabre-launcher ends, and with it all listeners"
                );
                return Ok(());
            }
        }
    }

    fn send(&mut self) {
        while let Some(report) = self.unsent.front() {
            match self.link.send(&encode(report)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // If the connection is closed, `obey` notices that.
                _ => drop(self.unsent.pop_front()),
            }
        }
    }

    /// Executes the supervisor's orders. Returns false if the connection is closed.
    fn obey(&mut self) -> bool {
        let mut buffer = [0; MAX_MESSAGE_BYTES];
        loop {
            match self.link.recv_with_all(&mut buffer) {
                Ok(Some((length, fds))) => match parse(buffer.get(..length).unwrap_or_default()) {
                    Ok(order) => self.execute(order, fds),
                    Err(error) => log::warn!(
                        "unable to understand an order of the supervisor: {error}; use programs of one release"
                    ),
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Ok(None) | Err(_) => return false,
            }
        }
    }

    fn execute(&mut self, order: Order, fds: Vec<OwnedFd>) {
        match order {
            Order::Start { number, name, entered } => {
                let report = match self.start(&name, entered, fds) {
                    Ok(pid) => Report::Started { number, pid },
                    Err(error) => Report::NotStarted { number, errno: error.raw_os_error(), why: error.to_string() },
                };
                self.unsent.push_back(report);
                self.send();
            }
            Order::Signal { pid, signal } => {
                // The process id isn't reused before this process has reaped the child.
                let sent = OurChild::adopt(pid).map(|child| send_signal(&child, signal));
                if let Some(Err(error)) = sent {
                    log::warn!("unable to send a signal to listener process {pid}: {error}");
                }
            }
        }
    }

    fn start(&self, name: &str, entered: Option<palabre_config::Entrance>, fds: Vec<OwnedFd>) -> io::Result<u32> {
        let name = name.parse().map_err(|error| io::Error::other(format!("{error}")))?;
        let given = Given::from_fds(fds).ok_or_else(|| io::Error::other("the descriptors for the listener are missing, because the limit of open files of palabre-launcher is reached; raise LimitNOFILE="))?;
        Start { name: &name, entered, given }.spawn(&self.directories).map(|child| child.id())
    }
}

fn send_signal(child: &OurChild, signal: Signal) -> io::Result<()> {
    match signal {
        Signal::Terminate => child.terminate(),
        Signal::Kill => child.kill(),
        Signal::HangUp => child.hang_up(),
        Signal::HandOver => child.hand_over(),
        Signal::Dismiss => child.dismiss(),
    }
}
