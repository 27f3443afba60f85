//! The signer: one palabre-signer, which signs the TLS handshakes of all listeners. It is a child of the supervisor, unless a signer of
//! another user has connected to the supervisor.
//!
//! The supervisor keeps the signer's end of each listener's connection. If the signer ends, the next signer gets all of these ends. So no
//! connection is closed, and requests wait until the next signer reads them. A child ends when its connection to the supervisor is closed.

mod link;

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use palabre_config::control::SignerStatus;
use palabre_config::signing::{Order, SignerReport};
use palabre_host::backoff::BackOff;
use palabre_host::inherit::Inherited;
use palabre_host::packet::Packet;
use palabre_host::process::OurChild;
use palabre_host::stamp::FileStamp;
use palabre_host::{notify, sockets};
use palabre_room::Name;

use crate::config::Config;
use crate::end::RESTORED_LINK;
use crate::event::Event;
use crate::process::Process;
use crate::saved::{self, SavedSigner};
use link::{ANSWER_TIMEOUT, Link};

/// Timeout for a signer of another user to connect before the supervisor starts a signer.
const OTHER_TIMEOUT: Duration = Duration::from_secs(3);
/// First and longest delay before the supervisor starts another signer.
const DELAYS: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(10)];
/// Minimum run time of a signer after which the delay begins again with the first one.
const HEALTHY: Duration = Duration::from_secs(5);
/// Timeout for a signer to end.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// Delay before the supervisor passes on more connections of listeners to a signer that has too many unread orders.
const FULL_DELAY: Duration = Duration::from_millis(5);

/// An order that was sent to a signer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// Number of the link.
    link: u64,
    /// Number of the order on this link.
    order: u64,
}

/// Why no signer runs.
#[derive(Debug)]
struct Failure {
    /// Process ID of the signer that has ended; `None` if none could be started.
    pid: Option<u32>,
    why: String,
}

/// The signer and its replacements.
#[derive(Debug)]
pub(crate) struct Signer {
    current: Option<Link>,
    /// A child that replaces the current signer after its first report.
    next: Option<Link>,
    /// Whether to start `next`.
    wants_next: bool,
    /// Children that were told to end, and the time at which to kill them.
    ending: Vec<(OurChild, Instant)>,
    last_number: u64,
    start_at: Option<Instant>,
    full_until: Option<Instant>,
    back_off: BackOff,
    failure: Option<Failure>,
    events: SyncSender<Event>,
}

impl Signer {
    /// Returns a signer that is started at the next tick. If `awaits_other`, it is started only if no signer of another user connects within
    /// [`OTHER_TIMEOUT`].
    pub(crate) fn new(awaits_other: bool, events: SyncSender<Event>, now: Instant) -> Self {
        Self {
            current: None,
            next: None,
            wants_next: false,
            ending: Vec::new(),
            last_number: 0,
            start_at: Some(if awaits_other { now + OTHER_TIMEOUT } else { now }),
            full_until: None,
            back_off: BackOff::new(DELAYS[0], DELAYS[1]),
            failure: None,
            events,
        }
    }

    /// Takes over the signer of the supervisor's previous program, and makes it read the files that `palabre.toml` names now.
    pub(crate) fn restore(&mut self, saved: Option<SavedSigner>, inherited: &mut Inherited, now: Instant) {
        // Set this also if there is no signer to restore: the restored ends have this number. The next signer gets a higher number, so the supervisor
        // passes these ends to it.
        self.last_number = RESTORED_LINK;
        let Some((saved, socket)) = saved.zip(inherited.packet(saved::SIGNER)) else { return };
        let child = if saved.user.is_none() { OurChild::adopt(saved.pid) } else { None };
        let (user, program, report, orders) = (saved.user, saved.program, saved.report, saved.orders);
        let mut link = Link::new(RESTORED_LINK, socket, saved.pid, now);
        (link.user, link.child, link.program, link.report, link.orders) = (user, child, program, report, orders);
        self.use_link(link, now);
    }

