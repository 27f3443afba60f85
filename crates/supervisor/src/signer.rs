//! The signer: one palabre-signer, which signs the TLS handshakes of all listeners. It is a child of the supervisor, unless a signer of
//! another user has connected to the supervisor.
//!
//! The supervisor keeps the signer's end of each listener's connection. If the signer ends, the next signer gets all of these ends. So no
//! connection is closed, and requests wait until the next signer reads them. A child ends when its connection to the supervisor is closed.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use palabre_config::control::SignerStatus;
use palabre_config::signing::{self, MAX_REPORT_BYTES, Order, SignerReport};
use palabre_host::backoff::BackOff;
use palabre_host::inherit::Inherited;
use palabre_host::packet::Packet;
use palabre_host::process::OurChild;
use palabre_host::stamp::FileStamp;
use palabre_host::{notify, sockets, wait};
use palabre_room::Name;

use crate::config::Config;
use crate::end::{End, RESTORED_LINK};
use crate::event::{self, Event};
use crate::process::Process;
use crate::saved::{self, SavedSigner};

/// Timeout for a signer of another user to connect before the supervisor starts a signer.
const OTHER_TIMEOUT: Duration = Duration::from_secs(3);
/// First and longest delay before the supervisor starts another signer.
const DELAYS: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(10)];
/// Minimum run time of a signer after which the delay begins again with the first one.
const HEALTHY: Duration = Duration::from_secs(5);
/// Timeout for the first report of a signer that is to replace another signer.
const NEXT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for a signer to end.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// Delay before further ends are passed on if the signer has too many unread orders.
const FULL_DELAY: Duration = Duration::from_millis(5);

/// The connection to a signer, and its process.
#[derive(Debug)]
struct Link {
    /// Number of the link, from 1 on.
    number: u64,
    socket: Packet,
    pid: u32,
    /// The signer's user, if it isn't a child of the supervisor.
    user: Option<String>,
    child: Option<OurChild>,
    /// Stamp of the program file when the child was started.
    program: Option<FileStamp>,
    since: Instant,
    report: Option<SignerReport>,
    /// Number of orders [`Order::Read`] and [`Order::Check`] sent over this link.
    orders: u64,
}

/// The signer and its replacements.
#[derive(Debug)]
pub(crate) struct Signer {
    current: Option<Link>,
    /// A child that replaces the current signer after its first report.
    next: Option<Link>,
    /// Children that were told to end, and the time at which to kill them.
    ending: Vec<(OurChild, Instant)>,
    last_number: u64,
    start_at: Option<Instant>,
    full_until: Option<Instant>,
    back_off: BackOff,
    /// Whether to wait for a signer of another user.
    awaits_other: bool,
    /// Why the last signer has ended or could not be started.
    failure: Option<String>,
    events: SyncSender<Event>,
}

impl Signer {
    /// Returns a signer that is started at the next tick. If `awaits_other`, it is started only if no signer of another user connects within
    /// [`OTHER_TIMEOUT`].
    pub(crate) fn new(awaits_other: bool, events: SyncSender<Event>, now: Instant) -> Self {
        Self {
            current: None,
            next: None,
            ending: Vec::new(),
            last_number: 0,
            start_at: Some(if awaits_other { now + OTHER_TIMEOUT } else { now }),
            full_until: None,
            back_off: BackOff::new(DELAYS[0], DELAYS[1]),
            awaits_other,
            failure: None,
            events,
        }
    }

    /// Takes over the signer of the supervisor's previous program.
    pub(crate) fn restore(&mut self, saved: Option<SavedSigner>, inherited: &mut Inherited, now: Instant) {
        let Some((saved, socket)) = saved.zip(inherited.packet(saved::SIGNER)) else { return };
        let child = if saved.user.is_none() { OurChild::adopt(saved.pid) } else { None };
        let orders = saved.orders;
        self.last_number = RESTORED_LINK;
        if self.follow(&socket, RESTORED_LINK) {
            let (pid, user, program, report) = (saved.pid, saved.user, saved.program, saved.report);
            let link = Link { number: RESTORED_LINK, socket, pid, user, child, program, since: now, report, orders };
            (self.current, self.start_at) = (Some(link), None);
        }
    }

