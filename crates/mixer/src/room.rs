//! One room: its files, its participants and their tick.

use std::collections::BTreeMap;
use std::time::Duration;

use palabre_room::{FileId, Format, LevelLine, Name, RoomDir, file_id};
use palabre_sound::limit;

use crate::clock::TICK;
use crate::context::{Context, LastWarning};
use crate::levelling::LevellingFile;
use crate::levels::LevelsFile;
use crate::machines::Machines;
use crate::mixing::{Difference, Fade, Mixing};
use crate::participant::Participant;
use crate::poller::ParticipantId;
use crate::recording::Recording;
use crate::watcher::{Change, Target, Watch};

/// A room that the mixer serves: the room's files, participants and mixes.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) name: Name,
    pub(crate) format: Format,
    dir: RoomDir,
    /// Identity of the directory. Another directory of the same name is another room.
    dir_id: Option<FileId>,
    watch: Watch,
    number: u32,
    participants: BTreeMap<u32, Participant>,
    numbers: BTreeMap<Name, u32>,
    pub(crate) machines: Machines,
    mixing: Mixing,
    /// Time of the last tick in which sound was mixed.
    mixed_at: Option<Duration>,
    format_warning: LastWarning,
    levelling: LevellingFile,
    levels: LevelsFile,
    recording: Recording,
    is_active: bool,
    scratch: Vec<i16>,
}

impl Room {
    /// Opens the room in the directory `dir` and watches the directory. Call [`Self::rescan`] afterwards.
    pub(crate) fn open(cx: &mut Context, name: Name, dir: RoomDir, number: u32) -> Option<Self> {
        let watch = cx.watch(dir.path(), Target::Room(number))?;
        let mut format_warning = LastWarning::default();
        let format = read_format(cx, &dir, &mut format_warning);
        log::info!("room '{name}' is open with the sample format {format}");
        Some(Self {
            name,
            format,
            dir_id: file_id(dir.path()).ok(),
            watch,
            number,
            participants: BTreeMap::new(),
            numbers: BTreeMap::new(),
            machines: Machines::new(dir.machines(), format, number),
            mixing: Mixing::new(format.rate.hz()),
            mixed_at: None,
            format_warning,
            levelling: LevellingFile::default(),
            levels: LevelsFile::new(&dir),
            recording: Recording::new(dir.recording()),
            dir,
            is_active: false,
            scratch: Vec::new(),
        })
    }

    /// Closes the room, and removes the inotify watches of its directories.
    pub(crate) fn close(mut self, cx: &mut Context) {
        self.machines.close(cx);
        self.participants.values().for_each(|participant| cx.watcher.remove(participant.watch));
        cx.watcher.remove(self.watch);
        log::info!(
            "room '{}' is closed: its directory was removed or replaced, or its sample format has changed",
            self.name
        );
    }

    /// Returns whether the directory at the room's path is still the directory that was opened.
    pub(crate) fn is_at_path(&self) -> bool {
        self.dir_id.is_some() && self.dir_id == file_id(self.dir.path()).ok()
    }

    pub(crate) fn participants(&self) -> impl Iterator<Item = &Participant> {
        self.participants.values()
    }

    pub(crate) fn participant_mut(&mut self, number: u32) -> Option<&mut Participant> {
        self.participants.get_mut(&number)
    }

    /// Reads the room's files and its list of participants. `next` is the number for the next new participant.
    pub(crate) fn rescan(&mut self, cx: &mut Context, next: &mut u32) {
        self.recording.refresh(cx);
        self.levelling.set(cx, self.dir.levelling());
        let present = match self.dir.participants() {
            Ok(names) => names,
            Err(error) => return cx.warn(format_args!("{error}")),
        };
        let gone: Vec<Name> =
            self.numbers.keys().filter(|name| present.binary_search(name).is_err()).cloned().collect();
        gone.iter().for_each(|name| self.remove_participant(cx, name));
        for name in present {
            self.add_participant(cx, &name, next);
        }
        self.machines.rescan(cx, next);
    }

    /// Handles a change of a directory in the room. `next` is the number for the next new participant.
    pub(crate) fn directory_changed(&mut self, cx: &mut Context, change: Change, name: &Name, next: &mut u32) {
        match change {
            Change::Created | Change::Complete => self.add_participant(cx, name, next),
            Change::Removed => self.remove_participant(cx, name),
            Change::Opened => {}
        }
    }

