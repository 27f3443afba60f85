//! The service of one participant: a port, the process that serves it, and its restarts.
//!
//! The listening socket belongs to the service, not to the process, so that new connections wait while a dead process is replaced. Each
//! configuration has a number (`wanted`): a process that was started with a lower number is replaced when nothing else is in progress. A
//! requested restart and a change of the configuration both increase the number.

mod entrance;
mod gain;
mod outcome;
mod pending;
mod processes;
mod progress;
mod upgrade;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use palabre_config::control::{ListenerReport, ParticipantStatus, State};
use palabre_config::{Entrance, Participant};
use palabre_host::notify::Message;
use palabre_room::{Member, RoomError};

use crate::backoff::RestartPolicy;
use crate::config::Config;
use crate::presence::Presence;
use crate::process::{Exit, Process};
use crate::transition::{Trigger, after};

use gain::GainFile;
use outcome::{Refusal, Renewal};
pub(crate) use pending::{Action, Pending};

/// Timeout for a process without predecessor to send READY=1.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout for a successor to send READY=1. The current process serves meanwhile.
const SUCCESSOR_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for a process to end after its successor has become ready.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout for a process to end after SIGUSR2, which says that the participant was removed.
const DISMISS_TIMEOUT: Duration = Duration::from_millis(500);
/// Timeout for a process to end after SIGTERM when it has no successor.
const STOP_TIMEOUT: Duration = Duration::from_millis(1500);
/// Time for which a listener serves until the status no longer shows how the previous process ended.
const EXIT_SHOWN: Duration = Duration::from_secs(60 * 60);

/// The service of one participant.
#[derive(Debug)]
pub(crate) struct Service {
    participant: Participant,
    gain: GainFile,
    state: State,
    since: Instant,
    socket: Option<TcpListener>,
    /// The participant's port. If the kernel chose it, it remains the same when the socket is opened again.
    port: u16,
    current: Option<Process>,
    successor: Option<Process>,
    leaving: Vec<Process>,
    /// Number of the configuration that the current process should have.
    wanted: u64,
    /// The last successor that could not be started.
    refused: Option<Refusal>,
    /// Why the port or the room of the participant's present file can't be used.
    unmoved: Option<String>,
    renewal: Renewal,
    backoff: RestartPolicy,
    retry_at: Option<Instant>,
    restarts: u64,
    last_exit: Option<String>,
    /// The listener's last report.
    report: Option<ListenerReport>,
    /// Why no listener runs.
    note: Option<String>,
    presence: Presence,
    pending: Option<Pending>,
    /// The recorded use of the participant's one-time link.
    entrance: Option<Entrance>,
    link_fault: Option<String>,
    /// Time of the next check whether the access key has expired.
    expiry_at: Option<Instant>,
    /// Whether an operator stopped the service. It then starts only by request.
    is_stopped: bool,
    /// Whether the service is to be removed when all its processes have ended.
    is_ending: bool,
}

impl Service {
    /// Creates the participant's pipes, opens the port and starts a listener. After a failure this is tried again later. `socket` is the
    /// listening socket, if it is open already.
    pub(crate) fn open(config: &Config, participant: Participant, socket: Option<TcpListener>, now: Instant) -> Self {
        let mut service = Self::empty(participant, State::Starting, now);
        if let Some(socket) = socket {
            service.take_socket(socket);
        }
        service.load_entrance(config);
        service.plan_expiry(now);
        service.start(config, now);
        service
    }

    /// Creates a service in the state `Stopped`, for a participant whose service an operator stopped.
    pub(crate) fn stopped(config: &Config, participant: Participant, now: Instant) -> Self {
        let mut service = Self { is_stopped: true, ..Self::empty(participant, State::Stopped, now) };
        service.load_entrance(config);
        service.plan_expiry(now);
        service
    }

    fn empty(participant: Participant, state: State, now: Instant) -> Self {
        let port = participant.port;
        Self {
            participant,
            gain: GainFile::default(),
            state,
            since: now,
            socket: None,
            port,
            current: None,
            successor: None,
            leaving: Vec::new(),
            wanted: 0,
            refused: None,
            unmoved: None,
            renewal: Renewal::default(),
            backoff: RestartPolicy::default(),
            retry_at: None,
            restarts: 0,
            last_exit: None,
            report: None,
            note: None,
            presence: Presence::default(),
            pending: None,
            entrance: None,
            link_fault: None,
            expiry_at: None,
            is_stopped: false,
            is_ending: false,
        }
    }

