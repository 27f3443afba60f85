//! The seat of one participant: a port, the process that serves it, and what to do when that ends.
//!
//! The socket belongs to the seat, not to the process, so a process can die and be replaced without a connection being
//! refused. Configurations are counted (`wanted`): a process that was started with an older one is replaced when the
//! seat is at rest. So a restart that is asked for and a change of the configuration are the same thing.

mod asked;
mod entrance;
mod inheritance;
mod life;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use palabre_config::control::{ListenerReport, ParticipantStatus, State};
use palabre_config::{Entrance, Participant};
use palabre_host::notify::Message;
use palabre_room::{Gain, Member, RoomError};

use crate::backoff::RestartPolicy;
use crate::presence::Presence;
use crate::process::{Ended, Process};
use crate::site::Site;
use crate::transition::{Happening, after};

pub use asked::{Verb, Waiting};

/// How long a process may take to say READY=1.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long one that is to replace another may take. The other one serves meanwhile.
const SUCCESSOR_PATIENCE: Duration = Duration::from_secs(10);
/// How long a process may take to leave after its successor has taken over.
const LEAVE_PATIENCE: Duration = Duration::from_secs(3);
/// How long a process may take to leave when nothing comes after it.
const STOP_PATIENCE: Duration = Duration::from_millis(1500);

/// One participant.
#[derive(Debug)]
pub struct Seat {
    participant: Participant,
    /// What we wrote into the room's `gain` last.
    gain: Option<Gain>,
    state: State,
    since: Instant,
    socket: Option<TcpListener>,
    /// The port that was opened first: any free one stays the same one.
    port: u16,
    current: Option<Process>,
    successor: Option<Process>,
    leaving: Vec<Process>,
    wanted: u64,
    /// The configuration with which a successor could not be started.
    refused: Option<u64>,
    backoff: RestartPolicy,
    retry_at: Option<Instant>,
    restarts: u64,
    last_exit: Option<String>,
    /// What the listener reported last.
    report: Option<ListenerReport>,
    /// Why there is no listener.
    note: Option<String>,
    presence: Presence,
    waiting: Option<Waiting>,
    /// Who has used the link, where it opens once.
    entrance: Option<Entrance>,
    link_fault: Option<String>,
    /// When to look whether the key has expired.
    expiry_at: Option<Instant>,
    /// Somebody has asked to stop it: it stays so until they ask to start it.
    is_parked: bool,
    /// It is removed when all processes have ended.
    is_parting: bool,
}

impl Seat {
    /// Makes the participant's pipes, opens the port and starts a listener. What fails is tried again later.
    /// `stored` is a socket of theirs that an earlier supervisor had open.
    pub fn open(site: &Site, participant: Participant, stored: Option<TcpListener>, now: Instant) -> Self {
        let mut seat = Self::empty(participant, State::Starting, now);
        seat.take_stored(stored, site);
        seat.recall(site);
        seat.plan_expiry(now);
        seat.start(site, now);
        seat
    }

    /// A seat that stays empty until somebody asks to start it.
    pub fn parked(site: &Site, participant: Participant, now: Instant) -> Self {
        let mut seat = Self { is_parked: true, ..Self::empty(participant, State::Stopped, now) };
        seat.recall(site);
        seat.plan_expiry(now);
        seat
    }

    fn empty(participant: Participant, state: State, now: Instant) -> Self {
        let port = participant.port;
        Self {
            participant,
            gain: None,
            state,
            since: now,
            socket: None,
            port,
            current: None,
            successor: None,
            leaving: Vec::new(),
            wanted: 0,
            refused: None,
            backoff: RestartPolicy::default(),
            retry_at: None,
            restarts: 0,
            last_exit: None,
            report: None,
            note: None,
            presence: Presence::default(),
            waiting: None,
            entrance: None,
            link_fault: None,
            expiry_at: None,
            is_parked: false,
            is_parting: false,
        }
    }

    /// Whose seat it is, as the file said when it was last read.
    pub fn participant(&self) -> &Participant {
        &self.participant
    }

    /// The port that is served: the file's, or the one that was found for 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What pages show of the participant.
    pub fn member(&self, display: &str) -> Member {
        Member {
            hand: self.presence.hand(),
            voice: self.presence.voice(),
            ..Member::new(self.participant.name.clone(), display, self.presence.is_here())
        }
    }