    /// Handles a change of a file in the room, and returns whether the room's format has changed.
    pub(crate) fn file_changed(&mut self, cx: &mut Context, change: Change, name: &str) -> bool {
        match (name, change) {
            ("recording", _) => self.recording.refresh(cx),
            ("levelling", Change::Complete | Change::Removed) => self.levelling.set(cx, self.dir.levelling()),
            // A program other than the supervisor may create the room's directory first and write `format` later.
            ("format", Change::Complete) => {
                return read_format(cx, &self.dir, &mut self.format_warning) != self.format;
            }
            _ => {}
        }
        false
    }

    /// Handles a change of a file in a participant's directory.
    pub(crate) fn participant_changed(&mut self, cx: &mut Context, number: u32, change: Change, entry: &str) {
        if let Some(participant) = self.participants.get_mut(&number) {
            let before = participant.level();
            participant.entry_changed(cx, change, entry);
            if participant.level() != before {
                self.levels.request();
            }
        }
    }

    /// Reads a participant's `mic`, or the pipe of another machine.
    pub(crate) fn read_mic(&mut self, cx: &mut Context, number: u32) {
        if let Some(participant) = self.participants.get_mut(&number) {
            participant.read_mic(cx, &mut self.scratch);
            self.is_active |= !participant.is_idle();
        } else {
            self.is_active |= self.machines.read(cx, number);
        }
    }

    /// Returns whether the room needs ticks.
    pub(crate) fn is_active(&self) -> bool {
        self.is_active
    }

    /// Returns the time at which to call [`Self::catch_up`] if no event comes earlier.
    pub(crate) fn deadline(&self, cx: &Context) -> Option<Duration> {
        let participants = self.participants.values().filter_map(|participant| participant.deadline(cx));
        participants.chain(self.machines.deadline(cx)).chain(self.levels.deadline()).min()
    }

    /// Does what is due in this room: retries to open and write files, and reads the `mic`s. Call it at [`Self::deadline`].
    pub(crate) fn catch_up(&mut self, cx: &mut Context) {
        for participant in self.participants.values_mut() {
            if participant.deadline(cx).is_some_and(|deadline| deadline <= cx.now.since_boot) {
                participant.catch_up(cx, &mut self.scratch);
                self.is_active |= !participant.is_idle();
            }
        }
        self.is_active |= self.machines.catch_up(cx);
        self.write_levels(cx);
    }

    /// Mixes the participants' frames that are due at `now`, and writes the mixes to the ears.
    pub(crate) fn tick(&mut self, cx: &mut Context, now: Duration) {
        if !self.is_active {
            return;
        }
        self.mixing.clear();
        for participant in self.participants.values_mut() {
            if let Some(frame) = participant.take_frame(cx, now, self.levelling.value()) {
                self.mixing.add(frame);
            }
            if let Some(frame) = participant.frame() {
                self.recording.write(cx, now, &participant.name, frame);
            }
        }
        self.mix_machines(cx, now);
        if !self.mixing.is_silent() {
            self.write_ears(cx, now);
        }
        self.is_active = self.mixing.has_tail()
            || !self.machines.is_idle()
            || self.participants.values().any(|participant| !participant.is_idle());
        if self.mixing.is_silent() || !self.is_active {
            self.flush_ears(cx);
        }
        if !self.is_active {
            self.participants.values_mut().for_each(Participant::reset_meter);
        }
        match self.participants.values().any(Participant::talk_changed) {
            true => self.levels.request_urgently(),
            false => self.levels.request(),
        }
        self.write_levels(cx);
    }

    /// Writes the frames that the participants' ears have gathered, even if they are fewer than the readers want in each write.
    pub(crate) fn flush_ears(&mut self, cx: &mut Context) {
        self.participants.values_mut().for_each(|participant| participant.ear_mut().flush(cx));
    }

    /// Sends the sum of this machine's talkers to the other machines, and then adds the sums of the other machines.
    fn mix_machines(&mut self, cx: &mut Context, now: Duration) {
        if let Some(sum) = self.mixing.sum() {
            self.machines.send(cx, sum);
        }
        self.machines.take_frames(cx, now);
        for machine in self.machines.iter() {
            let Some(frame) = machine.frame() else { continue };
            self.mixing.add_sum(frame);
            if let Some(track) = machine.track.as_ref().filter(|_| self.recording.is_open()) {
                self.scratch.resize(frame.len(), 0);
                limit::saturate(frame, &mut self.scratch);
                self.recording.write(cx, now, track, &self.scratch);
            }
        }
    }

