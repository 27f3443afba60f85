//! The roster: the services of all participants, and how a reload changes them.
//!
//! If a participant's file is removed or names another room while the supervisor runs, the supervisor removes the participant's directory
//! in the room. It never removes directories that were made by hand, and it removes no directory when it ends.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant, SystemTime};

use palabre_config::control::{Changes, Daemon, Mixing, Response, State, Status};
use palabre_config::{ConfigError, Entrance, Participant};
use palabre_host::inherit::Inherited;
use palabre_host::log_limit::LastWarning;
use palabre_host::notify::Message;
use palabre_host::{clock, notify};
use palabre_room::{Member, MixerReport, Name};

use crate::certificate;
use crate::config::{Changed, Config};
use crate::saved::{self, Saved};
use crate::service::{Pending, Service};

/// Minimum time between two writes of `names`.
const NAMES_INTERVAL: Duration = Duration::from_millis(250);
/// Interval after which a failed write of `names` is repeated.
const NAMES_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of participants, guests included, whose mixer counters a status contains. The counters of one participant take about
/// 200 bytes, and the length of the status is limited to [`palabre_config::control::MAX_LINE_BYTES`].
const MAX_MIXED: usize = 2000;

/// The services of all participants.
#[derive(Debug)]
pub(crate) struct Roster {
    config: Config,
    services: BTreeMap<Name, Service>,
    /// Changed participants, with another port or room. Each gets a new service when the old service of the same name has ended.
    next: BTreeMap<Name, Participant>,
    /// Participants of each room: login name and display name from the participant's file.
    rooms: BTreeMap<Name, Vec<(Name, String)>>,
    /// Content of each room's file `names` at the last write.
    written: BTreeMap<Name, Vec<Member>>,
    /// Time of the last write of any file `names`.
    names_at: Option<Instant>,
    /// Time at which to write changed files `names`; `None` if no write waits.
    names_due: Option<Instant>,
    /// The last error of a write of `names`.
    names_warning: LastWarning,
    errors: Vec<String>,
    ending: bool,
    /// Start of this program, in ms since boot; see [`Daemon`].
    began_ms: u64,
    /// Participants whose listener is still to be replaced by a new process. They are replaced one by one.
    handover: VecDeque<Name>,
    /// Why the last upgrade of the supervisor or its listeners failed.
    alarm: Option<String>,
}

impl Roster {
    /// Reads the participants' files and starts a listener for each. An invalid file is logged and ignored.
    ///
    /// Uses the listening sockets of an earlier supervisor that systemd has kept. Removes unused sockets from systemd's store.
    pub(crate) fn open(config: Config, inherited: &mut Inherited, now: Instant) -> Self {
        let mut roster = Self::empty(config);
        let (participants, errors) = Participant::load_all(&roster.config.directory);
        roster.note_errors(&errors);
        roster.make_rooms(&participants);
        for participant in participants {
            let stored = inherited.tcp(participant.name.as_str());
            let service = Service::open(&roster.config, participant, stored, now);
            roster.services.insert(service.participant().name.clone(), service);
        }
        inherited.names().for_each(notify::unstore);
        roster.write_names(now);
        roster
    }

    /// Takes over the services of the previous program. Then reads the configuration again, and replaces one by one the listeners that run
    /// an older program or have an older configuration.
    pub(crate) fn restore(config: Config, saved: Saved, inherited: &mut Inherited, now: Instant) -> Self {
        let mut roster = Self::empty(config);
        let stale = roster.config.restore(&saved);
        for left in saved.services {
            let Ok(name) = left.name.parse::<Name>() else { continue };
            let socket = inherited.tcp(name.as_str());
            match Participant::from_toml(&name, &left.file) {
                Ok(participant) => {
                    let service = Service::restore(&roster.config, participant, left, socket, now);
                    roster.services.insert(name, service);
                }
                Err(error) => log::error!("{error}"),
            }
        }
        roster.reload(now);
        roster.hand_over(stale);
        roster.reap(now);
        roster.tick(now);
        roster
    }

    /// Makes a roster without services.
    fn empty(config: Config) -> Self {
        Self {
            config,
            services: BTreeMap::new(),
            next: BTreeMap::new(),
            rooms: BTreeMap::new(),
            written: BTreeMap::new(),
            names_at: None,
            names_due: None,
            names_warning: LastWarning::default(),
            errors: Vec::new(),
            ending: false,
            began_ms: clock::boottime_ms(),
            handover: VecDeque::new(),
            alarm: None,
        }
    }

