//! One room: its participants and their tick.

use std::collections::BTreeMap;
use std::time::Duration;

use palabre_room::{Format, LevelLine, Name, PipeId, RoomDir, pipe_id};

use crate::clock::TICK;
use crate::context::Context;
use crate::levelling::Choice;
use crate::levels::Levels;
use crate::mixing::{LeftOut, Mixing};
use crate::participant::Participant;
use crate::poller::Key;
use crate::tape::Tape;
use crate::watcher::{Place, Watch};

/// A room's directory, as the mixer serves it.
#[derive(Debug)]
pub struct Room {
    pub name: Name,
    /// Which directory this is: another one of the same name is another room.
    pub id: Option<PipeId>,
    pub watch: Watch,
    pub format: Format,
    number: u32,
    dir: RoomDir,
    participants: BTreeMap<u32, Participant>,
    numbers: BTreeMap<Name, u32>,
    mixing: Mixing,
    /// The last tick that had something to mix.
    mixed_at: Option<Duration>,
    levelling: Choice,
    levels: Levels,
    tape: Tape,
    active: bool,
    scratch: Vec<i16>,
}

impl Room {
    pub fn new(name: Name, dir: RoomDir, format: Format, number: u32, watch: Watch) -> Self {
        Self {
            name,
            id: pipe_id(dir.path()).ok(),
            watch,
            format,
            number,
            participants: BTreeMap::new(),
            numbers: BTreeMap::new(),
            mixing: Mixing::new(format.rate.hz()),
            mixed_at: None,
            levelling: Choice::default(),
            levels: Levels::new(&dir),
            tape: Tape::new(dir.recording()),
            dir,
            active: false,
            scratch: Vec::new(),
        }
    }

    pub fn dir(&self) -> &RoomDir {
        &self.dir
    }

    pub fn participants(&self) -> impl Iterator<Item = &Participant> {
        self.participants.values()
    }

    pub fn participant_mut(&mut self, number: u32) -> Option<&mut Participant> {
        self.participants.get_mut(&number)
    }

    /// Takes in whoever is in the directory, and sees off whoever no longer is. `next` numbers the new ones.
    pub fn rescan(&mut self, cx: &mut Context, next: &mut u32) {
        self.tape.refresh(cx);
        self.refresh_levelling(cx);
        let present = match self.dir.participants() {
            Ok(names) => names,
            Err(error) => return cx.warn(format_args!("{error}")),
        };
        let gone: Vec<Name> =
            self.numbers.keys().filter(|name| present.binary_search(name).is_err()).cloned().collect();
        gone.iter().for_each(|name| self.remove(cx, name));
        for name in present {
            self.come(cx, &name, next);
        }
    }