    /// Returns the state for the supervisor's next program, and the connection to the signer.
    pub(crate) fn save(&self) -> Option<(SavedSigner, &Packet)> {
        let link = self.current.as_ref()?;
        let Link { pid, program, orders, .. } = *link;
        Some((SavedSigner { pid, user: link.user.clone(), program, orders, report: link.report.clone() }, &link.socket))
    }

    /// Returns whether no replacement of the signer is in progress, so that the supervisor's program can be replaced.
    pub(crate) fn is_idle(&self) -> bool {
        self.next.is_none() && self.ending.is_empty()
    }

    /// Uses a signer of another user that has connected.
    pub(crate) fn connected(&mut self, socket: Packet, pid: u32, user: String, now: Instant) {
        log::info!("palabre-signer of user '{user}' signs for the listeners as process {pid}");
        let number = self.next_number();
        if self.follow(&socket, number) {
            let link = Link { pid, user: Some(user), ..Link::new(number, socket, now) };
            self.end_next(now);
            self.replace_current(link, now);
        }
    }

    /// Handles a report of the signer with this link; `None` means that the link is closed.
    pub(crate) fn reported(&mut self, number: u64, report: Option<SignerReport>, now: Instant) {
        if let Some(mut next) = self.next.take_if(|next| next.number == number) {
            let Some(report) = report else { return self.end_link(next, now) };
            let is_better = report.fault.is_empty() || self.fault().is_some();
            next.report = Some(report);
            match is_better {
                true => self.replace_current(next, now),
                false => self.end_link(next, now),
            }
        } else if let Some(current) = self.current.as_mut().filter(|current| current.number == number) {
            match report {
                Some(report) => current.report = Some(report),
                None => self.lost(now),
            }
        }
    }

    /// Plans the start of another signer after the connection to the current one was closed.
    fn lost(&mut self, now: Instant) {
        let Some(lost) = self.current.take() else { return };
        if now.saturating_duration_since(lost.since) >= HEALTHY {
            self.back_off.reset();
        }
        self.awaits_other |= lost.user.is_some();
        let delay = if lost.user.is_some() { OTHER_TIMEOUT } else { self.back_off.delay() };
        log::error!(
            "palabre-signer (process {}) has ended; new connections wait for the next one, open connections go on",
            lost.pid
        );
        self.failure.get_or_insert_with(|| "it has ended".to_owned());
        self.start_at = Some(now + delay);
        self.end_link(lost, now);
    }

    /// Keeps the last status text of a child, which says why the child ends. Returns false if `pid` isn't a signer.
    pub(crate) fn notified(&mut self, pid: u32, status: Option<&String>) -> bool {
        let is_ours = self.current.iter().chain(&self.next).any(|link| link.pid == pid);
        if let Some(status) = status.filter(|_| is_ours) {
            self.failure = Some(status.clone());
        }
        is_ours
    }

    /// Reaps ended children after SIGCHLD. The supervisor detects the end of the current signer by the end of its connection.
    pub(crate) fn reap(&mut self) {
        self.ending.retain(|(child, _)| matches!(child.try_wait(), Ok(None)));
    }