    /// Returns the configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Reads `palabre.toml` and the participants' files again and applies the changes. Returns the changes, which may still be in progress;
    /// `palabre status` shows when they are complete.
    ///
    /// If a participant's file has become invalid, the participant keeps the previous settings.
    pub(crate) fn reload(&mut self, now: Instant) -> Changes {
        let before = self.config.server.bind;
        let changed = self.config.reload();
        let (participants, mut errors) = Participant::load_all(&self.config.directory);
        let Changed { server: all_change, certificate } = *changed.as_ref().unwrap_or(&Changed::default());
        errors.extend(changed.err());
        self.note_errors(&errors);
        let mut changes = Changes::default();
        self.stop_removed(&participants, &errors, now, &mut changes);
        self.make_rooms(&participants);
        let rebind = self.config.server.bind != before;
        for participant in participants {
            self.update(participant, all_change, rebind, now, &mut changes);
        }
        if certificate {
            log::info!("the certificate or its key has changed: every listener reads them again");
            self.services.values().for_each(Service::hang_up);
        }
        changes.certificate = certificate;
        // Write `names` without the interval, so that the files are current when the client gets the answer.
        self.names_at = None;
        self.tick(now);
        changes.errors.clone_from(&self.errors);
        changes
    }

    /// Performs a client's request to start, stop, restart or kick one service.
    pub(crate) fn request(&mut self, name: &Name, request: Pending, now: Instant) {
        match self.services.get_mut(name) {
            Some(service) => service.request(request, &self.config, now),
            None => request.refused(name, "there is no such participant; 'palabre status' lists all participants"),
        }
    }

    /// Stores that a participant's link was used, as reported by the listener with process id `pid`.
    pub(crate) fn enter(&mut self, pid: u32, entrance: Entrance) -> Response {
        let Some((name, service)) = self.services.iter_mut().find(|(_, service)| service.has(pid)) else {
            return Response::Refused {
                why: format!(
                    "refused to use an invitation link: the request came from process {pid}, which is not a listener of this supervisor"
                ),
            };
        };
        match service.enter(pid, entrance, &self.config) {
            Ok(()) => Response::Ok,
            Err(cause) => Response::Refused { why: format!("refused the link of '{name}': {cause}") },
        }
    }

    /// Passes a notification to the service whose listener has process id `pid`. Returns false if no listener has it.
    pub(crate) fn notified(&mut self, pid: u32, message: &Message, now: Instant) -> bool {
        self.services.values_mut().any(|service| service.notified(pid, message, &self.config, now))
    }

    /// Reaps the listeners that have ended, after SIGCHLD.
    pub(crate) fn reap(&mut self, now: Instant) {
        for service in self.services.values_mut() {
            service.reap(&self.config, now);
        }
    }

    /// Starts to replace listeners one by one: all of them if `all`, otherwise those that run an older program.
    pub(crate) fn hand_over(&mut self, all: bool) {
        let stale = self.services.iter().filter(|(_, service)| {
            service.state().is_up() && (all || service.is_of_an_older_program(&self.config)) && !service.is_ending()
        });
        self.handover = stale.map(|(name, _)| name.clone()).collect();
        if !self.handover.is_empty() {
            log::info!(
                "replacing {} listeners one by one, because their program or configuration is newer",
                self.handover.len()
            );
        }
    }

    /// Replaces the next listener of the series if the previous replacement is complete. The first failure ends the series.
    fn hand_over_next(&mut self, now: Instant) {
        if self.handover.is_empty() || !self.is_idle() {
            return;
        }
        if let Some((name, _)) = self.services.iter().find(|(_, service)| service.is_refused()) {
            let left = self.handover.len();
            self.alarm = Some(format!(
                "unable to replace the listener of '{name}' by a newer one; this listener and {left} others were not replaced; see the listener's log, fix the cause and run 'palabre restart --all'"
            ));
            self.handover.clear();
        }
        while let Some(name) = self.handover.pop_front() {
            if let Some(service) =
                self.services.get_mut(&name).filter(|service| service.state().is_up() && !service.is_ending())
            {
                service.request_successor();
                service.tick(&self.config, now);
                return;
            }
        }
    }

    /// Whether no start, stop or handover of a listener is in progress, so that the supervisor's program can be replaced.
    pub(crate) fn is_idle(&self) -> bool {
        self.next.is_empty() && self.services.values().all(Service::is_idle)
    }

