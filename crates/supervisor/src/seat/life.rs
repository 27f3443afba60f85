//! The processes of one seat: started, followed by another one, asked to leave, given up.

use std::io;
use std::net::TcpListener;
use std::time::{Duration, Instant, SystemTime};

use palabre_config::control::State;
use palabre_host::notify::{self, Message};
use palabre_host::sockets;
use palabre_room::RoomError;

use super::{LEAVE_PATIENCE, START_PATIENCE, SUCCESSOR_PATIENCE, Seat};
use crate::backoff::{End, Verdict};
use crate::presence::Presence;
use crate::process::{Ended, Plan, Process};
use crate::site::Site;
use crate::transition::Happening;

impl Seat {
    /// Starts the listener of a seat whose state has just become `Starting`.
    pub(super) fn start(&mut self, site: &Site, now: Instant) {
        self.retry_at = None;
        match self.prepare(site).and_then(|()| self.spawn(site, START_PATIENCE, now)) {
            Ok(process) => {
                (self.report, self.note) = (None, None);
                self.current = Some(process);
            }
            Err(ended) => self.fell(&ended, None, now),
        }
    }

    pub(super) fn prepare(&mut self, site: &Site) -> Result<(), Ended> {
        self.make_pipes(site).map_err(|error| Ended::NotStarted(error.to_string()))?;
        if self.socket.is_none() {
            let socket = self.bind(site).map_err(|error| {
                Ended::PortTaken(format!("unable to open port {}: {error}; choose another or free it", self.port))
            })?;
            self.socket = Some(socket);
        }
        Ok(())
    }

    pub(super) fn make_pipes(&mut self, site: &Site) -> Result<(), RoomError> {
        let room = site.room(&self.participant.room);
        if !room.path().exists() {
            site.make_room(&self.participant.room)?;
        }
        room.participant(&self.participant.name).create()?;
        self.write_gain(site)
    }

    pub(super) fn bind(&mut self, site: &Site) -> io::Result<TcpListener> {
        let socket = sockets::listen(site.server.bind, self.port)?;
        self.port = socket.local_addr()?.port();
        notify::store(self.participant.name.as_str(), &socket);
        Ok(socket)
    }

    pub(super) fn spawn(&self, site: &Site, patience: Duration, now: Instant) -> Result<Process, Ended> {
        let not_started = |cause: String| {
            Ended::NotStarted(format!("unable to start '{}': {cause}; see --listener", site.listener.display()))
        };
        let socket = self.socket.as_ref().ok_or_else(|| not_started("its port is closed".into()))?;
        let plan = Plan { generation: self.wanted, now, patience, entrance: self.entrance };
        Process::start(site, &self.participant.name, socket, plan).map_err(|error| not_started(error.to_string()))
    }

    /// There is no process, and none is about to follow it.
    pub(super) fn fell(&mut self, ended: &Ended, ready_for: Option<Duration>, now: Instant) {
        self.last_exit = Some(ended.to_string());
        self.presence.nobody(now);
        self.report = None;
        let end = match ended {
            Ended::PortTaken(_) => End::PortTaken,
            _ if ended.is_configuration() => End::BadConfiguration,
            _ => End::Died { ready_for },
        };
        let name = &self.participant.name;
        match self.backoff.ended(end) {
            Verdict::Retry(wait) => {
                log::warn!(
                    "unable to keep the listener of '{name}' running: {ended}; starting it again in {} ms",
                    wait.as_millis()
                );
                self.retry_at = Some(now + wait);
                self.note = None;
                self.happens(Happening::Died, now);
            }
            Verdict::GiveUp(pace) => {
                let when =
                    pace.map_or("after a reload or a restart".to_owned(), |pace| format!("every {} s", pace.as_secs()));
                log::error!(
                    "unable to keep the listener of '{name}' running: {ended}; port {} is closed, trying again {when}",
                    self.port
                );
                self.note = Some(format!("{ended}; port closed, trying again {when}"));
                self.close_port();
                self.retry_at = pace.map(|pace| now + pace);
                self.happens(Happening::WasGivenUp, now);
            }
        }
        self.refuse(&format!("its listener has ended: {ended}; its reasons are in the log"));
    }

    pub(super) fn wake(&mut self, why: Happening, site: &Site, now: Instant) {
        if self.happens(why, now) {
            self.restarts += 1;
            self.start(site, now);
        }
    }

