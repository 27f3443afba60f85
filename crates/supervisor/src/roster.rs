//! The roster: the services of all participants. The module `reload` changes them; the module `rooms` writes what the rooms show of them.
//!
//! If a participant's file is removed or names another room, the supervisor removes the participant's directory in the room. It never removes directories that were made by hand, and it removes no directory when it ends.

mod own_names;
mod reload;
mod rooms;

use std::collections::{BTreeMap, VecDeque};
use std::net::TcpListener;
use std::os::fd::BorrowedFd;
use std::time::{Instant, SystemTime};

use palabre_config::control::{Bridging, Daemon, MixerState, Mixing, ParticipantStatus, Response, State, Status};
use palabre_config::{ConfigError, Entrance, OwnName, Participant};
use palabre_host::inherit::Inherited;
use palabre_host::log_limit::LastWarning;
use palabre_host::notify::Message;
use palabre_host::packet::Packet;
use palabre_host::{clock, notify};
use palabre_room::{BridgeReport, Member, MixerReport, Name};

use crate::audit::{self, Author};
use crate::certificate;
use crate::config::Config;
use crate::departed;
use crate::launcher::News;
use crate::meetings::Meetings;
use crate::process::Process;
use crate::saved::{self, Saved};
use crate::service::{Pending, Service};

/// Maximum number of participants, guests included, whose mixer counters a status contains. The counters of one participant take about
/// 200 bytes, and the length of the status is limited to [`palabre_config::control::MAX_LINE_BYTES`].
const MAX_MIXED: usize = 2000;

/// The services of all participants.
#[derive(Debug)]
pub(crate) struct Roster {
    config: Config,
    services: BTreeMap<Name, Service>,
    /// Changed participants, with another port or room. Each gets a new service when the old service of the same name has ended. The
    /// socket of the new port is open already, if it could be opened beside the old one.
    next: BTreeMap<Name, (Participant, Option<TcpListener>)>,
    /// Participants of each room: login name and display name from the participant's file.
    rooms: BTreeMap<Name, Vec<(Name, String)>>,
    /// The display names that participants have chosen.
    own_names: BTreeMap<Name, String>,
    /// Content of each room's file `names` at the last write.
    written: BTreeMap<Name, Vec<Member>>,
    meetings: Meetings,
    /// Time of the last write of any file `names`.
    names_at: Option<Instant>,
    /// Time at which to write changed files `names`; `None` if no write waits.
    names_due: Option<Instant>,
    /// Time of the last comparison of the content of `names` with the files, and the participants' presence at this time.
    compared: Option<(Instant, u64)>,
    /// The last error of a write of `names`.
    names_warning: LastWarning,
    errors: Vec<String>,
    ending: bool,
    /// Start of this program, in ms since boot; see [`Daemon`].
    began_ms: u64,
    /// Participants whose listener is still to be replaced by a new process. They are replaced one by one.
    handover: VecDeque<Name>,
    /// The participant whose listener was replaced last in the present series of replacements.
    handed_over: Option<Name>,
    /// Why the last upgrade of the supervisor failed.
    alarm: Option<String>,
    /// Whether a mixer works; `None` while this is unknown.
    mixer: Option<MixerState>,
}