    /// Does everything whose time has come: starts a signer, ends children after timeouts, and passes to the signer the ends that it doesn't have.
    pub(crate) fn tick<'a>(
        &mut self,
        config: &Config,
        listeners: impl Iterator<Item = (&'a Name, &'a mut Process)>,
        now: Instant,
    ) {
        if self.start_at.is_some_and(|at| at <= now) && self.current.is_none() {
            self.start_at = None;
            match self.start(config, now) {
                Ok(link) => self.current = Some(link),
                Err(error) => {
                    let why = format!("unable to start '{}': {error}", config.signer.display());
                    log::error!("{why}");
                    self.failure = Some(why);
                    self.start_at = Some(now + self.back_off.delay());
                }
            }
        }
        if self.next.as_ref().is_some_and(|next| next.since + NEXT_TIMEOUT <= now) {
            self.end_next(now);
        }
        for (child, kill_at) in &mut self.ending {
            if *kill_at <= now {
                let _ = child.kill();
                *kill_at = now + END_TIMEOUT;
            }
        }
        self.full_until.take_if(|until| *until <= now);
        if let (Some(link), None) = (&self.current, self.full_until) {
            let mut ends = listeners.filter_map(|(name, process)| Some((name, process.signer.as_mut()?)));
            let is_full = ends.any(|(name, end)| end.link != link.number && !link.pass_on(name, end));
            self.full_until = is_full.then_some(now + FULL_DELAY);
        }
    }

    /// Returns the time at which to call [`Self::tick`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let next = self.next.as_ref().map(|next| next.since + NEXT_TIMEOUT);
        let ending = self.ending.iter().map(|(_, kill_at)| *kill_at);
        self.start_at.into_iter().chain(self.full_until).chain(next).chain(ending).min()
    }

    /// If the signer is a child, starts another signer if the child runs an older program or can't use the certificate, for example because the
    /// child's sandbox doesn't permit the directory of the certificate.
    pub(crate) fn renew(&mut self, config: &Config, now: Instant) {
        let Some(current) = self.current.as_ref().filter(|current| current.user.is_none()) else { return };
        let is_old =
            current.program.is_some_and(|program| FileStamp::of(&config.signer).is_some_and(|new| new != program));
        if self.next.is_none() && (is_old || self.fault().is_some()) {
            match self.start(config, now) {
                Ok(next) => self.next = Some(next),
                Err(error) => log::error!("unable to start '{}': {error}", config.signer.display()),
            }
        }
    }

    /// Sends [`Order::Read`] or [`Order::Check`] to the signer. Returns the number of the order, or `None` if it can't be sent.
    pub(crate) fn order(&mut self, order: &Order) -> Option<u64> {
        let link = self.current.as_mut()?;
        link.socket.send(&signing::encode(order)).ok()?;
        link.orders += 1;
        Some(link.orders)
    }

    /// Returns whether the signer has executed the order with this number. Returns true if there is no signer, so that no request waits for one.
    pub(crate) fn has_done(&self, order: u64) -> bool {
        self.current.as_ref().is_none_or(|link| link.report.as_ref().is_some_and(|report| report.orders >= order))
    }

    /// Returns why the signer can't use the certificate with its key; `None` if it can, or while this is unknown.
    pub(crate) fn fault(&self) -> Option<&str> {
        let report = self.current.as_ref()?.report.as_ref()?;
        Some(report.fault.as_str()).filter(|fault| !fault.is_empty())
    }

    /// Returns the result of the last [`Order::Check`]: why the certificate can't be used with its key; `None` if it can.
    pub(crate) fn checked(&self) -> Option<String> {
        let report = self.current.as_ref()?.report.as_ref()?;
        Some(report.checked.clone()).filter(|fault| !fault.is_empty())
    }

    /// Returns the message for `palabre status` if no signer runs.
    pub(crate) fn alarm(&self) -> Option<String> {
        let why = self.failure.as_ref().filter(|_| self.current.is_none())?;
        Some(format!("no palabre-signer runs, so nobody can connect: {why}"))
    }

    /// Returns the status for `palabre status`.
    pub(crate) fn status(&self) -> Option<SignerStatus> {
        let link = self.current.as_ref()?;
        let report = link.report.clone().unwrap_or_default();
        Some(SignerStatus {
            pid: link.pid,
            user: link.user.clone(),
            signatures: report.signatures,
            refused: report.refused,
            sandbox: report.sandbox,
        })
    }

    /// Ends the children.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.start_at = None;
        self.end_next(now);
        if let Some(current) = self.current.take() {
            self.end_link(current, now);
        }
    }

    fn start(&mut self, config: &Config, now: Instant) -> io::Result<Link> {
        let (ours, theirs) = Packet::pair()?;
        let mut command = Command::new(&config.signer);
        command.arg("--config").arg(&config.directory).arg("--run").arg(&config.run);
        command.arg("--parent-pid").arg(std::process::id().to_string());
        command.stdin(Stdio::null()).process_group(0);
        notify::for_child(&mut command, &config.notify_socket());
        sockets::give_packet(&mut command, &theirs)?;
        let program = FileStamp::of(&config.signer);
        let child = OurChild::of(&command.spawn()?);
        let number = self.next_number();
        self.follow(&ours, number);
        log::debug!("started palabre-signer as process {}", child.id());
        Ok(Link { pid: child.id(), child: Some(child), program, ..Link::new(number, ours, now) })
    }

    fn replace_current(&mut self, link: Link, now: Instant) {
        let previous = self.current.replace(link);
        (self.start_at, self.failure, self.full_until) = (None, None, None);
        // The previous signer answers the request that it has read, and ends. The next tick passes the listeners' connections to the new signer.
        if let Some(previous) = previous {
            self.end_link(previous, now);
        }
    }

    fn end_next(&mut self, now: Instant) {
        if let Some(next) = self.next.take() {
            self.end_link(next, now);
        }
    }

    fn end_link(&mut self, link: Link, now: Instant) {
        link.socket.close();
        if let Some(child) = link.child {
            self.ending.push((child, now + END_TIMEOUT));
            self.reap();
        }
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Starts the thread that receives reports over a link and sends an event for each of them. Returns false if that fails.
    fn follow(&self, socket: &Packet, number: u64) -> bool {
        let events = self.events.clone();
        let reports = socket.try_clone().and_then(|socket| {
            event::named("signer", move || {
                while let Some(report) = next_report(&socket) {
                    if events.send(Event::SignerReport { link: number, report: Some(report) }).is_err() {
                        return;
                    }
                }
                let _ = events.send(Event::SignerReport { link: number, report: None });
            })
        });
        reports.inspect_err(|error| log::error!("unable to receive reports of palabre-signer: {error}")).is_ok()
    }
}

