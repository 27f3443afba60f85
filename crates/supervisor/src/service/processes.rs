//! The listener processes of one service: how they are started, replaced and ended, and when the service gives up.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::time::{Duration, Instant, SystemTime};

use palabre_config::control::State;
use palabre_host::notify::{self, Message};
use palabre_host::sockets;
use palabre_room::RoomError;

use super::gain::GainFile;
use super::outcome::{Refusal, Renewal};
use super::{HANDOVER_TIMEOUT, START_TIMEOUT, SUCCESSOR_TIMEOUT, Service};
use crate::backoff::{End, Verdict};
use crate::config::Config;
use crate::presence::Presence;
use crate::process::{Exit, Process, StartOptions};
use crate::transition::Trigger;

impl Service {
    /// Starts the listener of a service whose state has just become `Starting`.
    pub(super) fn start(&mut self, config: &Config, now: Instant) {
        self.retry_at = None;
        match self.prepare(config, now).and_then(|()| self.spawn(config, START_TIMEOUT, now)) {
            Ok(process) => {
                (self.report, self.note, self.renewal) = (None, None, Renewal::default());
                self.current = Some(process);
            }
            Err(exit) => self.process_ended(&exit, None, now),
        }
    }

    fn prepare(&mut self, config: &Config, now: Instant) -> Result<(), Exit> {
        self.make_pipes(config, now).map_err(|error| Exit::NotStarted(error.to_string()))?;
        if self.socket.is_none() {
            let socket = self
                .bind(config)
                .map_err(|error| Exit::PortTaken(sockets::explain(config.server.bind, self.port, &error)))?;
            self.socket = Some(socket);
        }
        Ok(())
    }

    fn make_pipes(&mut self, config: &Config, now: Instant) -> Result<(), RoomError> {
        let room = config.room(&self.participant.room);
        if !room.path().exists() {
            config.make_room(&self.participant.room)?;
        }
        let directory = room.participant(&self.participant.name);
        if !directory.path().exists() {
            // The file `gain` was removed together with the participant's directory.
            self.gain = GainFile::default();
        }
        directory.create()?;
        self.write_gain(config, now)
    }

    fn bind(&mut self, config: &Config) -> io::Result<TcpListener> {
        let socket = sockets::listen(config.server.bind, self.port)?;
        self.port = socket.local_addr()?.port();
        notify::store(self.participant.name.as_str(), &socket);
        Ok(socket)
    }