impl Roster {
    /// Reads the participants' files and starts a listener for each. An invalid file is logged, and its participant gets no listener.
    ///
    /// Uses the listening sockets of an earlier supervisor that systemd has kept. Removes unused sockets from systemd's store.
    pub(crate) fn open(config: Config, inherited: &mut Inherited, now: Instant) -> Self {
        let mut roster = Self::empty(config);
        let (participants, errors) = Participant::load_all(&roster.config.directory);
        roster.note_errors(&errors);
        departed::remove_directories(&roster.config, &participants);
        roster.make_rooms(&participants);
        roster.load_own_names();
        for participant in participants {
            let stored = inherited.tcp(participant.name.as_str());
            let socket = stored.and_then(|stored| Service::fitting(stored, &participant, &roster.config));
            let service = Service::open(&roster.config, participant, socket, now);
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
        let is_changed = roster.config.restore(&saved);
        for left in saved.services {
            let Ok(name) = left.name.parse::<Name>() else { continue };
            match Participant::from_toml(&name, &left.file) {
                Ok(participant) => {
                    let service = Service::restore(&roster.config, participant, left, inherited, now);
                    roster.services.insert(name, service);
                }
                Err(error) => log::error!("{error}"),
            }
        }
        roster.config.settings += u64::from(is_changed);
        roster.reload(&Author::Restart, now);
        roster.hand_over(true);
        roster.note_ends();
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
            own_names: BTreeMap::new(),
            written: BTreeMap::new(),
            meetings: Meetings::default(),
            names_at: None,
            names_due: None,
            compared: None,
            names_warning: LastWarning::default(),
            errors: Vec::new(),
            ending: false,
            began_ms: clock::boottime_ms(),
            handover: VecDeque::new(),
            handed_over: None,
            alarm: None,
            mixer: None,
        }
    }

    /// Returns the configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Performs a client's request to start, stop, restart or kick one service.
    pub(crate) fn request(&mut self, name: &Name, request: Pending, by: &Author, now: Instant) {
        match self.services.get_mut(name) {
            Some(service) => {
                audit::participant(name, &format!("{} requested", request.action), by);
                service.request(request, &self.config, now);
            }
            None => request.refused(name, "there is no such participant; 'palabre status' lists all participants"),
        }
    }