impl Link {
    fn new(number: u64, socket: Packet, now: Instant) -> Self {
        let (pid, user, child, program) = (0, None, None, None);
        Self { number, socket, pid, user, child, program, since: now, report: None, orders: 0 }
    }

    /// Passes the end of a listener's connection to the signer. Returns false if the signer has too many unread orders.
    fn pass_on(&self, name: &Name, end: &mut End) -> bool {
        let order = signing::encode(&Order::Serve { name: name.to_string() });
        match self.socket.send_with(&order, end.socket()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            // The event about the end of the link follows.
            Err(error) => log::debug!("unable to pass on the connection of '{name}' to palabre-signer: {error}"),
            Ok(()) => {}
        }
        end.link = self.number;
        true
    }
}

/// Waits for the next report. Returns `None` if the link is closed. A report that can't be parsed is ignored, so that programs of two releases work
/// together.
fn next_report(socket: &Packet) -> Option<SignerReport> {
    let (mut buffer, mut is_warned) = ([0; MAX_REPORT_BYTES], false);
    loop {
        wait::readable(&[socket.as_fd()], None).ok()?;
        match socket.recv(&mut buffer) {
            Ok(length) => match signing::parse(buffer.get(..length?).unwrap_or_default()) {
                Ok(report) => return Some(report),
                Err(error) if !std::mem::replace(&mut is_warned, true) => {
                    log::warn!("unable to understand a report of palabre-signer: {error}; use programs of one release");
                }
                Err(_) => {}
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn report_that_cannot_be_parsed_does_not_end_the_link() {
        let (ours, theirs) = Packet::pair().unwrap();
        let report = SignerReport { signatures: 7, ..SignerReport::default() };
        for message in [b"?".to_vec(), vec![0xff; 100], signing::encode(&report)] {
            theirs.send(&message).unwrap();
        }
        assert_eq!(next_report(&ours), Some(report));
        drop(theirs);
        assert_eq!(next_report(&ours), None);
    }
}
