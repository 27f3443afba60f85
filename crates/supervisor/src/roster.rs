//! All seats, and what a reload changes about them.
//!
//! A participant's directory in a room is removed when its file is removed, or names another room, while this process
//! runs. Directories that no file ever stood for, made by hand, are left alone, and so are all when this process ends.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant, SystemTime};

use palabre_config::control::{Changes, Daemon, Mixing, Response, State, Status};
use palabre_config::{ConfigError, Entrance, Participant};
use palabre_host::inherit::Inherited;
use palabre_host::notify::Message;
use palabre_host::{clock, notify};
use palabre_room::{Member, MixerReport, Name};

use crate::certificate;
use crate::estate::{self, Estate};
use crate::seat::{Seat, Waiting};
use crate::site::{Reread, Site};

/// How often `names` is written at most.
const NAMES_EVERY: Duration = Duration::from_millis(250);

/// Of how many the mixer's counts are passed on, guests included: some 200 bytes each, and an answer has a maximum
/// ([`palabre_config::control::MAX_LINE_BYTES`]).
const MAX_MIXED: usize = 2000;

/// Everybody.
#[derive(Debug)]
pub struct Roster {
    site: Site,
    seats: BTreeMap<Name, Seat>,
    /// Who takes the seat of the same name when it is empty: the port or the room is another.
    next: BTreeMap<Name, Participant>,
    /// Who belongs to which room, as the files say: login name and display name.
    rooms: BTreeMap<Name, Vec<(Name, String)>>,
    /// What stands in each room's `names`.
    written: BTreeMap<Name, Vec<Member>>,
    /// When a `names` was written last, and when to look again.
    names_at: Option<Instant>,
    names_due: Option<Instant>,
    errors: Vec<String>,
    ending: bool,
    /// When this program began, see [`Daemon`].
    began_ms: u64,
    /// Whose listener is to be handed over to a newer program, one by one.
    handover: VecDeque<Name>,
    /// What could not be replaced by something newer, and why.
    alarm: Option<String>,
}

impl Roster {
    /// Reads the participants' files and starts a listener for each. A bad file is logged and passed over.
    ///
    /// Sockets that an earlier supervisor had open are used again; those that are nobody's any more are forgotten.
    pub fn open(site: Site, inherited: &mut Inherited, now: Instant) -> Self {
        let mut roster = Self::empty(site);
        let (participants, errors) = Participant::load_all(&roster.site.config);
        roster.note_errors(&errors);
        roster.make_rooms(&participants);
        for participant in participants {
            let stored = inherited.tcp(participant.name.as_str());
            let seat = Seat::open(&roster.site, participant, stored, now);
            roster.seats.insert(seat.participant().name.clone(), seat);
        }
        inherited.names().for_each(notify::unstore);
        roster.write_names(now);
        roster
    }