    /// Returns the state for the supervisor's next program, and the connection to the signer.
    pub(crate) fn save(&self) -> Option<(SavedSigner, &Packet)> {
        let link = self.current.as_ref()?;
        let Link { pid, program, orders, .. } = *link;
        Some((SavedSigner { pid, user: link.user.clone(), program, orders, report: link.report.clone() }, &link.socket))
    }

    /// Returns whether no replacement of the signer is in progress, so that the supervisor's program can be replaced.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_being_replaced() && self.ending.is_empty()
    }

    /// Returns why a process can't become the signer: another process, which the supervisor has not started, signs already.
    pub(crate) fn refusal(&self) -> Option<String> {
        let Link { pid, user, .. } = self.current.as_ref()?;
        let user = user.as_ref()?;
        Some(format!("palabre-signer already runs as process {pid} of user '{user}'; end one of the two signers"))
    }

    /// Uses a signer of another user that has connected.
    pub(crate) fn connected(&mut self, socket: Packet, pid: u32, user: String, now: Instant) {
        log::info!("palabre-signer of user '{user}' has connected as process {pid}");
        let mut link = Link::new(self.next_number(), socket, pid, now);
        link.user = Some(user);
        self.end_next(now);
        self.use_link(link, now);
    }

    /// Follows the reports of a running signer, and uses it. The signer may have read `palabre.toml` long ago, so it reads the file again.
    fn use_link(&mut self, link: Link, now: Instant) {
        match link.follow(self.events.clone()) {
            Ok(()) => {
                self.replace_current(link, now);
                let _ = self.order(&Order::Read, now);
            }
            Err(error) => {
                log::error!("unable to receive reports of palabre-signer, so this signer is not used: {error}");
                self.end_link(link, now);
            }
        }
    }

    /// Handles a report of the signer with this link; `None` means that the link is closed.
    pub(crate) fn reported(&mut self, number: u64, report: Option<SignerReport>, now: Instant) {
        if let Some(next) = self.next.take_if(|next| next.number == number) {
            self.next_reported(next, report, now);
        } else if let Some(current) = self.current.as_mut().filter(|current| current.number == number) {
            let Some(report) = report else { return self.lost(now) };
            // Start another child if this child can't use the files, for example because its sandbox doesn't permit their directory.
            let has_refused = current.reported(report, now) && current.fault().is_some();
            self.wants_next |= has_refused && current.user.is_none();
            self.failure = None;
        }
    }

    /// Uses the next signer, unless it can't use the certificate and the current signer still has the previous certificate.
    fn next_reported(&mut self, mut next: Link, report: Option<SignerReport>, now: Instant) {
        let Some(report) = report else {
            let why = next.last_words.clone().unwrap_or_else(|| "it has ended".to_owned());
            return self.refuse_next(next, &why, now);
        };
        let has_previous = |link: &Link| link.report.as_ref().is_some_and(|report| report.has_certificate);
        match report.has_certificate || !self.current.as_ref().is_some_and(has_previous) {
            true => {
                next.reported(report, now);
                self.replace_current(next, now);
            }
            false => self.refuse_next(next, &report.fault, now),
        }
    }

    /// Plans the start of another signer after the connection to the current one was closed.
    fn lost(&mut self, now: Instant) {
        let Some(lost) = self.current.take() else { return };
        if now.saturating_duration_since(lost.since) >= HEALTHY {
            self.back_off.reset();
        }
        let delay = if lost.user.is_some() { OTHER_TIMEOUT } else { self.back_off.delay() };
        log::error!(
            "palabre-signer (process {}) has ended; new connections wait for the next one, open connections go on",
            lost.pid
        );
        let why = lost.last_words.clone().unwrap_or_else(|| "it has ended".to_owned());
        (self.failure, self.wants_next) = (Some(Failure { pid: Some(lost.pid), why }), false);
        self.start_at = Some(now + delay);
        self.end_link(lost, now);
    }

    /// Keeps the last status text of a child, which says why the child ends. Returns false if `pid` isn't a signer.
    pub(crate) fn notified(&mut self, pid: u32, status: Option<&String>) -> bool {
        if let Some(link) = self.current.iter_mut().chain(&mut self.next).find(|link| link.pid == pid) {
            link.last_words = status.cloned().or(link.last_words.take());
            return true;
        }
        // The connection to a child may be closed before its last status text arrives.
        let failure = self.failure.as_mut().filter(|failure| failure.pid == Some(pid));
        failure.zip(status).map(|(failure, status)| failure.why.clone_from(status)).is_some()
    }

    /// Reaps, after SIGCHLD, ended children that were told to end. The supervisor detects the end of the current signer by the end of its connection.
    pub(crate) fn reap(&mut self) {
        self.ending.retain(|(child, _)| matches!(child.try_wait(), Ok(None)));
    }

    /// Does everything whose time has come: starts signers, ends children after timeouts, and passes to the signer the ends that it doesn't have.
    pub(crate) fn tick<'a>(
        &mut self,
        config: &Config,
        listeners: impl Iterator<Item = (&'a Name, &'a mut Process)>,
        now: Instant,
    ) {
        self.start_due(config, now);
        if let Some(next) = self.next.take_if(|next| next.since + ANSWER_TIMEOUT <= now) {
            self.refuse_next(next, "it doesn't answer", now);
        }
        if let Some(current) = &mut self.current {
            current.check(now);
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

    /// Starts the current or the next signer if its time has come.
    fn start_due(&mut self, config: &Config, now: Instant) {
        let is_due = self.current.is_none() && self.start_at.is_some_and(|at| at <= now);
        let wants_next = std::mem::take(&mut self.wants_next) && self.current.is_some() && self.next.is_none();
        if !is_due && !wants_next {
            return;
        }
        match self.start(config, now) {
            Ok(link) if wants_next => self.next = Some(link),
            Ok(link) => (self.current, self.start_at) = (Some(link), None),
            Err(error) => {
                let why = format!("unable to start '{}': {error}", config.signer.display());
                log::error!("{why}");
                if is_due {
                    self.failure = Some(Failure { pid: None, why });
                    self.start_at = Some(now + self.back_off.delay());
                }
            }
        }
    }

    /// Returns the time at which to call [`Self::tick`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let next = self.next.as_ref().map(|next| next.since + ANSWER_TIMEOUT);
        let current = self.current.as_ref().and_then(Link::deadline);
        let ending = self.ending.iter().map(|(_, kill_at)| *kill_at);
        self.start_at.into_iter().chain(self.full_until).chain(next).chain(current).chain(ending).min()
    }

    /// Replaces the signer if it is a child that runs an older program.
    pub(crate) fn renew(&mut self, config: &Config) {
        let child = self.current.as_ref().filter(|current| current.user.is_none());
        let program = child.and_then(|current| current.program);
        self.wants_next |= program.is_some_and(|old| FileStamp::of(&config.signer).is_some_and(|new| new != old));
    }

    /// Sends an order other than [`Order::Serve`] to the signer. Returns `None` if it can't be sent.
    ///
    /// If a signer that the supervisor has started can't use the files after [`Order::Read`], another one is started.
    pub(crate) fn order(&mut self, order: &Order, now: Instant) -> Option<Sent> {
        let link = self.current.as_mut()?;
        let sent = Sent { link: link.number, order: link.order(order, now)? };
        // A child that is being started to replace the current signer may have read the previous files: end it, and start another one.
        if *order == Order::Read && self.end_next(now) {
            self.wants_next = true;
        }
        Some(sent)
    }

    /// Returns whether the signer has executed the order and isn't being replaced. Returns true if the signer has ended or was replaced, so that no
    /// request waits for it.
    pub(crate) fn has_done(&self, sent: Sent) -> bool {
        let link = self.current.as_ref().filter(|link| link.number == sent.link);
        link.is_none_or(|link| link.has_done(sent.order) && !self.is_being_replaced())
    }

    fn is_being_replaced(&self) -> bool {
        self.next.is_some() || self.wants_next
    }

    /// Returns why the signer can't use the certificate with its key; `None` if it can, or while this is unknown.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.current.as_ref()?.fault()
    }

    /// Returns the result of the last [`Order::Check`]: why the certificate can't be used with its key. `None` if it can, or while this is unknown.
    pub(crate) fn checked(&self) -> Option<String> {
        let report = self.current.as_ref()?.report.as_ref()?;
        Some(report.checked.clone()).filter(|fault| !fault.is_empty())
    }

    /// Returns the message for `palabre status` if no signer runs, or if the signer doesn't answer.
    pub(crate) fn alarm(&self) -> Option<String> {
        match &self.current {
            Some(current) => current.alarm(),
            None => {
                let failure = self.failure.as_ref()?;
                Some(format!(
                    "no palabre-signer runs, so new browsers can't connect: {}; the supervisor tries to start one",
                    failure.why
                ))
            }
        }
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
        (self.start_at, self.wants_next) = (None, false);
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
        let mut link = Link::new(self.next_number(), ours, child.id(), now);
        (link.child, link.program) = (Some(child), program);
        if let Err(error) = link.follow(self.events.clone()) {
            self.end_link(link, now);
            return Err(error);
        }
        log::debug!("started palabre-signer as process {}", link.pid);
        Ok(link)
    }

    fn replace_current(&mut self, link: Link, now: Instant) {
        let previous = self.current.replace(link);
        (self.start_at, self.failure, self.full_until) = (None, None, None);
        // The previous signer answers the request that it has read, and ends. The next tick passes the listeners' connections to the new signer.
        if let Some(previous) = previous {
            self.end_link(previous, now);
        }
    }

    /// Logs why the next signer isn't used, and ends it.
    fn refuse_next(&mut self, next: Link, why: &str, now: Instant) {
        log::error!(
            "unable to use the next palabre-signer (process {}): {why}; the present signer continues",
            next.pid
        );
        self.end_link(next, now);
    }

    /// Ends the next signer. Returns whether there was one.
    fn end_next(&mut self, now: Instant) -> bool {
        let next = self.next.take();
        next.map(|next| self.end_link(next, now)).is_some()
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
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    #[test]
    fn alarm_says_why_the_last_signer_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let (path, program) = (directory.path().to_str().unwrap(), directory.path().join("signer"));
        std::fs::write(directory.path().join("palabre.toml"), "").unwrap();
        let program_text = program.to_str().unwrap();
        let cli = Cli::parse_from(["x", "--config", path, "--run", path, "--signer", program_text]);
        let (config, now) = (Config::new(&cli, None).unwrap(), Instant::now());
        let (sender, _events) = crate::event::channel();
        let mut signer = Signer::new(false, sender, now);
        signer.tick(&config, std::iter::empty(), now);
        assert!(signer.alarm().unwrap().contains(&format!("unable to start '{program_text}': ")));
        std::os::unix::fs::symlink("/bin/true", &program).unwrap();
        signer.tick(&config, std::iter::empty(), now + DELAYS[1]);
        let (pid, number) = signer.current.as_ref().map(|link| (link.pid, link.number)).unwrap();
        assert_eq!(signer.alarm(), None);
        signer.reported(number, None, now);
        assert_eq!(
            signer.alarm().unwrap(),
            "no palabre-signer runs, so new browsers can't connect: it has ended; the supervisor tries to start one"
        );
        assert!(signer.notified(pid, Some(&"unable to raise a limit".to_owned())));
        assert!(signer.alarm().unwrap().contains(": unable to raise a limit; the supervisor tries to start one"));
    }
}