    /// Returns the state for the next program, without the recordings. The roster must be idle.
    pub(crate) fn save(&self, now: Instant) -> Saved {
        Saved {
            version: saved::VERSION,
            server: self.config.server_text(),
            server_file: Some(self.config.server_file.clone()),
            format: self.config.server.format.to_string(),
            certificate: self.config.certificate(),
            services: self.services.values().map(|service| service.save(now)).collect(),
            recordings: Vec::new(),
        }
    }

    /// Returns the open listening sockets, by participant.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = (&Name, BorrowedFd<'_>)> {
        self.services.iter().filter_map(|(name, service)| Some((name, service.socket()?)))
    }

    /// Sets or clears the message about a failed upgrade that `palabre status` shows.
    pub(crate) fn set_alarm(&mut self, alarm: Option<String>) {
        self.alarm = alarm;
    }

    /// Does everything whose time has come: handles timeouts, replaces listeners, removes ended services, writes `names`.
    pub(crate) fn tick(&mut self, now: Instant) {
        for service in self.services.values_mut() {
            service.tick(&self.config, now);
        }
        self.hand_over_next(now);
        let gone: Vec<Name> =
            self.services.iter().filter(|(_, service)| service.is_gone()).map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.remove(&name, now);
        }
        self.write_names(now);
    }

    /// Returns the time at which to call [`Self::tick`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.services.values().filter_map(Service::deadline).chain(self.names_due).min()
    }

    /// Starts to end all services. [`Self::is_empty`] returns true when all of them have ended.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.ending = true;
        self.next.clear();
        for service in self.services.values_mut().filter(|service| !service.is_ending()) {
            service.end(now);
        }
        self.tick(now);
    }

    /// Whether all services have ended.
    pub(crate) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Returns the status for `palabre status`.
    pub(crate) fn status(&self, now: Instant) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            supervisor: Some(Daemon { pid: std::process::id(), began_ms: self.began_ms }),
            participants: self.services.values().map(|service| service.status(now)).collect(),
            certificate: Some(certificate::status(&self.config.server, SystemTime::now())),
            mixing: self.mixing(),
            errors: self.errors.iter().cloned().chain(self.alarms()).collect(),
        }
    }

    /// Returns messages about faults outside the configuration: failed upgrades, refused certificates, unreadable link files.
    fn alarms(&self) -> impl Iterator<Item = String> {
        let refuses = |(name, service): (&Name, &Service)| {
            service.refuses_the_certificate().then(|| {
                format!("unable to use the renewed certificate in the listener of '{name}': the listener keeps the previous certificate; see the listener's log")
            })
        };
        let links = self.services.values().filter_map(Service::link_fault).map(str::to_owned);
        self.alarm.iter().cloned().chain(self.services.iter().filter_map(refuses)).chain(links)
    }

    /// Returns the mixer's counters.
    fn mixing(&self) -> Option<Mixing> {
        let report = MixerReport::read(&self.config.run.join("rooms"));
        let report = report.inspect_err(|error| log::debug!("{error}")).ok().flatten()?;
        Some(Mixing::from(report.at_most(MAX_MIXED)))
    }

    /// Returns a summary for `systemctl status`: `ready: 3 of 4, failed: 1`.
    pub(crate) fn summary(&self) -> String {
        let count = |state| self.services.values().filter(|service| service.state() == state).count();
        let ready = count(State::Ready) + count(State::Serving);
        let failed = match count(State::Failed) {
            0 => String::new(),
            failed => format!(", failed: {failed}"),
        };
        let bad = match self.errors.len() {
            0 => String::new(),
            bad => format!(", faults in the configuration: {bad}"),
        };
        format!("ready: {ready} of {}{failed}{bad}", self.services.len())
    }

    fn add(&mut self, participant: Participant, is_stopped: bool, now: Instant) {
        let name = participant.name.clone();
        let service = if is_stopped {
            Service::stopped(&self.config, participant, now)
        } else {
            Service::open(&self.config, participant, None, now)
        };
        self.services.insert(name, service);
    }

    /// Removes a service that has ended. Also removes the participant's directory, unless the next service of the participant uses it.
    fn remove(&mut self, name: &Name, now: Instant) {
        let Some(service) = self.services.remove(name) else {
            return;
        };
        let next = self.next.remove(name);
        // Delete the stored use of a removed participant's link. If the participant is invited again, the link is a new one.
        if next.is_none()
            && !self.ending
            && service.participant().key_once
            && let Err(error) = Entrance::remove(&self.config.links, name)
        {
            log::warn!("{error}");
        }
        let room = &service.participant().room;
        let used_again = next.as_ref().is_some_and(|next| next.room == *room);
        if !self.ending
            && !used_again
            && let Err(error) = self.config.participant(room, name).remove()
        {
            log::warn!("{error}");
        }
        if let Some(next) = next {
            self.add(next, service.is_stopped(), now);
        }
    }

    fn stop_removed(
        &mut self,
        participants: &[Participant],
        errors: &[ConfigError],
        now: Instant,
        changes: &mut Changes,
    ) {
        for (name, service) in &mut self.services {
            let path = Participant::path(&self.config.directory, name);
            let has_a_file = participants.iter().any(|participant| participant.name == *name)
                || errors.iter().any(|error| error.path() == path);
            // If the directory of the files can't be read, keep all participants.
            let unknown = errors.iter().any(|error| path.parent() == Some(error.path()));
            if has_a_file || unknown {
                continue;
            }
            self.next.remove(name);
            if !service.is_ending() {
                service.remove_at_once(now);
                changes.stopped.push(name.to_string());
            }
        }
    }

    fn update(&mut self, new: Participant, all_change: bool, rebind: bool, now: Instant, changes: &mut Changes) {
        let name = new.name.clone();
        let Some(service) = self.services.get_mut(&name) else {
            changes.started.push(name.to_string());
            return self.add(new, false, now);
        };
        let is_stopped = service.is_stopped();
        let old = service.participant();
        // Port 0 means a port chosen by the kernel. If the file now names that port, the port stays the same.
        let same_port = old.port == new.port || (old.port == 0 && new.port == service.port());
        let moves = rebind || !same_port || old.room != new.room;
        if service.is_ending() {
            changes.started.push(name.to_string());
            self.next.insert(name, new);
        } else if moves {
            // A service that an operator stopped remains stopped after its port or room has changed.
            changes.restarted.extend((!is_stopped).then(|| name.to_string()));
            service.remove(now);
            self.next.insert(name, new);
        } else {
            let replaced = service.change(&self.config, new, now) && !is_stopped;
            let all_change = all_change && !is_stopped;
            if all_change && !replaced {
                service.request_successor();
            }
            if service.try_again(&self.config, now) {
                changes.started.push(name.to_string());
            } else if replaced || all_change {
                changes.restarted.push(name.to_string());
            }
        }
    }

    /// Creates the directory of each room that a participant's file names.
    fn make_rooms(&mut self, participants: &[Participant]) {
        // Keep rooms whose last participant has left, so that their files `names` become empty.
        self.rooms.values_mut().for_each(Vec::clear);
        for participant in participants {
            let member = (participant.name.clone(), participant.display().to_owned());
            self.rooms.entry(participant.room.clone()).or_default().push(member);
        }
        for name in self.rooms.keys() {
            if let Err(error) = self.config.make_room(name) {
                log::error!("{error}");
                self.errors.push(error.to_string());
            }
        }
    }

    /// Writes each room's file `names` if its content has changed. Writes at most once per [`NAMES_INTERVAL`], since pages may change their
    /// state at any rate.
    fn write_names(&mut self, now: Instant) {
        if self.names_at.is_some_and(|at| now < at + NAMES_INTERVAL) {
            self.names_due = self.names_at.map(|at| at + NAMES_INTERVAL);
            return;
        }
        self.names_due = None;
        let mut failure = None;
        for (room, members) in &self.rooms {
            let member = |(name, display): &(Name, String)| match self.services.get(name) {
                Some(service) => service.member(display),
                None => Member::new(name.clone(), display.clone(), false),
            };
            let members: Vec<Member> = members.iter().map(member).collect();
            if self.written.get(room) == Some(&members) {
                continue;
            }
            self.names_at = Some(now);
            match self.config.room(room).write_names(&members) {
                Ok(()) => _ = self.written.insert(room.clone(), members),
                Err(error) => failure = Some(error.to_string()),
            }
        }
        self.note_names(failure, now);
    }

    /// Logs a failed write of `names` once, and repeats it after [`NAMES_RETRY_INTERVAL`].
    fn note_names(&mut self, failure: Option<String>, now: Instant) {
        let Some(failure) = failure else {
            self.names_warning.clear();
            return;
        };
        if let Some(text) = self.names_warning.unless_repeated(failure) {
            log::error!("{text}");
        }
        self.names_at = Some(now + NAMES_RETRY_INTERVAL - NAMES_INTERVAL);
        self.names_due = Some(now + NAMES_RETRY_INTERVAL);
    }

    fn note_errors(&mut self, errors: &[ConfigError]) {
        self.errors = errors.iter().map(ToString::to_string).chain(self.config.deferred.clone()).collect();
        for error in &self.errors {
            log::error!("{error}");
        }
    }
}
