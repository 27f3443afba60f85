//! Another machine: its process, and its part of each shared room.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use palabre_host::log_limit::LastWarning;
use palabre_host::rate_limit::RateLimit;
use palabre_room::{
    Format, MachineLevel, MachinePerson, MachineState, Name, OpenError, PipeWriter, RoomDir, RoomError,
};

use crate::codec::Decoder;
use crate::delay::Delay;
use crate::wire::json::{Heartbeat, State};
use crate::wire::mix::{Mix, Sound};

/// Time without a message after which a machine is cut off.
pub(crate) const CUT_OFF_AFTER: Duration = Duration::from_millis(1500);
/// Time for which a machine that is cut off stays in the room.
pub(crate) const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Maximum age of received sound: how much longer its message took than the fastest message of the last minute. Older sound is dropped.
const MAX_AGE: Duration = Duration::from_millis(300);
/// Time for which pages show a machine's talkers as talking after its last sound.
const TALK: Duration = Duration::from_millis(400);
/// Minimum interval between two writes of the file of another machine in a room.
const FILE_INTERVAL: Duration = Duration::from_millis(200);
/// Limit of the texts of one machine: five a second, twenty at once.
const TEXT_LIMIT: RateLimit = RateLimit::new(5.0, 20.0);
/// Interval between attempts to open a pipe that the mixer doesn't read.
const OPEN_INTERVAL: Duration = Duration::from_millis(100);

/// The process of another machine.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) epoch: u64,
    pub(crate) heard_at: Duration,
    pub(crate) rooms: BTreeMap<String, u32>,
    delay: Delay,
    /// Delay of the newest message.
    newest_delay: Duration,
}

impl Peer {
    pub(crate) fn new(heartbeat: &Heartbeat, now: Duration) -> Self {
        let (epoch, rooms) = (heartbeat.epoch, heartbeat.rooms.clone());
        Self { epoch, heard_at: now, rooms, delay: Delay::default(), newest_delay: Duration::ZERO }
    }

    /// Returns whether the connection with the machine is lost.
    pub(crate) fn is_cut_off(&self, now: Duration) -> bool {
        now > self.heard_at + CUT_OFF_AFTER
    }

    /// Notes that a message of the other machine's process arrived at `now`; the process sent it at `sent_us` of its own clock. Returns whether the
    /// message is recent enough for its sound to be played.
    pub(crate) fn hear(&mut self, now: Duration, sent_us: u64) -> bool {
        self.heard_at = now;
        let age = self.delay.measure(now, sent_us);
        self.newest_delay = age.unwrap_or_default();
        age.is_some_and(|age| age <= MAX_AGE)
    }