    /// What the listener does.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether somebody has asked to stop it.
    pub fn is_parked(&self) -> bool {
        self.is_parked
    }

    /// Whether [`Self::part`] was called.
    pub fn is_parting(&self) -> bool {
        self.is_parting
    }

    /// Whether everything has ended after [`Self::part`].
    pub fn is_gone(&self) -> bool {
        self.is_parting && self.state == State::Stopped
    }

    /// The file says something else now, and the port that is served and the room are the same. True if the listener is to be replaced.
    pub fn change(&mut self, site: &Site, participant: Participant, now: Instant) -> bool {
        let old = std::mem::replace(&mut self.participant, participant);
        self.plan_expiry(now);
        self.recall(site);
        // One that is stopped may have no directory; starting writes it.
        if !self.is_parked
            && let Err(error) = self.write_gain(site)
        {
            log::warn!("{error}");
        }
        // The mixer reads the gain by itself, and the socket is inherited; a listener reads everything else, once.
        let Participant { port, gain_db, muted, .. } = old;
        let same = Participant { port, gain_db, muted, ..self.participant.clone() } == old;
        if !same {
            self.renew();
        }
        !same
    }

    /// The listener is to be replaced by one that reads the configuration again.
    pub fn renew(&mut self) {
        self.wanted += 1;
    }

    /// Starts a listener at once that has died or has been given up, and a successor that could not be started.
    /// True if there was one.
    pub fn try_again(&mut self, site: &Site, now: Instant) -> bool {
        if self.refused.take() == Some(self.wanted) && self.state.is_up() {
            self.settle(site, now);
            return true;
        }
        if !matches!(self.state, State::BackingOff | State::Failed) {
            return false;
        }
        self.backoff.forget();
        self.wake(Happening::StartAsked, site, now);
        true
    }

    /// Somebody wants something done, and to be told when it is. Stopping and kicking come before what others wait for.
    pub fn asked(&mut self, asked: Waiting, site: &Site, now: Instant) {
        let verb = asked.verb;
        if let Some(why) = verb.objection(self.state, self.waiting.as_ref().map(|waiting| waiting.verb)) {
            return asked.refused(&self.participant.name, why);
        }
        if let Some(earlier) = self.waiting.replace(asked) {
            earlier.refused(&self.participant.name, "somebody else asked to stop or kick it");
        }
        match verb {
            Verb::Restart => {
                self.renew();
                self.backoff.forget();
                self.try_again(site, now);
            }
            Verb::Start => self.unpark(site, now),
            Verb::Stop => {
                self.is_parked = true;
                self.stop(now, STOP_PATIENCE);
            }
            Verb::Kick => {
                if !self.kick(site, now)
                    && let Some(waiting) = self.waiting.take()
                {
                    // There is no process, or one that has not served yet.
                    waiting.done();
                }
            }
        }
        self.settle(site, now);
    }

    /// The supervisor ends: as [`Self::part`], but a port that is stored stays so, for the next one.
    pub fn end(&mut self, now: Instant) {
        self.socket = None;
        self.part(now);
    }

    /// Has the process read the certificate again.
    pub fn hang_up(&self) {
        if let Some(process) = self.current.iter().chain(&self.successor).find(|process| process.is_ready()) {
            process.hang_up();
        }
    }

    /// Ends everything, for good.
    pub fn part(&mut self, now: Instant) {
        self.leave_for_good(now, STOP_PATIENCE);
    }

    /// Ends everything, for good and without a farewell: who was shown out hears nothing from that moment on.
    pub fn cut(&mut self, now: Instant) {
        self.leave_for_good(now, Duration::ZERO);
        for process in self.processes_mut() {
            process.kill();
        }
    }

    fn leave_for_good(&mut self, now: Instant, patience: Duration) {
        self.is_parting = true;
        if self.waiting.as_ref().is_none_or(|waiting| waiting.verb != Verb::Stop) {
            self.refuse("it is being stopped");
        }
        self.stop(now, patience);
    }