    /// A participant's directory is there: new, or the one we know, or another in its place.
    pub fn come(&mut self, cx: &mut Context, name: &Name, next: &mut u32) {
        let dir = self.dir.participant(name);
        if let Some(known) = self.numbers.get(name).and_then(|number| self.participants.get_mut(number)) {
            if known.id.is_some() && known.id == pipe_id(dir.path()).ok() {
                return known.rescan(cx);
            }
            self.remove(cx, name);
        }
        let key = Key { room: self.number, participant: *next };
        let watch = match cx.watcher.add(dir.path(), Place::Participant(key)) {
            Ok(watch) => watch,
            // Gone again, or no directory.
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return;
            }
            Err(error) => return cx.warn(format_args!("unable to watch '{}': {error}", dir.path().display())),
        };
        *next += 1;
        let mut participant = Participant::new(name.clone(), dir, self.format, key, watch);
        participant.rescan(cx);
        if participant.level().is_some() {
            self.levels.request();
        }
        self.participants.insert(key.participant, participant);
        self.numbers.insert(name.clone(), key.participant);
        log::debug!("'{name}' is in room '{}'", self.name);
    }

    /// A participant's directory is gone.
    pub fn remove(&mut self, cx: &mut Context, name: &Name) {
        let Some(participant) = self.numbers.remove(name).and_then(|number| self.participants.remove(&number)) else {
            return;
        };
        cx.watcher.remove(participant.watch);
        self.levels.request();
        log::debug!("'{name}' left room '{}'", self.name);
    }

    /// The pipe of a recording came or went.
    pub fn refresh_recording(&mut self, cx: &mut Context) {
        self.tape.refresh(cx);
    }

    /// The file `levelling` may say something else.
    pub fn refresh_levelling(&mut self, cx: &mut Context) {
        self.levelling.set(cx, self.dir.levelling());
    }

    /// Watches nothing of this room any more.
    pub fn close(self, cx: &mut Context) {
        self.participants.values().for_each(|participant| cx.watcher.remove(participant.watch));
        cx.watcher.remove(self.watch);
    }

    /// Takes what is in a participant's microphone.
    pub fn hear(&mut self, cx: &mut Context, number: u32) {
        if let Some(participant) = self.participants.get_mut(&number) {
            participant.hear(cx, &mut self.scratch);
            self.active |= !participant.is_idle();
        }
    }

    /// Something in a participant's directory changed.
    pub fn changed(&mut self, cx: &mut Context, number: u32, what: crate::watcher::What, entry: &str) {
        if let Some(participant) = self.participants.get_mut(&number) {
            let before = participant.level();
            participant.changed(cx, what, entry);
            if participant.level() != before {
                self.levels.request();
            }
        }
    }

    /// Whether somebody's sound flows, so that ticks are needed.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// When something must be done though no sound flows.
    pub fn deadline(&self) -> Option<Duration> {
        self.levels.deadline().filter(|_| !self.active)
    }

    /// Writes `levels` if it is time.
    pub fn write_levels(&mut self, cx: &mut Context) {
        let participants = &self.participants;
        self.levels.write(cx, &self.dir, || lines(participants));
    }

    /// One tick: at most one frame from each, mixed and given to all.
    pub fn tick(&mut self, cx: &mut Context, now: Duration) {
        if !self.active {
            return;
        }
        self.mixing.clear();
        for participant in self.participants.values_mut() {
            if let Some(frame) = participant.speak(cx, now, self.levelling.get()) {
                self.mixing.add(frame);
            }
            if let Some(frame) = participant.frame() {
                self.tape.write(cx, now, &participant.name, frame);
            }
        }
        if !self.mixing.is_silent() {
            self.give(cx, now);
        }
        self.active = self.mixing.has_tail() || self.participants.values().any(|participant| !participant.is_idle());
        if !self.active {
            self.participants.values_mut().for_each(Participant::fall_silent);
        }
        match self.participants.values().any(Participant::turned) {
            true => self.levels.hurry(),
            false => self.levels.request(),
        }
        self.write_levels(cx);
    }

    fn give(&mut self, cx: &mut Context, now: Duration) {
        let silent_ticks = self.mixed_at.map_or(0, |at| now.saturating_sub(at + TICK).as_micros() / TICK.as_micros());
        self.mixing.rest(u64::try_from(silent_ticks).unwrap_or(u64::MAX));
        self.mixed_at = Some(now);
        let (participants, numbers) = (&self.participants, &self.numbers);
        let wanting = participants.iter().filter(|(_, participant)| participant.ear().wants(now));
        self.mixing
            .begin(wanting.map(|(number, listener)| (*number, left_out(participants, numbers, *number, listener))));
        self.mixing.mix(|number| participants.get(&number)?.frame());
        for (number, participant) in &mut self.participants {
            let Some(frame) = self.mixing.frame(*number) else { continue };
            let ear = participant.ear_mut();
            ear.write(cx, frame);
            if !ear.wants(now) {
                self.mixing.forget(*number);
            }
        }
    }
}

/// Which of those who speak now are missing in what `listener` hears.
fn left_out(
    participants: &BTreeMap<u32, Participant>,
    numbers: &BTreeMap<Name, u32>,
    number: u32,
    listener: &Participant,
) -> LeftOut {
    let speaks = |number: u32| participants.get(&number).is_some_and(|other| other.frame().is_some());
    let own = listener.frame().map(|_| number);
    if listener.without().is_empty() {
        return own.map_or(LeftOut::Nobody, LeftOut::One);
    }
    let unheard = listener.without().iter().filter_map(|name| numbers.get(name)).copied();
    LeftOut::new(unheard.filter(|&other| speaks(other)).chain(own).collect())
}

/// In the order of names.
fn lines(participants: &BTreeMap<u32, Participant>) -> Vec<LevelLine> {
    let mut lines: Vec<LevelLine> = participants.values().filter_map(Participant::level).collect();
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    lines
}