    /// Returns the participant, as last read.
    pub(crate) fn participant(&self) -> &Participant {
        &self.participant
    }

    /// Returns the port of the participant's file, or the port that the kernel chose if the file says 0.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether the service has its port open, or a process that is about to end still has it open.
    pub(crate) fn is_port_in_use(&self) -> bool {
        self.socket.is_some() || self.processes().next().is_some()
    }

    /// Returns since when the participant's hand is raised.
    pub(crate) fn hand_since(&self) -> Option<Instant> {
        self.presence.hand_since()
    }

    /// Returns the participant's presence.
    pub(crate) fn presence(&self) -> &Presence {
        &self.presence
    }

    /// Returns the participant's entry in the room's file `names`, which pages show, without a raised hand.
    pub(crate) fn member(&self, display: &str) -> Member {
        Member {
            voice: self.presence.voice(),
            weak: self.presence.is_weak(),
            ..Member::new(self.participant.name.clone(), display, self.presence.is_here())
        }
    }

    /// Returns the state.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Whether an operator stopped the service.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Whether [`Self::remove`] was called.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// Whether [`Self::remove`] was called and all processes have ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_ending && self.state == State::Stopped
    }

    /// Applies a changed participant's file with the same port and room. Replaces the listener if necessary.
    pub(crate) fn change(&mut self, config: &Config, participant: Participant, now: Instant) {
        let is_replaced = self.replaces(&participant);
        let is_suspended = participant.suspended && !self.participant.suspended;
        let is_signed_out = participant.signed_out != self.participant.signed_out;
        (self.participant, self.unmoved) = (participant, None);
        self.plan_expiry(now);
        self.load_entrance(config);
        // The participant of a stopped service may have no directory in the room. The gain is written when the service starts.
        if !self.is_stopped {
            // If the write of `gain` fails, `tick` repeats it later.
            let _ = self.write_gain(config, now);
        }
        // To suspend a participant or sign out browsers, end the connections. In a handover, the previous process would keep its connections until
        // the page has connected to the next process.
        if is_replaced && !((is_suspended || is_signed_out) && self.kick(config, now)) {
            self.request_successor();
        }
    }

    /// Whether a change to this participant's file, with the same port and room, needs another listener.
    pub(crate) fn replaces(&self, new: &Participant) -> bool {
        // A change of gain, mute or port needs no new listener: the mixer reads the gain, and the listener inherits the socket. The
        // listener reads all other settings once, when it starts.
        let Participant { port, gain_db, muted, .. } = self.participant;
        Participant { port, gain_db, muted, ..new.clone() } != self.participant
    }

    /// Whether the participant's file sets another gain, or mutes or unmutes the participant.
    pub(crate) fn has_other_gain(&self, new: &Participant) -> bool {
        (new.gain_db, new.muted) != (self.participant.gain_db, self.participant.muted)
    }

    /// Whether the participant's file names another port or room, so that another service must replace this one.
    pub(crate) fn moves(&self, new: &Participant) -> bool {
        let old = &self.participant;
        // Port 0 means a port chosen by the kernel. If the file now names that port, the port stays the same.
        let same_port = old.port == new.port || (old.port == 0 && new.port == self.port);
        !same_port || old.room != new.room
    }

    /// Keeps the port and the room, since those of the participant's present file can't be used.
    pub(crate) fn stay(&mut self, why: &str) {
        let (name, port, room) = (&self.participant.name, self.port, &self.participant.room);
        let why = format!("unable to move '{name}': {why}; its listener serves port {port} in room '{room}' as before");
        log::error!(PALABRE_INSTANCE:% = name; "{why}");
        self.unmoved = Some(why);
    }

    /// Requests that the listener be replaced by a new process, which reads the configuration again.
    pub(crate) fn request_successor(&mut self) {
        self.wanted += 1;
    }

    /// Restarts a listener that has died or was given up, or starts the successor that could not be started before. Does so without delay.
    pub(crate) fn try_again(&mut self, config: &Config, now: Instant) {
        self.refused = None;
        if self.is_down() {
            self.backoff.forget();
            self.restart(Trigger::StartRequested, config, now);
        }
        self.advance(config, now);
    }

    /// Whether the listener has died or was given up, and [`Self::try_again`] would start it.
    pub(crate) fn is_down(&self) -> bool {
        matches!(self.state, State::BackingOff | State::Failed)
    }

    /// Performs a client's request. The client is answered when the action is complete. A stop or a kick cancels an earlier request.
    pub(crate) fn request(&mut self, request: Pending, config: &Config, now: Instant) {
        let action = request.action;
        if let Some(why) = action.objection(self.state, self.pending.as_ref().map(|pending| pending.action)) {
            return request.refused(&self.participant.name, why);
        }
        if let Some(earlier) = self.pending.replace(request) {
            earlier
                .refused(&self.participant.name, "another client asked to stop the listener or to end its connections");
        }
        match action {
            Action::Restart => {
                self.request_successor();
                self.backoff.forget();
                self.try_again(config, now);
            }
            Action::Start => self.start_stopped(config, now),
            Action::Stop => {
                self.is_stopped = true;
                self.stop(now, |process, now| process.terminate(now, STOP_TIMEOUT));
            }
            Action::Kick => {
                if !self.kick(config, now)
                    && let Some(pending) = self.pending.take()
                {
                    // No process was ready, so no connection has to be ended.
                    pending.done();
                }
            }
        }
        self.advance(config, now);
    }

    /// Ends the service when the supervisor ends. Unlike [`Self::remove`], keeps the listening socket in systemd's store for the next
    /// supervisor.
    pub(crate) fn end(&mut self, now: Instant) {
        self.socket = None;
        self.remove(now);
    }

    /// Makes the listener read the certificate again. [`Self::is_pending`] returns true until it has reported the result.
    pub(crate) fn hang_up(&mut self, now: Instant) {
        if let Some(process) = self.current.iter().chain(&self.successor).find(|process| process.is_ready()) {
            process.hang_up();
            self.renewal.begin(self.report.as_ref(), now);
        }
    }

    /// Ends the service, with SIGTERM to its processes. It never starts again.
    pub(crate) fn remove(&mut self, now: Instant) {
        self.end_for_good(now, |process, now| process.terminate(now, STOP_TIMEOUT));
    }

    /// Ends the service of a removed participant, who hears nothing more: the listener sends only the record that says
    /// that the participant was removed. The listener never starts again.
    pub(crate) fn dismiss(&mut self, now: Instant) {
        self.end_for_good(now, |process, now| process.dismiss(now, DISMISS_TIMEOUT));
    }

    fn end_for_good(&mut self, now: Instant, end: fn(&mut Process, Instant)) {
        self.is_ending = true;
        if self.pending.as_ref().is_none_or(|pending| pending.action != Action::Stop) {
            self.refuse("the participant's listener is being stopped, because the participant was removed, the port, room or address has changed, or the supervisor is ending");
        }
        self.stop(now, end);
    }

    /// Handles a notification of the process `pid`. Returns false if it is not a process of this service.
    pub(crate) fn notified(&mut self, pid: u32, message: &Message, config: &Config, now: Instant) -> bool {
        if self.current.as_ref().is_some_and(|process| process.pid() == pid) {
            self.hear(message, now);
            if let Some(process) = self.current.as_mut().filter(|process| message.ready && !process.is_ready()) {
                process.became_ready(now);
                log::info!(PALABRE_INSTANCE:% = self.participant.name; "the listener of '{}' serves port {} as process {pid}", self.participant.name, self.port);
                self.transition(Trigger::BecameReady, now);
            }
        } else if let Some(mut process) = self.successor.take_if(|process| process.pid() == pid) {
            if message.ready {
                process.became_ready(now);
                self.take_over(process, message, now);
            } else {
                process.last_words = message.status.clone().or(process.last_words);
                self.successor = Some(process);
            }
        } else {
            return self.leaving.iter().any(|process| process.pid() == pid);
        }
        self.advance(config, now);
        true
    }

    /// Notes which processes have ended. Call this after SIGCHLD. Call [`Self::reap`] when all notifications that have arrived until now
    /// were handled.
    pub(crate) fn note_ends(&mut self) {
        self.processes_mut().for_each(Process::note_end);
    }

    /// Reaps the processes whose end was noted.
    pub(crate) fn reap(&mut self, config: &Config, now: Instant) {
        self.leaving.retain_mut(|process| process.exit().is_none());
        if let Some((process, exit)) = reap(&mut self.successor) {
            self.refused = Some(Refusal { generation: process.generation, why: exit.to_string() });
            self.refuse(&format!("the new listener has ended: {exit}; the previous listener keeps running"));
        }
        if let Some((process, exit)) = reap(&mut self.current) {
            if let Some(successor) = self.successor.take() {
                self.current = Some(successor);
                self.last_exit = Some(exit.to_string());
                self.transition(Trigger::DiedDuringHandover, now);
            } else {
                self.process_ended(&exit, process.ready_for(now), now);
            }
        }
        self.advance(config, now);
    }

    /// Does everything whose time has come: timeouts, the expiry of the key, and retries.
    pub(crate) fn tick(&mut self, config: &Config, now: Instant) {
        self.presence.tick(now);
        self.renewal.tick(now);
        for process in self.processes_mut() {
            process.kill_if_due(now);
        }
        if self.expiry_at.is_some_and(|at| at <= now) {
            self.expire(config, now);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.restart(Trigger::RetryIsDue, config, now);
        }
        if self.gain_retry_at().is_some_and(|at| at <= now) {
            let _ = self.write_gain(config, now);
        }
        self.advance(config, now);
    }

    /// Returns the time at which to call [`Self::tick`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.processes()
            .filter_map(Process::deadline)
            .chain(self.retry_at)
            .chain(self.expiry_at)
            .chain(self.gain_retry_at())
            .chain(self.presence.deadline())
            .chain(self.renewal.deadline())
            .min()
    }

    /// Returns the status for `palabre status`.
    pub(crate) fn status(&self, now: Instant) -> ParticipantStatus {
        ParticipantStatus {
            name: self.participant.name.to_string(),
            display: self.participant.display().to_owned(),
            display_chosen: false,
            room: self.participant.room.to_string(),
            port: self.port,
            state: self.state,
            pid: self.current.as_ref().map(Process::pid),
            restarts: self.restarts,
            last_exit: self.last_exit.clone().filter(|_| !self.has_served(EXIT_SHOWN, now)),
            since_ms: u64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX),
            report: self.report.clone(),
            note: self.note.clone(),
            suspended: self.participant.suspended,
            pending: self.is_pending(),
            kept: self.kept(),
            gain_fault: self.gain_retry_at().and_then(|_| self.gain.fault()),
            link: self.link_use(),
        }
    }

    fn has_served(&self, time: Duration, now: Instant) -> bool {
        let ready_for = self.current.as_ref().and_then(|process| process.ready_for(now));
        ready_for.is_some_and(|ready_for| ready_for >= time)
    }

    fn write_gain(&mut self, config: &Config, now: Instant) -> Result<(), RoomError> {
        let directory = config.participant(&self.participant.room, &self.participant.name);
        self.gain.write(&directory, &self.participant, now)
    }

    /// Returns the time of the next attempt to write `gain`. A service that has stopped or ends may have no directory.
    fn gain_retry_at(&self) -> Option<Instant> {
        self.gain.deadline().filter(|_| !self.is_stopped && !self.is_ending)
    }

    /// Handles the status text of the current process: a report, or the reason why the process is about to exit.
    fn hear(&mut self, message: &Message, now: Instant) {
        let Some(status) = &message.status else { return };
        match ListenerReport::parse(status) {
            Ok(report) => {
                self.presence.update(&report, now);
                self.renewal.update(&report);
                self.report = Some(report);
            }
            Err(error) => {
                log::debug!(
                    "the listener of '{}' has sent '{status}', which is not a valid report: {error}",
                    self.participant.name
                );
                if let Some(process) = &mut self.current {
                    process.last_words = Some(status.clone());
                }
            }
        }
    }

    fn transition(&mut self, trigger: Trigger, now: Instant) -> bool {
        let Some(next) = after(self.state, trigger) else {
            log::debug!(
                "the listener of '{}' is in state {}: ignoring the event {trigger:?}",
                self.participant.name,
                self.state
            );
            return false;
        };
        log::debug!(
            "the listener of '{}' changes from state {} to {next} after the event {trigger:?}",
            self.participant.name,
            self.state
        );
        self.state = next;
        self.since = now;
        true
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        self.current.iter().chain(&self.successor).chain(&self.leaving)
    }

    /// Returns the listener processes that may need the signer.
    pub(crate) fn processes_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        self.current.iter_mut().chain(&mut self.successor).chain(&mut self.leaving)
    }
}

fn reap(process: &mut Option<Process>) -> Option<(Process, Exit)> {
    let exit = process.as_mut()?.exit()?;
    process.take().map(|process| (process, exit))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