    /// Everybody as the program before us has left them; then all files are read again, and listeners that run an older
    /// program or have an older configuration are replaced, one by one.
    pub fn inherit(site: Site, estate: Estate, inherited: &mut Inherited, now: Instant) -> Self {
        let mut roster = Self::empty(site);
        let stale = roster.site.inherit(&estate);
        for left in estate.seats {
            let Ok(name) = left.name.parse::<Name>() else { continue };
            let socket = inherited.tcp(name.as_str());
            match Participant::from_toml(&name, &left.file) {
                Ok(participant) => {
                    let seat = Seat::inherit(&roster.site, participant, left, socket, now);
                    roster.seats.insert(name, seat);
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

    /// Nobody.
    fn empty(site: Site) -> Self {
        Self {
            site,
            seats: BTreeMap::new(),
            next: BTreeMap::new(),
            rooms: BTreeMap::new(),
            written: BTreeMap::new(),
            names_at: None,
            names_due: None,
            errors: Vec::new(),
            ending: false,
            began_ms: clock::boottime_ms(),
            handover: VecDeque::new(),
            alarm: None,
        }
    }

    /// Where everything is.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Reads all files again and does what they say. The answer says what will change; `status` shows when it has.
    ///
    /// A participant whose file is there and bad goes on as before.
    pub fn reload(&mut self, now: Instant) -> Changes {
        let before = self.site.server.bind;
        let reread = self.site.reload();
        let (participants, mut errors) = Participant::load_all(&self.site.config);
        let Reread { server: all_change, certificate } = *reread.as_ref().unwrap_or(&Reread::default());
        errors.extend(reread.err());
        self.note_errors(&errors);
        let mut changes = Changes::default();
        self.stop_who_is_gone(&participants, &errors, now, &mut changes);
        self.make_rooms(&participants);
        let rebind = self.site.server.bind != before;
        for participant in participants {
            self.update(participant, all_change, rebind, now, &mut changes);
        }
        if certificate {
            log::info!("the certificate or its key is another file: every listener reads them");
            self.seats.values().for_each(Seat::hang_up);
        }
        changes.certificate = certificate;
        // Whoever asked finds it done.
        self.names_at = None;
        self.tick(now);
        changes.errors.clone_from(&self.errors);
        changes
    }

    /// Somebody wants something done about one listener.
    pub fn asked(&mut self, name: &Name, asked: Waiting, now: Instant) {
        match self.seats.get_mut(name) {
            Some(seat) => seat.asked(asked, &self.site, now),
            None => asked.refused(name, "no such participant; 'palabre status' lists them"),
        }
    }

    /// Somebody has used the link of the listener that is the process `pid`.
    pub fn enter(&mut self, pid: u32, entrance: Entrance) -> Response {
        let Some((name, seat)) = self.seats.iter_mut().find(|(_, seat)| seat.has(pid)) else {
            return Response::Refused {
                why: format!("unable to let anybody in for process {pid}: not a listener of ours"),
            };
        };
        match seat.enter(pid, entrance, &self.site) {
            Ok(()) => Response::Ok,
            Err(cause) => Response::Refused { why: format!("unable to let in by the link of '{name}': {cause}") },
        }
    }

    /// A child says something.
    pub fn notified(&mut self, pid: u32, message: &Message, now: Instant) {
        let known = self.seats.values_mut().any(|seat| seat.notified(pid, message, &self.site, now));
        if !known {
            log::debug!("process {pid}, which is not a listener of ours, says {message:?}");
        }
    }

    /// Looks at every child, after SIGCHLD.
    pub fn reap(&mut self, now: Instant) {
        for seat in self.seats.values_mut() {
            seat.reap(&self.site, now);
        }
    }

    /// Hands the listeners over that run an older program, or all of them, one by one.
    pub fn hand_over(&mut self, all: bool) {
        let stale = self.seats.iter().filter(|(_, seat)| {
            seat.state().is_up() && (all || seat.is_of_an_older_program(&self.site)) && !seat.is_parting()
        });
        self.handover = stale.map(|(name, _)| name.clone()).collect();
        if !self.handover.is_empty() {
            log::info!("handing {} listeners over to a newer program or configuration", self.handover.len());
        }
    }

    /// Begins the next one of [`Self::hand_over`] when the one before is done. The first that can't be done ends it.
    fn hand_the_next_over(&mut self, now: Instant) {
        if self.handover.is_empty() || !self.is_at_rest() {
            return;
        }
        if let Some((name, _)) = self.seats.iter().find(|(_, seat)| seat.is_refused()) {
            let left = self.handover.len();
            self.alarm = Some(format!(
                "unable to hand the listener of '{name}' over to a newer one; it and {left} others stay as they were; \
                 its reasons are in the log; mend it and run 'palabre restart --all'"
            ));
            self.handover.clear();
        }
        while let Some(name) = self.handover.pop_front() {
            if let Some(seat) = self.seats.get_mut(&name).filter(|seat| seat.state().is_up() && !seat.is_parting()) {
                seat.renew();
                seat.tick(&self.site, now);
                return;
            }
        }
    }

    /// Whether nothing is going on that only this program could finish.
    pub fn is_at_rest(&self) -> bool {
        self.next.is_empty() && self.seats.values().all(Seat::is_at_rest)
    }

    /// What the program after us must know, but the recordings. Only at rest.
    pub fn leave_behind(&self, now: Instant) -> Estate {
        Estate {
            version: estate::VERSION,
            server: self.site.server_text(),
            server_file: Some(self.site.server_file.clone()),
            format: self.site.server.format.to_string(),
            certificate: self.site.certificate(),
            seats: self.seats.values().map(|seat| seat.leave_behind(now)).collect(),
            recordings: Vec::new(),
        }
    }

    /// Whose listening sockets are open.
    pub fn sockets(&self) -> impl Iterator<Item = (&Name, BorrowedFd<'_>)> {
        self.seats.iter().filter_map(|(name, seat)| Some((name, seat.socket()?)))
    }

    /// Has `palabre status` say what could not be replaced by something newer, until that is tried again.
    pub fn set_alarm(&mut self, alarm: Option<String>) {
        self.alarm = alarm;
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        for seat in self.seats.values_mut() {
            seat.tick(&self.site, now);
        }
        self.hand_the_next_over(now);
        let gone: Vec<Name> =
            self.seats.iter().filter(|(_, seat)| seat.is_gone()).map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.clear(&name, now);
        }
        self.write_names(now);
    }

    /// When [`Self::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.seats.values().filter_map(Seat::deadline).chain(self.names_due).min()
    }

    /// Ends everything. [`Self::is_empty`] says when it is done.
    pub fn stop(&mut self, now: Instant) {
        self.ending = true;
        self.next.clear();
        for seat in self.seats.values_mut().filter(|seat| !seat.is_parting()) {
            seat.end(now);
        }
        self.tick(now);
    }

    /// Whether no child is left.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// For `palabre status`.
    pub fn status(&self, now: Instant) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            supervisor: Some(Daemon { pid: std::process::id(), began_ms: self.began_ms }),
            participants: self.seats.values().map(|seat| seat.status(now)).collect(),
            certificate: Some(certificate::status(&self.site.server, SystemTime::now())),
            mixing: self.mixing(),
            errors: self.errors.iter().cloned().chain(self.alarms()).collect(),
        }
    }