    pub(super) fn spawn(&self, config: &Config, timeout: Duration, now: Instant) -> Result<Process, Exit> {
        let program = config.listener.display();
        let not_started = |cause: String| Exit::NotStarted(format!("unable to start '{program}': {cause}"));
        let socket = self.socket.as_ref().ok_or_else(|| {
            not_started(format!(
                "the supervisor has closed the participant's port, because the listener was stopped or has failed; run 'palabre start {}'",
                self.participant.name
            ))
        })?;
        let not_started = |error: io::Error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::PermissionDenied => not_started(format!(
                "{error}; start palabre-supervisor with --listener PATH, the path of palabre-listener"
            )),
            ErrorKind::NotConnected => Exit::NoLauncher(error.to_string()),
            _ => not_started(error.to_string()),
        };
        let options = StartOptions { generation: self.wanted, now, timeout, entrance: self.entrance };
        Process::start(config, &self.participant, socket, options).map_err(not_started)
    }

    /// Handles the end of the current process when no successor can replace it: plans a restart, or gives up.
    pub(super) fn process_ended(&mut self, exit: &Exit, ready_for: Option<Duration>, now: Instant) {
        self.last_exit = Some(exit.to_string());
        self.presence.disconnected(now);
        self.report = None;
        let end = match exit {
            Exit::PortTaken(_) => End::PortTaken,
            Exit::NoLauncher(_) => End::NoLauncher,
            _ if exit.is_configuration() => End::BadConfiguration,
            _ => End::Died { ready_for },
        };
        let name = &self.participant.name;
        match self.backoff.ended(end) {
            Verdict::Retry(wait) if end == End::NoLauncher => {
                // Don't log this for each listener. The log has one message if no launcher is connected, and `palabre status` shows the reason.
                self.retry_at = Some(now + wait);
                self.note = Some(exit.to_string());
                self.transition(Trigger::Died, now);
            }
            Verdict::Retry(wait) => {
                log::warn!(PALABRE_INSTANCE:% = name;
                    "unable to keep the listener of '{name}' running: {exit}; starting it again in {} ms",
                    wait.as_millis()
                );
                self.retry_at = Some(now + wait);
                self.note = Some(exit.to_string());
                self.transition(Trigger::Died, now);
            }
            Verdict::GiveUp(pace) => {
                let when = pace.map_or(
                    "only after a reload of the configuration or a restart of the listener".to_owned(),
                    |pace| format!("every {} s", pace.as_secs()),
                );
                if matches!(exit, Exit::PortTaken(_)) {
                    log::error!(PALABRE_INSTANCE:% = name;
                        "unable to start the listener of '{name}': {exit}; trying again {when}"
                    );
                    self.note = Some(format!("{exit}; trying again {when}"));
                } else {
                    log::error!(PALABRE_INSTANCE:% = name;
                        "unable to keep the listener of '{name}' running: {exit}; port {} is closed, trying again {when}",
                        self.port
                    );
                    self.note = Some(format!("{exit}; port closed, trying again {when}"));
                }
                self.close_port();
                self.retry_at = pace.map(|pace| now + pace);
                self.transition(Trigger::GaveUp, now);
            }
        }
        self.refuse(&match exit {
            Exit::PortTaken(_) | Exit::NotStarted(_) | Exit::NoLauncher(_) => exit.to_string(),
            Exit::Exited { .. } | Exit::Unknown(_) => {
                format!("the participant's listener has ended: {exit}; see the listener's log")
            }
        });
    }

    /// Starts the listener at once if it waits for a launcher.
    pub(crate) fn launcher_connected(&mut self, now: Instant) {
        self.retry_at = self.retry_at.map(|at| at.min(now));
    }

    /// Starts the listener again after it has ended. Counts the restarts that no operator requested.
    pub(super) fn restart(&mut self, why: Trigger, config: &Config, now: Instant) {
        if self.transition(why, now) {
            self.restarts += u64::from(why == Trigger::RetryIsDue);
            self.start(config, now);
        }
    }

    /// Makes the successor, which is ready, the current process, and makes the previous process hand over its connections.
    pub(super) fn take_over(&mut self, successor: Process, message: &Message, now: Instant) {
        let (name, pid) = (&self.participant.name, successor.pid());
        log::info!(PALABRE_INSTANCE:% = name; "the listener of '{name}' serves port {} as process {pid}", self.port);
        if let Some(mut old) = self.current.replace(successor) {
            old.hand_over(now, HANDOVER_TIMEOUT);
            self.leaving.push(old);
        }
        (self.report, self.note, self.last_exit, self.refused) = (None, None, None, None);
        // The new process has read the certificate when it started.
        self.renewal = Renewal::default();
        self.presence.disconnected(now);
        self.hear(message, now);
    }

    /// Starts the listener of a service that an operator stopped, whose listener died, or that was given up.
    pub(super) fn start_stopped(&mut self, config: &Config, now: Instant) {
        (self.is_stopped, self.last_exit) = (false, None);
        if self.state == State::Stopped {
            self.backoff.forget();
            if self.transition(Trigger::StartRequested, now) {
                self.start(config, now);
            }
        } else {
            self.try_again(config, now);
        }
    }

    /// Ends all processes of the service with `end` and closes the port.
    pub(super) fn stop(&mut self, now: Instant, end: fn(&mut Process, Instant)) {
        if !matches!(self.state, State::Draining | State::Stopped) {
            self.transition(Trigger::StopRequested, now);
            self.retry_at = None;
            (self.report, self.note) = (None, None);
            self.leaving.extend(self.current.take());
            self.leaving.extend(self.successor.take());
            for process in &mut self.leaving {
                end(process, now);
            }
            // Close the port after the signal: a process that still serves would log that it can't accept connections.
            self.close_port();
        }
        self.presence.disconnected(now);
        self.drained(now);
    }

    fn drained(&mut self, now: Instant) {
        if self.state == State::Draining && self.processes().next().is_none() {
            self.transition(Trigger::Drained, now);
        }
    }

    /// Kills all processes of the service, which closes all connections, and starts a new process on the same port. Returns false if no
    /// process was ready.
    pub(super) fn kick(&mut self, config: &Config, now: Instant) -> bool {
        self.leaving.iter_mut().for_each(Process::kill);
        if !self.transition(Trigger::KickRequested, now) {
            return false;
        }
        log::info!(PALABRE_INSTANCE:% = self.participant.name; "ended all connections of '{}'", self.participant.name);
        let mut processes: Vec<Process> = self.current.take().into_iter().chain(self.successor.take()).collect();
        processes.iter_mut().for_each(Process::kill);
        self.leaving.append(&mut processes);
        self.presence = Presence::default();
        self.request_successor();
        self.start(config, now);
        true
    }

    /// Closes the participant's connections if the access key has expired. The listener itself refuses new connections.
    pub(super) fn expire(&mut self, config: &Config, now: Instant) {
        self.plan_expiry(now);
        if self.expiry_at.is_none() && self.participant.key_expires.is_some() {
            log::info!(PALABRE_INSTANCE:% = self.participant.name; "the key of '{}' has expired", self.participant.name);
            self.kick(config, now);
        }
    }

    /// Sets the time of the next check whether the access key has expired. It is at most one day ahead, since the wall clock may be set.
    pub(super) fn plan_expiry(&mut self, now: Instant) {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let left = self.participant.key_expires.and_then(|expires| expires.left(SystemTime::now()));
        self.expiry_at = left.map(|left| now + left.min(DAY));
    }

    /// Updates the state: `Serving` if the participant is connected, otherwise `Ready`. If nothing else is in progress, replaces a process
    /// that has an older configuration, or answers the pending request.
    pub(super) fn advance(&mut self, config: &Config, now: Instant) {
        self.drained(now);
        match (self.state, self.presence.is_here()) {
            (State::Ready, true) => drop(self.transition(Trigger::Connected, now)),
            (State::Serving, false) => drop(self.transition(Trigger::Disconnected, now)),
            _ => {}
        }
        if self.successor.is_some() || !self.leaving.is_empty() || !(self.state.is_up() || self.state == State::Stopped)
        {
            return;
        }
        let is_current = self.current.as_ref().is_some_and(|process| process.generation == self.wanted);
        if is_current || self.state == State::Stopped {
            if let Some(pending) = self.pending.take() {
                pending.done();
            }
        } else if !self.is_refused() {
            self.start_successor(config, now);
        }
    }

    fn start_successor(&mut self, config: &Config, now: Instant) {
        match self.spawn(config, SUCCESSOR_TIMEOUT, now) {
            Ok(process) => self.successor = Some(process),
            Err(exit) => {
                self.refused = Some(Refusal { generation: self.wanted, why: exit.to_string() });
                self.refuse(&format!("{exit}; the previous listener keeps running"));
            }
        }
    }

    /// Refuses the pending request. If no request is pending, logs why a successor could not be started.
    pub(super) fn refuse(&mut self, cause: &str) {
        let name = &self.participant.name;
        match self.pending.take() {
            Some(pending) => pending.refused(name, cause),
            None if self.is_refused() && self.state.is_up() => {
                log::error!(PALABRE_INSTANCE:% = name; "unable to restart '{name}': {cause}");
            }
            None => {}
        }
    }
}