    /// Returns how much longer the newest message took than the fastest message of the last minute, in ms; 0 while this is unknown.
    pub(crate) fn delay_ms(&self) -> u64 {
        u64::try_from(self.newest_delay.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The part of another machine in one room: its pipe, its file, and what they contain.
#[derive(Debug, Default)]
pub(crate) struct RoomPeer {
    pipe: Option<PipeWriter>,
    open_at: Duration,
    /// Expected `counter` of the next message of the other machine's process, the number of its first sample. `None` if any counter is accepted.
    next: Option<u64>,
    pub(crate) lost_samples: u64,
    pub(crate) late_messages: u64,
    /// The decoder, if the machine's process sends Opus.
    decoder: Option<Decoder>,
    /// Epoch and counter of `people`.
    newest: (u64, u64),
    is_recorded: bool,
    people: Vec<MachinePerson>,
    talkers: Vec<(Name, i16)>,
    talked_at: Duration,
    written: Option<MachineState>,
    write_at: Duration,
    warning: LastWarning,
    text_limit: Option<RateLimit>,
}

impl RoomPeer {
    /// Forgets the expected counter and the decoder, because the other machine has a new process, whose first message may have any counter.
    pub(crate) fn begin_epoch(&mut self) {
        (self.next, self.decoder) = (None, None);
    }

    /// Closes the pipe and makes [`Self::update_file`] write the file, because the room was created again.
    pub(crate) fn begin_room(&mut self) {
        (self.pipe, self.written) = (None, None);
    }

    /// Replaces what is known about the other machine's people, unless the state is of the same epoch and not newer.
    pub(crate) fn update(&mut self, state: &State) {
        let newest = (state.epoch, state.counter);
        if newest > self.newest || state.epoch < self.newest.0 {
            (self.newest, self.is_recorded, self.people) = (newest, state.recorded, state.members());
        }
    }

    /// Writes the sound of a message into the pipe. Drops the sound if the message is a duplicate, or if `is_in_time` says that it is late.
    pub(crate) fn play(&mut self, room: &RoomDir, machine: &Name, mix: &Mix, is_in_time: bool, now: Duration) {
        let expected = self.next.unwrap_or(mix.counter);
        if mix.counter < expected {
            return;
        }
        self.lose(mix.counter - expected);
        let format = Format { rate: mix.rate };
        let length = (mix.sound.frames(mix.rate) * format.frame_samples()) as u64;
        self.next = Some(mix.counter.saturating_add(length));
        if !is_in_time {
            self.late_messages += 1;
            return;
        }
        (self.talkers, self.talked_at) = (mix.talkers.clone(), now);
        self.open(room, machine, format, now);
        let Some(samples) = self.samples(mix) else { return self.lose(length) };
        let Some(pipe) = &mut self.pipe else { return self.lose(length) };
        // One write, so that the mixer reads the whole message at once.
        samples.chunks(format.frame_samples()).for_each(|frame| pipe.gather_sums(frame));
        match pipe.write_gathered() {
            Some(frames) => self.lose((frames * format.frame_samples()) as u64),
            None => {
                (self.pipe, self.open_at) = (None, now);
                self.lose(length);
            }
        }
    }

    /// Returns the samples of a message, or `None` if the machine sends too much Opus.
    fn samples<'a>(&mut self, mix: &'a Mix) -> Option<Cow<'a, [i32]>> {
        match &mix.sound {
            Sound::Exact(samples) => Some(Cow::Borrowed(samples)),
            Sound::Opus { packets, is_start } => {
                if self.decoder.is_none() {
                    self.decoder = Decoder::new(mix.rate);
                }
                self.decoder.as_mut()?.decode(packets, *is_start, Instant::now()).map(Cow::Owned)
            }
        }
    }

    /// Counts missing samples. Their number is computed from counters that another machine sent, which may be wrong. So a sum that would overflow
    /// becomes the maximum.
    fn lose(&mut self, samples: u64) {
        self.lost_samples = self.lost_samples.saturating_add(samples);
    }

    /// Returns whether a text from this other machine is within the limit. Because of the limit, a machine that sends too many texts doesn't displace
    /// the texts of the other machines.
    pub(crate) fn admits_text(&mut self, now: Instant) -> bool {
        self.text_limit.get_or_insert(TEXT_LIMIT).admit(now)
    }

    /// Opens the pipe if the mixer has it open for reading. If the pipe doesn't exist, creates it for the next attempt.
    pub(crate) fn open(&mut self, room: &RoomDir, machine: &Name, format: Format, now: Duration) {
        if self.pipe.is_some() || now < self.open_at {
            return;
        }
        self.open_at = now + OPEN_INTERVAL;
        self.pipe = match PipeWriter::open_sums(&room.machines().from(machine), format) {
            Err(OpenError::Missing(_)) => {
                let created = room.machines().create(std::slice::from_ref(machine));
                created.inspect_err(|error| log::debug!("{error}")).ok().and(None)
            }
            opened => opened.ok(),
        };
    }

    /// Calls [`Self::write`]. Logs an error once.
    pub(crate) fn update_file(&mut self, room: &RoomDir, machine: &Name, is_cut_off: bool, now: Duration) {
        match self.write(room, machine, is_cut_off, now) {
            Ok(()) => drop(self.warning.clear()),
            Err(error) => {
                let text = format!("{error}; pages may show old information about the people of '{machine}'");
                self.warning.unless_repeated(text).into_iter().for_each(|text| log::warn!("{text}"));
            }
        }
    }

    /// Writes the machine's file if its content has changed. Wakes the listeners if the connection with the machine was lost or made, because they
    /// look at the file only every 2 s while the room is silent.
    fn write(&mut self, room: &RoomDir, machine: &Name, is_cut_off: bool, now: Duration) -> Result<(), RoomError> {
        if now < self.write_at {
            return Ok(());
        }
        let state = self.state(is_cut_off, now);
        if self.written.as_ref() == Some(&state) {
            return Ok(());
        }
        self.write_at = now + FILE_INTERVAL;
        room.other_machines().write(machine, &state)?;
        let before = self.written.replace(state);
        if before.is_none_or(|before| before.is_cut_off != is_cut_off) {
            room.wake()?;
        }
        Ok(())
    }

    fn state(&self, is_cut_off: bool, now: Duration) -> MachineState {
        let talks = !is_cut_off && now < self.talked_at + TALK;
        let level = |person: &MachinePerson| {
            let talker = self.talkers.iter().find(|(name, _)| talks && *name == person.member.name);
            talker.map_or(person.level, |(_, level)| MachineLevel::Talking(f32::from(*level) / 10.0))
        };
        let people = self.people.iter().map(|person| MachinePerson { level: level(person), ..person.clone() });
        MachineState { is_cut_off, is_recorded: self.is_recorded, people: people.collect() }
    }
}

/// Removes the file and the pipe of a machine from a room.
pub(crate) fn remove(room: &RoomDir, machine: &Name) {
    let removed = room.other_machines().remove(machine).map_err(|error| error.to_string());
    let pipe = room.machines().from(machine);
    let pipe_removed = match std::fs::remove_file(&pipe) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("unable to remove '{}': {error}", pipe.display()))
        }
        _ => Ok(()),
    };
    let woken = room.wake().map(drop).map_err(|error| error.to_string());
    if let Err(error) = removed.and(pipe_removed).and(woken) {
        log::warn!("{error}");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_room::{Inbox, PipeReader, Start};

    fn mix(counter: u64, sample: i32) -> Mix {
        let rate = Format::default().rate;
        let talkers = vec![("alice".parse().unwrap(), -213)];
        Mix { rate, epoch: 1, counter, time_us: 0, talkers, sound: Sound::Exact(vec![sample; 480]) }
    }

    /// Returns a room, its temporary directory, another machine, and the mixer's end of that machine's pipe.
    fn room_with_paris() -> (tempfile::TempDir, RoomDir, Name, PipeReader) {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        let paris: Name = "paris".parse().unwrap();
        room.machines().create(std::slice::from_ref(&paris)).unwrap();
        let from = room.machines().from(&paris);
        let reader = PipeReader::open_sums(&from, Format::default(), Start::Discard).unwrap();
        (dir, room, paris, reader)
    }

    #[test]
    fn sound_is_played_once_in_order_and_missing_or_late_sound_is_counted() {
        let (_dir, room, paris, mut reader) = room_with_paris();
        let (mut peer, now) = (RoomPeer::default(), Duration::from_secs(9));
        for (counter, sample, is_in_time) in
            [(960, 1, true), (960, 2, true), (480, 3, true), (1920, 4, false), (2400, 5, true)]
        {
            peer.play(&room, &paris, &mix(counter, sample), is_in_time, now);
        }
        let mut sums = Vec::new();
        reader.read_sums(Instant::now(), &mut sums, 1 << 16).unwrap();
        assert_eq!(sums, [[1; 480], [5; 480]].concat());
        assert_eq!((peer.lost_samples, peer.late_messages), (480, 1));
        peer.begin_epoch();
        peer.play(&room, &paris, &mix(0, 6), true, now);
        reader.read_sums(Instant::now(), &mut sums, 1 << 16).unwrap();
        assert_eq!((sums.len(), peer.lost_samples), (3 * 480, 480));
        // Wrong counters of a machine change only the number of lost samples of this machine, which stays at the maximum.
        for _ in 0..2 {
            peer.play(&room, &paris, &mix(u64::MAX, 7), true, now);
            peer.begin_epoch();
            peer.play(&room, &paris, &mix(0, 8), true, now);
        }
        assert_eq!(peer.lost_samples, u64::MAX);
    }

    #[test]
    fn message_of_several_frames_arrives_at_once() {
        let (_dir, room, paris, mut reader) = room_with_paris();
        let (send, received) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut sums = Vec::new();
            // Tells the length of the first part of each message, when the whole message has arrived.
            while let Some(first) = (0..).find_map(|_| {
                let length = reader.read_sums(Instant::now(), &mut sums, 1 << 16).ok()?;
                (length > 0).then_some(length)
            }) {
                while sums.len() < 1440 && reader.read_sums(Instant::now(), &mut sums, 1 << 16).is_ok() {}
                sums.clear();
                if send.send(first).is_err() {
                    return;
                }
            }
        });
        let mut peer = RoomPeer::default();
        for number in 0..1000 {
            let sound = Sound::Exact(vec![7; 1440]);
            peer.play(&room, &paris, &Mix { sound, ..mix(1440 * number, 7) }, true, Duration::from_secs(9));
            assert_eq!(received.recv().unwrap(), 1440, "message {number} arrived in parts");
        }
        assert_eq!(peer.lost_samples, 0);
    }

    #[test]
    fn texts_of_a_machine_are_limited() {
        let (mut peer, now) = (RoomPeer::default(), Instant::now());
        assert_eq!((0..50).filter(|_| peer.admits_text(now)).count(), 20);
        assert!(peer.admits_text(now + Duration::from_millis(200)));
    }

    #[test]
    fn listeners_are_woken_when_the_connection_is_lost_or_made() {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        let bob = room.participant(&"bob".parse().unwrap());
        bob.create().unwrap();
        let inbox = Inbox::bind(&bob).unwrap();
        let (paris, mut peer, mut now): (Name, _, _) =
            ("paris".parse().unwrap(), RoomPeer::default(), Duration::from_secs(9));
        let woken: Vec<usize> = [(false, 1), (false, 2), (true, 2), (true, 3), (false, 3)]
            .into_iter()
            .map(|(is_cut_off, counter)| {
                now += FILE_INTERVAL;
                let text = format!(r#"{{"version":1,"epoch":5,"counter":{counter},"rate":24000,"recorded":false,"people":[{{"login":"alice","display":"A {counter}","words":"here"}}]}}"#);
                peer.update(&serde_json::from_str::<State>(&text).unwrap());
                peer.write(&room, &paris, is_cut_off, now).unwrap();
                inbox.receive(10).0
            })
            .collect();
        assert_eq!(woken, [1, 0, 1, 0, 1]);
        remove(&room, &paris);
        assert_eq!(inbox.receive(10).0, 1);
    }

    #[test]
    fn newest_state_wins_and_a_talker_is_shown_while_sound_arrives() {
        let dir = tempfile::tempdir().unwrap();
        let room = RoomDir::new(dir.path().join("main"));
        room.create(Format::default()).unwrap();
        let (paris, now): (Name, _) = ("paris".parse().unwrap(), Duration::from_secs(9));
        let state = |epoch, counter, display: &str| {
            let text = format!(
                r#"{{"version":1,"epoch":{epoch},"counter":{counter},"rate":24000,"recorded":false,
                "people":[{{"login":"alice","display":"{display}","words":"here"}}]}}"#
            );
            serde_json::from_str::<State>(&text).unwrap()
        };
        let mut peer = RoomPeer::default();
        [state(5, 2, "Alice"), state(5, 1, "Old")].iter().for_each(|state| peer.update(state));
        peer.play(&room, &paris, &mix(0, 1), true, now);
        let shown = |peer: &RoomPeer, is_cut_off, at| peer.state(is_cut_off, at).to_string();
        assert_eq!(shown(&peer, false, now), "connected\nalice\there\ttalking -21.3\tAlice\n");
        assert_eq!(shown(&peer, false, now + TALK), "connected\nalice\there\t-\tAlice\n");
        assert_eq!(shown(&peer, true, now), "cut-off\nalice\there\t-\tAlice\n");
        peer.update(&state(6, 0, "New"));
        assert!(shown(&peer, false, now).ends_with("New\n"));
        peer.write(&room, &paris, false, now).unwrap();
        assert!(room.other_machines().read(&paris).unwrap().is_some());
        remove(&room, &paris);
        assert_eq!(room.other_machines().read(&paris).unwrap(), None);
    }
}