    /// What is wrong and is not the configuration's fault.
    fn alarms(&self) -> impl Iterator<Item = String> {
        let refuses = |(name, seat): (&Name, &Seat)| {
            seat.refuses_the_certificate().then(|| {
                format!("unable to renew the certificate of '{name}': its listener serves the one before; its reasons are in the log")
            })
        };
        let links = self.seats.values().filter_map(Seat::link_fault).map(str::to_owned);
        self.alarm.iter().cloned().chain(self.seats.iter().filter_map(refuses)).chain(links)
    }

    /// What the mixer wrote of itself.
    fn mixing(&self) -> Option<Mixing> {
        let report = MixerReport::read(&self.site.run.join("rooms"));
        let report = report.inspect_err(|error| log::debug!("{error}")).ok().flatten()?;
        Some(Mixing::from(report.at_most(MAX_MIXED)))
    }

    /// For `systemctl status`, a few words: `ready: 3 of 4, failed: 1`.
    pub fn summary(&self) -> String {
        let count = |state| self.seats.values().filter(|seat| seat.state() == state).count();
        let ready = count(State::Ready) + count(State::Serving);
        let failed = match count(State::Failed) {
            0 => String::new(),
            failed => format!(", failed: {failed}"),
        };
        let bad = match self.errors.len() {
            0 => String::new(),
            bad => format!(", faults in the configuration: {bad}"),
        };
        format!("ready: {ready} of {}{failed}{bad}", self.seats.len())
    }

    fn seat(&mut self, participant: Participant, is_parked: bool, now: Instant) {
        let name = participant.name.clone();
        let seat = if is_parked {
            Seat::parked(&self.site, participant, now)
        } else {
            Seat::open(&self.site, participant, None, now)
        };
        self.seats.insert(name, seat);
    }

    /// A seat where all processes have ended: its directory goes with it, unless the same one is used again.
    fn clear(&mut self, name: &Name, now: Instant) {
        let Some(seat) = self.seats.remove(name) else {
            return;
        };
        let next = self.next.remove(name);
        // Whoever is shown out comes in by a new link only.
        if next.is_none()
            && !self.ending
            && seat.participant().key_once
            && let Err(error) = Entrance::remove(&self.site.links, name)
        {
            log::warn!("{error}");
        }
        let room = &seat.participant().room;
        let used_again = next.as_ref().is_some_and(|next| next.room == *room);
        if !self.ending
            && !used_again
            && let Err(error) = self.site.participant(room, name).remove()
        {
            log::warn!("{error}");
        }
        if let Some(next) = next {
            self.seat(next, seat.is_parked(), now);
        }
    }