    /// Adds the participant `name`, or rescans the directory if the same one is known already. If another directory has replaced it, the
    /// old participant is removed first.
    fn add_participant(&mut self, cx: &mut Context, name: &Name, next: &mut u32) {
        let dir = self.dir.participant(name);
        if let Some(known) = self.numbers.get(name).and_then(|number| self.participants.get_mut(number)) {
            if known.dir_id.is_some() && known.dir_id == file_id(dir.path()).ok() {
                return known.rescan(cx);
            }
            self.remove_participant(cx, name);
        }
        let id = ParticipantId { room: self.number, participant: *next };
        let Some(watch) = cx.watch(dir.path(), Target::Participant(id)) else { return };
        *next += 1;
        let mut participant = Participant::new(name.clone(), dir, self.format, id, watch);
        participant.rescan(cx);
        if participant.level().is_some() {
            self.levels.request();
        }
        self.participants.insert(id.participant, participant);
        self.numbers.insert(name.clone(), id.participant);
        log::debug!("the mixer now mixes participant '{name}' in room '{}'", self.name);
    }

    fn remove_participant(&mut self, cx: &mut Context, name: &Name) {
        let Some(participant) = self.numbers.remove(name).and_then(|number| self.participants.remove(&number)) else {
            return;
        };
        cx.watcher.remove(participant.watch);
        self.levels.request();
        log::debug!("the mixer no longer mixes participant '{name}' in room '{}'", self.name);
    }

    fn write_levels(&mut self, cx: &mut Context) {
        let participants = &self.participants;
        self.levels.write(cx, &self.dir, || lines(participants));
    }

    fn write_ears(&mut self, cx: &mut Context, now: Duration) {
        let silent_ticks = self.mixed_at.map_or(0, |at| now.saturating_sub(at + TICK).as_micros() / TICK.as_micros());
        self.mixing.rest(u64::try_from(silent_ticks).unwrap_or(u64::MAX));
        self.mixed_at = Some(now);
        self.participants.values_mut().for_each(|listener| listener.advance_gains(cx, silent_ticks > 0));
        let participants = &self.participants;
        let talkers: Vec<(u32, &Name)> = participants
            .iter()
            .filter(|(_, participant)| participant.frame().is_some())
            .map(|(number, participant)| (*number, &participant.name))
            .collect();
        let wanting = participants.iter().filter(|(_, participant)| participant.ear().wants_frame(now));
        self.mixing.begin(wanting.map(|(number, listener)| (*number, difference(&talkers, *number, listener))));
        self.mixing.mix(|number| participants.get(&number)?.frame());
        for (number, participant) in &mut self.participants {
            let Some(frame) = self.mixing.frame(*number) else { continue };
            let ear = participant.ear_mut();
            ear.write(cx, frame);
            if !ear.wants_frame(now) {
                self.mixing.forget(*number);
            }
        }
    }
}

/// Reads the room's file `format`. If the file is invalid, logs a warning and returns the default format.
fn read_format(cx: &mut Context, dir: &RoomDir, last_warning: &mut LastWarning) -> Format {
    dir.format().unwrap_or_else(|error| {
        let format = Format::default();
        cx.warn_if_new(last_warning, format!("{error}; using the default format, {format}"));
        format
    })
}

/// Returns how the mix of `listener` differs from the sum of the current talkers. A listener may have a thousand gains, but few of these
/// participants talk, so the gains of the talkers are looked up.
fn difference(talkers: &[(u32, &Name)], number: u32, listener: &Participant) -> Difference {
    let own = listener.frame().map(|_| number);
    if listener.gains().is_empty() {
        return own.map_or(Difference::None, Difference::Without);
    }
    let others = talkers.iter().filter(|(other, _)| *other != number);
    let factors = others.filter_map(|(other, name)| Some((*other, listener.gains().get(name)?)));
    Difference::new(factors.chain(own.map(|own| (own, Fade::LEFT_OUT))).collect())
}

/// Returns the lines of `levels`, sorted by name.
fn lines(participants: &BTreeMap<u32, Participant>) -> Vec<LevelLine> {
    let mut lines: Vec<LevelLine> = participants.values().filter_map(Participant::level).collect();
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    lines
}
