//! The state of the bridge: the shared rooms of this machine, and all other machines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use palabre_config::Bridge as Settings;
use palabre_host::clock;
use palabre_host::exit::Failure;
use palabre_room::{BridgeReport, MAX_MACHINES, MachineLink, Name};

use crate::link::{Link, Received};
use crate::peer::{self, FORGET_AFTER, Peer};
use crate::room::Room;
use crate::wire::json::{self, Heartbeat, State, Text, Version};
use crate::wire::mix::Mix;
use crate::wire::{Kind, Subject, VERSION, heartbeat_subject, room_subject};

/// Time for which a new process listens for another process with the same name, before it sends anything.
const LISTEN_FIRST: Duration = Duration::from_millis(1500);
/// Interval between heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Minimum time between two arrivals of the same other machine. A machine arrives with its first heartbeat, or with the first one of a new process.
/// The limit doesn't delay a bridge that was restarted, because that bridge listens for [`LISTEN_FIRST`] before it sends a heartbeat.
const ARRIVAL_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum time between two calls of [`Bridge::turn`]. After a longer time, the sound in the pipes is too old and is dropped.
const STALL: Duration = Duration::from_millis(250);
/// Time for which the same warning isn't logged again.
const WARN_INTERVAL: Duration = Duration::from_secs(3600);
/// Maximum number of different warnings that are logged within [`WARN_INTERVAL`]. Also the maximum number of other machines that may arrive within
/// [`ARRIVAL_INTERVAL`].
const MAX_WARNED: usize = 256;

/// The state of the program.
pub(crate) struct Bridge {
    machine: Name,
    epoch: u64,
    pub(crate) rooms: Vec<Room>,
    peers: BTreeMap<Name, Peer>,
    /// Time at which this process was first connected to the NATS server; `None` before that.
    connected_at: Option<Duration>,
    is_announced: bool,
    heartbeat_at: Duration,
    report_at: Duration,
    rooms_dir: PathBuf,
    last_turn: Duration,
    /// The warnings, with the time at which each was logged.
    warned: BTreeMap<String, Duration>,
    /// The machines that arrived in the last second, with the time of their arrival.
    arrivals: BTreeMap<Name, Duration>,
}