    fn stop_who_is_gone(
        &mut self,
        participants: &[Participant],
        errors: &[ConfigError],
        now: Instant,
        changes: &mut Changes,
    ) {
        for (name, seat) in &mut self.seats {
            let path = Participant::path(&self.site.config, name);
            let has_a_file = participants.iter().any(|participant| participant.name == *name)
                || errors.iter().any(|error| error.path() == path);
            // The directory could not be read: that removes nobody.
            let unknown = errors.iter().any(|error| path.parent() == Some(error.path()));
            if has_a_file || unknown {
                continue;
            }
            self.next.remove(name);
            if !seat.is_parting() {
                seat.cut(now);
                changes.stopped.push(name.to_string());
            }
        }
    }

    fn update(&mut self, new: Participant, all_change: bool, rebind: bool, now: Instant, changes: &mut Changes) {
        let name = new.name.clone();
        let Some(seat) = self.seats.get_mut(&name) else {
            changes.started.push(name.to_string());
            return self.seat(new, false, now);
        };
        let is_parked = seat.is_parked();
        let old = seat.participant();
        // A file that now names the free port which was found is the same seat.
        let same_port = old.port == new.port || (old.port == 0 && new.port == seat.port());
        let moves = rebind || !same_port || old.room != new.room;
        if seat.is_parting() {
            changes.started.push(name.to_string());
            self.next.insert(name, new);
        } else if moves {
            // One that was stopped stays so, with another port or in another room.
            changes.restarted.extend((!is_parked).then(|| name.to_string()));
            seat.part(now);
            self.next.insert(name, new);
        } else {
            let replaced = seat.change(&self.site, new, now) && !is_parked;
            let all_change = all_change && !is_parked;
            if all_change && !replaced {
                seat.renew();
            }
            if seat.try_again(&self.site, now) {
                changes.started.push(name.to_string());
            } else if replaced || all_change {
                changes.restarted.push(name.to_string());
            }
        }
    }

    /// Makes the directory of each room that a file names.
    fn make_rooms(&mut self, participants: &[Participant]) {
        // A room that nobody is in any more has no names.
        self.rooms.values_mut().for_each(Vec::clear);
        for participant in participants {
            let member = (participant.name.clone(), participant.display().to_owned());
            self.rooms.entry(participant.room.clone()).or_default().push(member);
        }
        for name in self.rooms.keys() {
            if let Err(error) = self.site.make_room(name) {
                log::error!("{error}");
                self.errors.push(error.to_string());
            }
        }
    }

    /// Writes each room's `names` where something else stands in it, unless that was done a moment ago: pages may say what they
    /// like as often as they like.
    fn write_names(&mut self, now: Instant) {
        if self.names_at.is_some_and(|at| now < at + NAMES_EVERY) {
            self.names_due = self.names_at.map(|at| at + NAMES_EVERY);
            return;
        }
        self.names_due = None;
        for (room, members) in &self.rooms {
            let member = |(name, display): &(Name, String)| match self.seats.get(name) {
                Some(seat) => seat.member(display),
                None => Member::new(name.clone(), display.clone(), false),
            };
            let members: Vec<Member> = members.iter().map(member).collect();
            if self.written.get(room) == Some(&members) {
                continue;
            }
            if let Err(error) = self.site.room(room).write_names(&members) {
                log::error!("{error}");
            }
            self.names_at = Some(now);
            // What can't be written now is not tried again at each event, only when it changes.
            self.written.insert(room.clone(), members);
        }
    }

    fn note_errors(&mut self, errors: &[ConfigError]) {
        self.errors = errors.iter().map(ToString::to_string).chain(self.site.waits.clone()).collect();
        for error in &self.errors {
            log::error!("{error}");
        }
    }
}