    /// A process says something. False if it is not one of ours.
    pub fn notified(&mut self, pid: u32, message: &Message, site: &Site, now: Instant) -> bool {
        if self.current.as_ref().is_some_and(|process| process.pid() == pid) {
            self.hear(message, now);
            if let Some(process) = self.current.as_mut().filter(|process| message.ready && !process.is_ready()) {
                process.became_ready(now);
                log::info!("the listener of '{}' serves port {} as process {pid}", self.participant.name, self.port);
                self.happens(Happening::BecameReady, now);
            }
        } else if let Some(mut process) = self.successor.take_if(|process| process.pid() == pid) {
            if message.ready {
                process.became_ready(now);
                self.take_over(process, message, now);
            } else {
                self.successor = Some(process);
            }
        } else {
            return self.leaving.iter().any(|process| process.pid() == pid);
        }
        self.settle(site, now);
        true
    }

    /// Looks at every process, after SIGCHLD.
    pub fn reap(&mut self, site: &Site, now: Instant) {
        self.leaving.retain_mut(|process| process.ended().is_none());
        if let Some((process, ended)) = end_of(&mut self.successor) {
            self.refused = Some(process.generation);
            self.last_exit = Some(ended.to_string());
            self.refuse(&format!("the new listener has ended: {ended}; the old one goes on"));
        }
        if let Some((process, ended)) = end_of(&mut self.current) {
            if let Some(successor) = self.successor.take() {
                self.current = Some(successor);
                self.last_exit = Some(ended.to_string());
                self.happens(Happening::DiedBeforeItsSuccessor, now);
            } else {
                self.fell(&ended, process.ready_for(now), now);
            }
        }
        self.settle(site, now);
    }

    /// Does what is due.
    pub fn tick(&mut self, site: &Site, now: Instant) {
        self.presence.tick(now);
        for process in self.processes_mut() {
            process.kill_if_due(now);
        }
        if self.expiry_at.is_some_and(|at| at <= now) {
            self.expire(site, now);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.wake(Happening::RetryIsDue, site, now);
        }
        self.settle(site, now);
    }

    /// When [`Self::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.processes()
            .filter_map(Process::deadline)
            .chain(self.retry_at)
            .chain(self.expiry_at)
            .chain(self.presence.deadline())
            .min()
    }

    /// For `palabre status`.
    pub fn status(&self, now: Instant) -> ParticipantStatus {
        ParticipantStatus {
            name: self.participant.name.to_string(),
            display: self.participant.display().to_owned(),
            room: self.participant.room.to_string(),
            port: self.port,
            state: self.state,
            pid: self.current.as_ref().map(Process::pid),
            restarts: self.restarts,
            last_exit: self.last_exit.clone(),
            since_ms: u64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX),
            report: self.report.clone(),
            note: self.note.clone(),
            link: self.link_use(),
        }
    }

    /// Writes the room's `gain` when the file says something else than it did: by hand, another may be set meanwhile.
    fn write_gain(&mut self, site: &Site) -> Result<(), RoomError> {
        let new = gain(&self.participant);
        if new != self.gain {
            site.participant(&self.participant.room, &self.participant.name).set_gain(new)?;
            self.gain = new;
        }
        Ok(())
    }

    /// Takes over the listener's report, if the message has one.
    fn hear(&mut self, message: &Message, now: Instant) {
        let Some(status) = &message.status else { return };
        match ListenerReport::parse(status) {
            Ok(report) => {
                self.presence.update(&report, now);
                self.report = Some(report);
            }
            Err(error) => log::debug!("unable to read the report of '{}': {error}", self.participant.name),
        }
    }

    fn happens(&mut self, happening: Happening, now: Instant) -> bool {
        let Some(next) = after(self.state, happening) else {
            log::debug!("'{}' is {}: {happening:?} has no business there", self.participant.name, self.state);
            return false;
        };
        log::debug!("'{}': {} after {happening:?} is {next}", self.participant.name, self.state);
        self.state = next;
        self.since = now;
        true
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        self.current.iter().chain(&self.successor).chain(&self.leaving)
    }

    fn processes_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        self.current.iter_mut().chain(&mut self.successor).chain(&mut self.leaving)
    }
}

fn gain(participant: &Participant) -> Option<Gain> {
    if participant.muted { Some(Gain::Mute) } else { participant.gain_db.map(Gain::Db) }
}

fn end_of(process: &mut Option<Process>) -> Option<(Process, Ended)> {
    let ended = process.as_mut()?.ended()?;
    process.take().map(|process| (process, ended))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