    /// The successor serves: it is the one now, and the old one leaves.
    pub(super) fn take_over(&mut self, successor: Process, message: &Message, now: Instant) {
        let (name, pid) = (&self.participant.name, successor.pid());
        log::info!("the listener of '{name}' serves port {} as process {pid}", self.port);
        if let Some(mut old) = self.current.replace(successor) {
            old.hand_over(now, LEAVE_PATIENCE);
            self.leaving.push(old);
        }
        (self.report, self.note) = (None, None);
        self.presence.nobody(now);
        self.hear(message, now);
    }

    pub(super) fn unpark(&mut self, site: &Site, now: Instant) {
        self.is_parked = false;
        if self.state == State::Stopped {
            self.backoff.forget();
            if self.happens(Happening::StartAsked, now) {
                self.start(site, now);
            }
        } else {
            self.try_again(site, now);
        }
    }

    /// Closes the port and asks all processes to leave, within `patience`.
    pub(super) fn stop(&mut self, now: Instant, patience: Duration) {
        if !matches!(self.state, State::Draining | State::Stopped) {
            self.happens(Happening::StopAsked, now);
            self.close_port();
            self.retry_at = None;
            (self.report, self.note) = (None, None);
            self.leaving.extend(self.current.take());
            self.leaving.extend(self.successor.take());
            for process in &mut self.leaving {
                process.leave(now, patience);
            }
        }
        self.presence.nobody(now);
        self.drained(now);
    }

    pub(super) fn drained(&mut self, now: Instant) {
        if self.state == State::Draining && self.processes().next().is_none() {
            self.happens(Happening::AllLeft, now);
        }
    }

    /// Kills every process, so that no connection is left, and starts another one on the same port. False where there is
    /// none, or one that has not served yet.
    pub(super) fn kick(&mut self, site: &Site, now: Instant) -> bool {
        self.leaving.iter_mut().for_each(Process::kill);
        if !self.happens(Happening::KickAsked, now) {
            return false;
        }
        log::info!("all connections of '{}' are ended", self.participant.name);
        let mut ended: Vec<Process> = self.current.take().into_iter().chain(self.successor.take()).collect();
        ended.iter_mut().for_each(Process::kill);
        self.leaving.append(&mut ended);
        self.presence = Presence::default();
        self.renew();
        self.start(site, now);
        true
    }

    /// The listener lets nobody in by a key that has expired; who is in then is shown out by us.
    pub(super) fn expire(&mut self, site: &Site, now: Instant) {
        self.plan_expiry(now);
        if self.expiry_at.is_none() && self.participant.key_expires.is_some() {
            log::info!("the key of '{}' has expired", self.participant.name);
            self.kick(site, now);
        }
    }

    /// The wall clock may be set meanwhile, so it is looked at once a day at least.
    pub(super) fn plan_expiry(&mut self, now: Instant) {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let left = self.participant.key_expires.and_then(|expires| expires.left(SystemTime::now()));
        self.expiry_at = left.map(|left| now + left.min(DAY));
    }

    /// When the seat is at rest: replaces a process that has an older configuration, answers whoever waits.
    pub(super) fn settle(&mut self, site: &Site, now: Instant) {
        self.drained(now);
        match (self.state, self.presence.is_here()) {
            (State::Ready, true) => drop(self.happens(Happening::SomebodyCame, now)),
            (State::Serving, false) => drop(self.happens(Happening::EverybodyLeft, now)),
            _ => {}
        }
        if self.successor.is_some() || !self.leaving.is_empty() || !(self.state.is_up() || self.state == State::Stopped)
        {
            return;
        }
        let has_the_wanted = self.current.as_ref().is_some_and(|process| process.generation == self.wanted);
        if has_the_wanted || self.state == State::Stopped {
            if let Some(waiting) = self.waiting.take() {
                waiting.done();
            }
        } else if self.refused != Some(self.wanted) {
            self.start_successor(site, now);
        }
    }

    pub(super) fn start_successor(&mut self, site: &Site, now: Instant) {
        match self.spawn(site, SUCCESSOR_PATIENCE, now) {
            Ok(process) => self.successor = Some(process),
            Err(ended) => {
                self.refused = Some(self.wanted);
                self.refuse(&format!("{ended}; the old one goes on"));
            }
        }
    }

    /// Whoever waits will wait in vain. If nobody does, the log is told.
    pub(super) fn refuse(&mut self, cause: &str) {
        let name = &self.participant.name;
        match self.waiting.take() {
            Some(waiting) => waiting.refused(name, cause),
            None if self.refused == Some(self.wanted) && self.state.is_up() => {
                log::error!("unable to restart '{name}': {cause}");
            }
            None => {}
        }
    }
}