    /// Stores that a participant's link was used, as reported by the listener with process id `pid`.
    pub(crate) fn enter(&mut self, pid: u32, entrance: Entrance) -> Response {
        let Some((name, service)) = self.services.iter_mut().find(|(_, service)| service.has(pid)) else {
            return Response::Refused {
                why: format!(
                    "refused to use an invitation link: the request came from process {pid}, which is not a listener of this supervisor; restart the listener"
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

    /// Notes which listeners have ended. Call this after SIGCHLD. Call [`Self::reap`] when all notifications that have arrived until now
    /// were handled.
    pub(crate) fn note_ends(&mut self) {
        self.services.values_mut().for_each(Service::note_ends);
    }

    /// Notes which listeners of the launcher have ended. Call [`Self::reap`] when all notifications that have arrived until now were handled.
    pub(crate) fn note_news(&mut self, news: &News) {
        self.services.values_mut().flat_map(Service::processes_mut).for_each(|process| process.note_news(news));
    }

    /// Starts the listeners that wait for a launcher.
    pub(crate) fn launcher_connected(&mut self, now: Instant) {
        for service in self.services.values_mut() {
            service.launcher_connected(now);
        }
    }

    /// Reaps the listeners whose end was noted.
    pub(crate) fn reap(&mut self, now: Instant) {
        for service in self.services.values_mut() {
            service.reap(&self.config, now);
        }
    }

    /// Starts to replace listeners one by one: those with earlier settings and, if `programs`, those that run an older program.
    pub(crate) fn hand_over(&mut self, programs: bool) {
        let is_stale = |service: &Service| {
            service.is_behind(&self.config) || (programs && service.is_of_an_older_program(&self.config))
        };
        let stale = self
            .services
            .iter()
            .filter(|(name, service)| !service.is_ending() && is_stale(service) && !self.handover.contains(name));
        let stale: Vec<Name> = stale.map(|(name, _)| name.clone()).collect();
        self.handover.extend(stale);
        if !self.handover.is_empty() {
            log::info!(
                "listeners to replace one by one, because their program or configuration has changed: {}",
                self.handover.len()
            );
        }
    }

    /// Replaces the next listener of the series if the previous replacement is complete. The first failure ends the series.
    fn hand_over_next(&mut self, now: Instant) {
        if self.handover.is_empty() || !self.is_idle() {
            return;
        }
        let last = self.handed_over.take();
        if let Some(name) = last.filter(|name| self.services.get(name).is_some_and(Service::is_refused)) {
            log::error!(
                "unable to replace the listener of '{name}'; further listeners that keep the previous settings or program: {}; correct the cause, then run 'palabre restart --all'",
                self.handover.len()
            );
            self.handover.clear();
        }
        while let Some(name) = self.handover.front() {
            let config = &self.config;
            let is_stale = |service: &Service| service.is_behind(config) || service.is_of_an_older_program(config);
            let service = self.services.get_mut(name).filter(|service| !service.is_ending() && is_stale(service));
            match service {
                Some(service) if service.state() == State::Starting => return,
                Some(service) if service.state().is_up() => {
                    service.request_successor();
                    service.tick(config, now);
                    self.handed_over = self.handover.pop_front();
                    return;
                }
                _ => drop(self.handover.pop_front()),
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
            services: self.services.values().map(|service| service.save(&self.config, now)).collect(),
            recordings: Vec::new(),
            signer: None,
            launcher: None,
        }
    }

    /// Returns the process id of each listener, and the signer's end of its connection to the signer.
    pub(crate) fn signer_ends(&self) -> impl Iterator<Item = (u32, &Packet)> {
        self.services.values().filter_map(Service::signer_end)
    }

    /// Returns the configuration, and all listener processes with their participants.
    pub(crate) fn config_and_listeners(&mut self) -> (&Config, impl Iterator<Item = (&Name, &mut Process)>) {
        let services = self.services.iter_mut();
        let listeners =
            services.flat_map(|(name, service)| service.processes_mut().map(move |process| (name, process)));
        (&self.config, listeners)
    }

    /// Returns the open listening sockets, by participant.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = (&Name, BorrowedFd<'_>)> {
        self.services.iter().filter_map(|(name, service)| Some((name, service.socket()?)))
    }

    /// Sets or clears the message about a failed upgrade that `palabre status` shows.
    pub(crate) fn set_alarm(&mut self, alarm: Option<String>) {
        self.alarm = alarm;
    }

    /// Notes whether a mixer works: in the status, and by a mark in each room's directory, which pages show.
    pub(crate) fn set_mixer(&mut self, state: MixerState) {
        if self.ending {
            // At its end, the supervisor has removed the marks already. It makes no new ones, since nothing would remove them.
            return;
        }
        match state {
            MixerState::Running if self.mixer.is_none() => {}
            MixerState::Running => log::info!("the mixer runs again"),
            MixerState::Stopped => {
                log::error!("the mixer's process is stopped, so all rooms are silent; continue it with SIGCONT");
            }
            MixerState::Missing => log::error!("no mixer runs, so all rooms are silent; start palabre-mixer"),
        }
        self.mixer = Some(state);
        self.rooms.keys().for_each(|room| self.mark(room));
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
        self.end_meetings(now);
    }

    /// Returns the time at which to call [`Self::tick`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.services.values().filter_map(Service::deadline).chain(self.names_due).chain(self.meetings.deadline()).min()
    }

    /// Starts to end all services. [`Self::is_empty`] returns true when all of them have ended.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.ending = true;
        self.next.clear();
        self.rooms.keys().for_each(|room| self.set_mark(room, false));
        for service in self.services.values_mut().filter(|service| !service.is_ending()) {
            service.end(now);
        }
        self.tick(now);
    }

    /// Whether all services have ended.
    pub(crate) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Returns the status for `palabre status`, without the signer and the recordings. `of_key` says why the signer can't use the certificate with
    /// its key.
    pub(crate) fn status(&self, of_key: Option<&str>, now: Instant) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            supervisor: Some(Daemon { pid: std::process::id(), began_ms: self.began_ms }),
            participants: self.services.values().map(|service| self.participant_status(service, now)).collect(),
            certificate: Some(certificate::status(&self.config.server, of_key, SystemTime::now())),
            signer: None,
            mixer: self.mixer,
            mixing: self.mixing(),
            bridge: self.bridge(),
            recordings: Vec::new(),
            storage: None,
            errors: self.errors.iter().cloned().chain(self.alarms()).collect(),
        }
    }