impl Bridge {
    pub(crate) fn new(settings: &Settings, machine: &Name, run: &Path) -> Self {
        let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let room = |name: &Name| Room::new(name.clone(), run, settings);
        Self {
            machine: machine.clone(),
            epoch: u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX),
            rooms: settings.rooms.iter().map(room).collect(),
            peers: BTreeMap::new(),
            connected_at: None,
            is_announced: false,
            heartbeat_at: Duration::ZERO,
            report_at: Duration::ZERO,
            rooms_dir: run.join("rooms"),
            last_turn: clock::monotonic(),
            warned: BTreeMap::new(),
            arrivals: BTreeMap::new(),
        }
    }

    /// Handles a new connection to the server.
    pub(crate) fn connected(&mut self) {
        self.connected_at.get_or_insert_with(clock::monotonic);
        self.introduce();
    }

    /// Makes [`Self::turn`] send a heartbeat and all states.
    fn introduce(&mut self) {
        self.heartbeat_at = Duration::ZERO;
        self.rooms.iter_mut().for_each(Room::repeat_state);
    }

    /// Sends the sound, texts and states of this machine's rooms, and passes received texts to this machine's participants. Also sends the heartbeat,
    /// writes the report and removes machines, each when it is due.
    pub(crate) fn turn(&mut self, link: &mut Link) {
        let now = clock::monotonic();
        let gap = now.saturating_sub(self.last_turn);
        let is_old = gap > STALL;
        self.last_turn = now;
        if is_old {
            // This process was stalled for `gap`. Messages that arrived meanwhile still wait in the socket. So `gap` doesn't count as time without a
            // message, and no machine is cut off because of it.
            self.peers.values_mut().for_each(|peer| peer.heard_at += gap);
        }
        if self.connected_at.is_some_and(|at| now >= at + LISTEN_FIRST) && !self.is_announced {
            self.is_announced = true;
            self.introduce();
            log::info!("this machine shares rooms with other machines under the name '{}'", self.machine);
        }
        for index in 0..self.rooms.len() {
            self.turn_room(index, link, now, is_old);
        }
        if self.is_announced && now >= self.heartbeat_at {
            self.heartbeat_at = now + HEARTBEAT_INTERVAL;
            self.send_heartbeat(link, false);
        }
        self.forget(now);
        if now >= self.report_at {
            self.report_at = now + HEARTBEAT_INTERVAL;
            self.report(link, now);
        }
    }

    /// Writes the file `.bridge` for `palabre status` and the metrics.
    fn report(&mut self, link: &Link, now: Duration) {
        let mut links = Vec::new();
        for room in &self.rooms {
            for (machine, room_peer) in &room.peers {
                let peer = self.peers.get(machine);
                links.push(MachineLink {
                    machine: machine.clone(),
                    room: room.name.clone(),
                    is_cut_off: peer.is_none_or(|peer| peer.is_cut_off(now)),
                    delay_ms: peer.map_or(0, Peer::delay_ms),
                    lost_ms: room_peer.lost_samples / (u64::from(room.format.rate.hz()) / 1000),
                    late_messages: room_peer.late_messages,
                });
            }
        }
        let (machine, is_connected, unsent) = (self.machine.clone(), link.is_connected(), link.unsent);
        let written = BridgeReport { machine, is_connected, unsent, links }.write(&self.rooms_dir);
        let text = written.err().map(|error| format!("{error}; 'palabre status' doesn't show the other machines"));
        text.into_iter().for_each(|text| self.warn_once(text));
    }

    fn turn_room(&mut self, index: usize, link: &mut Link, now: Duration, is_old: bool) {
        let (machine, epoch, is_announced) = (&self.machine, self.epoch, self.is_announced);
        let Some(room) = self.rooms.get_mut(index) else { return };
        let before = room.rate_hz();
        if !room.open(now) {
            return;
        }
        if room.rate_hz() != before {
            return self.update_all_rooms();
        }
        room.read(now, is_old);
        let has_peers = !room.peers.is_empty();
        let subject = |kind| room_subject(kind, &room.name, machine.as_str());
        let [mix_subject, state_subject, text_subject] = [Kind::Mix, Kind::State, Kind::Text].map(subject);
        while let Some(mix) = room.next_mix(epoch, now) {
            if is_announced && has_peers {
                link.publish(mix_subject.clone(), room.encode(mix));
            }
        }
        for text in room.take_texts(epoch).iter().filter(|_| is_announced) {
            json::encode(text).into_iter().for_each(|bytes| link.publish(text_subject.clone(), bytes));
        }
        if is_announced
            && link.is_connected()
            && let Some(bytes) = room.next_state(epoch, now).and_then(|state| json::encode(&state))
        {
            link.publish(state_subject, bytes);
        }
        room.tell(now);
        let too_many = room.has_too_many_people.then(|| {
            format!(
                "room '{}' has more people than fit into a message: other machines see only some of them, and absent people are omitted first; move people to another room",
                room.name
            )
        });
        for (name, room_peer) in &mut room.peers {
            let is_cut_off = self.peers.get(name).is_none_or(|peer| peer.is_cut_off(now));
            room_peer.open(&room.dir, name, room.format, now);
            room_peer.update_file(&room.dir, name, is_cut_off, now);
        }
        too_many.into_iter().for_each(|text| self.warn_once(text));
    }

    /// Removes machines from which nothing has arrived for [`FORGET_AFTER`].
    fn forget(&mut self, now: Duration) {
        let gone =
            self.peers.iter().filter(|(_, peer)| now > peer.heard_at + FORGET_AFTER).map(|(name, _)| name.clone());
        for machine in gone.collect::<Vec<_>>() {
            self.leave(&machine);
        }
    }

    fn leave(&mut self, machine: &Name) {
        if self.peers.remove(machine).is_some() {
            log::info!("the machine '{machine}' is no longer connected");
        }
        for room in &mut self.rooms {
            if room.peers.remove(machine).is_some() {
                peer::remove(&room.dir, machine);
            }
        }
    }

    fn send_heartbeat(&self, link: &mut Link, goodbye: bool) {
        let rooms = self.rooms.iter().filter_map(|room| Some((room.name.to_string(), room.rate_hz()?))).collect();
        let time_us = u64::try_from(clock::monotonic().as_micros()).unwrap_or(u64::MAX);
        let suite = env!("CARGO_PKG_VERSION").to_owned();
        let unix_ms = Some(clock::unix_ms());
        let heartbeat = Heartbeat { version: VERSION, epoch: self.epoch, time_us, unix_ms, suite, rooms, goodbye };
        if let Some(bytes) = json::encode(&heartbeat) {
            link.publish(heartbeat_subject(&self.machine), bytes);
        }
    }

    /// Handles a message.
    ///
    /// # Errors
    /// Another process with the name of this machine is connected already.
    pub(crate) fn receive(&mut self, message: &Received) -> Result<(), Failure> {
        let Some(subject) = Subject::parse(&message.subject) else { return Ok(()) };
        let (now, machine, bytes) = (clock::monotonic(), &subject.machine, &message.payload[..]);
        match (subject.kind, &subject.room) {
            (Kind::Machine, _) if !subject.is_same_version => self.refuse_version(machine, other_version(bytes)),
            (Kind::Machine, _) => match (Heartbeat::decode(bytes), other_version(bytes)) {
                (Some(heartbeat), None) => return self.heartbeat(machine, &heartbeat, now),
                (None, None) => self.warn_once(format!(
                    "a heartbeat of the machine '{machine}' is ignored: it is invalid; install the same version of palabre-bridge on both machines"
                )),
                (_, other) => self.refuse_version(machine, other),
            },
            (kind, Some(room)) if *machine != self.machine => self.room_message(kind, room, machine, bytes, now),
            _ => {}
        }
        Ok(())
    }

    fn refuse_version(&mut self, machine: &Name, version: Option<u64>) {
        let version = version.map_or_else(|| "an unknown version".to_owned(), |version| format!("version {version}"));
        self.warn_once(format!(
            "the machine '{machine}' is refused: it sends messages of {version}, but this machine sends version {VERSION}; install the same version of palabre-bridge on both machines"
        ));
    }

    /// Logs a warning, unless it was logged within [`WARN_INTERVAL`].
    fn warn_once(&mut self, text: String) {
        let now = clock::monotonic();
        self.warned.retain(|_, at| now < *at + WARN_INTERVAL);
        if self.warned.len() < MAX_WARNED && !self.warned.contains_key(&text) {
            log::warn!("{text}");
            self.warned.insert(text, now);
        }
    }

    fn heartbeat(&mut self, machine: &Name, heartbeat: &Heartbeat, now: Duration) -> Result<(), Failure> {
        if *machine == self.machine {
            return self.same_name(heartbeat);
        }
        let known = self.peers.get(machine).map(|peer| (peer.epoch, peer.is_cut_off(now)));
        match known {
            // The heartbeat is from an earlier process of that machine, which ends soon: ignore it.
            Some((epoch, false)) if heartbeat.epoch < epoch => return Ok(()),
            _ if heartbeat.goodbye => self.leave(machine),
            Some((epoch, was_cut_off)) if epoch == heartbeat.epoch => {
                self.still_here(machine, heartbeat, was_cut_off, now);
            }
            None if self.peers.len() == MAX_MACHINES => {
                self.warn_once(format!(
                    "more than {MAX_MACHINES} machines are connected; the machine '{machine}' is ignored"
                ));
            }
            _ if self.may_arrive(machine, now) => self.arrive(machine, heartbeat, now),
            _ => {}
        }
        Ok(())
    }

    /// Returns whether the other machine may arrive (be connected as new) now, and if so, notes the time. Without this limit, a machine that leaves
    /// and arrives again with each message would fill the log, and make all machines send their states.
    fn may_arrive(&mut self, machine: &Name, now: Duration) -> bool {
        self.arrivals.retain(|_, at| now < *at + ARRIVAL_INTERVAL);
        let may = !self.arrivals.contains_key(machine) && self.arrivals.len() < MAX_WARNED;
        if may {
            self.arrivals.insert(machine.clone(), now);
        }
        may
    }

    fn arrive(&mut self, machine: &Name, heartbeat: &Heartbeat, now: Duration) {
        let mut peer = Peer::new(heartbeat, now);
        peer.hear(now, heartbeat.time_us);
        self.peers.insert(machine.clone(), peer);
        log::info!("the machine '{machine}' is connected (palabre {})", heartbeat.suite);
        for room in &mut self.rooms {
            if let Some(known) = room.peers.get_mut(machine) {
                known.begin_epoch();
            }
        }
        self.update_rooms(machine);
        self.introduce();
    }

    fn still_here(&mut self, machine: &Name, heartbeat: &Heartbeat, was_cut_off: bool, now: Duration) {
        let Some(peer) = self.peers.get_mut(machine) else { return };
        peer.hear(now, heartbeat.time_us);
        let has_changed = peer.rooms != heartbeat.rooms;
        if has_changed {
            peer.rooms.clone_from(&heartbeat.rooms);
            self.update_rooms(machine);
        }
        if was_cut_off {
            log::info!("the machine '{machine}' is connected again");
        }
        if was_cut_off || has_changed {
            self.introduce();
        }
    }

    /// Connects the rooms that the machine shares with the same sample rate, and disconnects the others.
    fn update_rooms(&mut self, machine: &Name) {
        let Some(rooms) = self.peers.get(machine).map(|peer| peer.rooms.clone()) else { return };
        let mut refused = Vec::new();
        for room in &mut self.rooms {
            let (rate, Some(own)) = (rooms.get(room.name.as_str()).copied(), room.rate_hz()) else { continue };
            if rate == Some(own) {
                room.peers.entry(machine.clone()).or_default();
            } else if room.peers.remove(machine).is_some() {
                peer::remove(&room.dir, machine);
            }
            if let Some(rate) = rate.filter(|rate| *rate != own) {
                refused.push(format!(
                    "the room '{}' is not connected with the machine '{machine}': it has {rate} Hz there and {own} Hz here; set the same 'rate-hz' on both",
                    room.name
                ));
            }
        }
        refused.into_iter().for_each(|text| self.warn_once(text));
    }

    /// Calls [`Self::update_rooms`] for all machines, because a room of this machine was opened. Sends them a heartbeat and the states.
    fn update_all_rooms(&mut self) {
        let machines: Vec<Name> = self.peers.keys().cloned().collect();
        machines.iter().for_each(|machine| self.update_rooms(machine));
        self.introduce();
    }

    /// Handles a heartbeat of another process with the name of this machine. The process that was started later ends.
    fn same_name(&mut self, heartbeat: &Heartbeat) -> Result<(), Failure> {
        if heartbeat.epoch == self.epoch || heartbeat.goodbye {
            return Ok(());
        }
        let machine = &self.machine;
        if !self.is_announced || heartbeat.epoch < self.epoch {
            return Err(Failure::refused(format!(
                "unable to connect as '{machine}': another palabre-bridge with this name is connected; stop it, \
                 or set another 'machine' in [bridge] of palabre.toml"
            )));
        }
        self.heartbeat_at = Duration::ZERO;
        self.warn_once(format!(
            "another palabre-bridge with the name '{machine}' was started after this one; that one ends, and this one continues"
        ));
        Ok(())
    }

    fn room_message(&mut self, kind: Kind, room: &Name, machine: &Name, bytes: &[u8], now: Duration) {
        let Some(peer) = self.peers.get_mut(machine) else { return };
        let Some(room) = self.rooms.iter_mut().find(|own| own.name == *room) else { return };
        let Some(room_peer) = room.peers.get_mut(machine) else { return };
        match kind {
            Kind::Mix => match Mix::decode(bytes) {
                Ok(mix) if mix.epoch == peer.epoch && mix.rate == room.format.rate => {
                    let is_in_time = peer.hear(now, mix.time_us);
                    room_peer.play(&room.dir, machine, &mix, is_in_time, now);
                }
                Ok(_) => {}
                Err(error) => {
                    self.warn_once(format!("a message with sound from the machine '{machine}' is ignored: {error}"));
                }
            },
            Kind::State => {
                let state = json::decode::<State>(bytes);
                if let Some(state) = state.filter(|state| state.version == VERSION && state.epoch == peer.epoch) {
                    room_peer.update(&state);
                }
            }
            Kind::Text => {
                let text =
                    json::decode::<Text>(bytes).filter(|text| text.version == VERSION && text.epoch == peer.epoch);
                if let Some(text) = text.and_then(|text| text.message(machine))
                    && room_peer.admits_text(Instant::now())
                {
                    room.accept_text(text, now);
                }
            }
            Kind::Machine => {}
        }
    }

    /// Sends a heartbeat with `goodbye`, and removes all files and pipes of other machines.
    pub(crate) fn end(&mut self, link: &mut Link) {
        if self.is_announced {
            self.send_heartbeat(link, true);
        }
        self.rooms.iter_mut().for_each(Room::end);
        BridgeReport::remove(&self.rooms_dir).unwrap_or_else(|error| log::warn!("{error}"));
    }
}

/// Returns the version of a message if it is not [`VERSION`]. Returns `None` also if the message is invalid or has no version.
fn other_version(bytes: &[u8]) -> Option<u64> {
    let version = json::decode::<Version>(bytes)?.version;
    (version != u64::from(VERSION)).then_some(version)
}