    fn participant_status(&self, service: &Service, now: Instant) -> ParticipantStatus {
        let mut status = service.status(now);
        let name = &service.participant().name;
        let shown = self.shown_name(name, &status.display).to_owned();
        status.display_chosen = shown != status.display;
        status.display = shown;
        let waits = self.handover.contains(name);
        status.pending |= waits || self.next.contains_key(name);
        if !waits && service.state().is_up() && service.is_behind(&self.config) {
            let why = "the replacements ended when the listener of another participant could not be replaced; fix the cause of \
                 that, then run 'palabre reload'";
            let other = || format!("unable to replace the listener of '{name}' by a newer one: {why}");
            status.kept.get_or_insert_with(other);
        }
        status
    }

    /// Returns messages about faults outside the configuration: settings that can't be used, failed upgrades and replacements, refused
    /// certificates, unreadable link files.
    fn alarms(&self) -> impl Iterator<Item = String> {
        let kept = self.services.values().filter_map(Service::kept);
        let links = self.services.values().filter_map(Service::link_fault).map(str::to_owned);
        self.config.refused.iter().chain(&self.alarm).cloned().chain(kept).chain(links)
    }

    /// Returns the mixer's counters.
    fn mixing(&self) -> Option<Mixing> {
        let report = MixerReport::read(&self.config.run.join("rooms"));
        let report = report.inspect_err(|error| log::debug!("{error}")).ok().flatten()?;
        Some(Mixing::from(report.at_most(MAX_MIXED)))
    }

    /// Returns the connections with other machines.
    fn bridge(&self) -> Option<Bridging> {
        let report = BridgeReport::read(&self.config.run.join("rooms"));
        report.inspect_err(|error| log::debug!("{error}")).ok().flatten().map(Bridging::from)
    }

    /// Returns a summary for `systemctl status`: `ready: 3 of 4, failed: 1`.
    pub(crate) fn summary(&self) -> String {
        let count = |state| self.services.values().filter(|service| service.state() == state).count();
        let ready = count(State::Ready) + count(State::Serving);
        let failed = match count(State::Failed) {
            0 => String::new(),
            failed => format!(", failed: {failed}"),
        };
        let bad = match self.errors.len() + self.config.refused.len() {
            0 => String::new(),
            bad => format!(", faults in the configuration: {bad}"),
        };
        format!("ready: {ready} of {}{failed}{bad}", self.services.len())
    }

    /// Adds a service. `socket` is the listening socket of the participant's port, if it is open already.
    fn add(&mut self, participant: Participant, socket: Option<TcpListener>, is_stopped: bool, now: Instant) {
        let name = participant.name.clone();
        let service = if is_stopped {
            Service::stopped(&self.config, participant, now)
        } else {
            Service::open(&self.config, participant, socket, now)
        };
        self.services.insert(name, service);
    }

    /// Removes a service that has ended. Also removes the participant's directory, unless the next service of the participant uses it.
    fn remove(&mut self, name: &Name, now: Instant) {
        let Some(service) = self.services.remove(name) else {
            return;
        };
        let next = self.next.remove(name);
        if next.is_none() && !self.ending {
            self.remove_records(service.participant());
        }
        let room = &service.participant().room;
        let used_again = next.as_ref().is_some_and(|(next, _)| next.room == *room);
        if !self.ending
            && !used_again
            && let Err(error) = self.config.participant(room, name).remove()
        {
            log::warn!("{error}");
        }
        if let Some((next, socket)) = next {
            self.add(next, socket, service.is_stopped(), now);
        }
    }

    /// Deletes the stored use of a removed participant's link, and the chosen display name. A new invitation with the same login name has a new
    /// link.
    fn remove_records(&self, removed: &Participant) {
        let name = &removed.name;
        let link = removed.key_once.then(|| Entrance::remove(&self.config.links, name));
        let own_name = OwnName::remove(&self.config.names, name);
        for error in link.into_iter().chain([own_name]).filter_map(Result::err) {
            log::warn!("{error}");
        }
    }

    fn note_errors(&mut self, errors: &[ConfigError]) {
        self.errors = errors.iter().map(ToString::to_string).collect();
        for error in &self.errors {
            log::error!("{error}");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
