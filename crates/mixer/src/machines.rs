//! The same room on other machines: the pipe `out`, with the exact sum of this machine's talkers, and a pipe with the sum of each other
//! machine's talkers. A sum from another machine is mixed like a talker and never sent out, so no loop of machines can exist.

use std::collections::BTreeMap;
use std::time::Duration;

use palabre_room::{FileId, Format, MachinesDir, Name, OpenError, PipeWriter, Wrote, file_id};

use crate::context::{Context, LastWarning};
use crate::machine::Machine;
use crate::poller::{Interest, ParticipantId, Token};
use crate::watcher::{Change, Target, Watch};

/// Maximum number of other machines, for which a sum in 32 bits can't overflow ([`palabre_sound::mix::OTHER_SUM_MAX`]).
const MACHINES_MAX: usize = 31;
/// Interval between attempts to open `out` after an error. Log lines about lost frames have at least ten times this interval.
const INTERVAL: Duration = Duration::from_secs(1);

/// The pipes in the directory `.machines` of a room.
#[derive(Debug)]
pub(crate) struct Machines {
    dir: MachinesDir,
    format: Format,
    room: u32,
    watch: Option<(Watch, FileId)>,
    /// Number that identifies `out` among the participants and machines; 0 before the directory was found.
    out_number: u32,
    out: Option<PipeWriter>,
    retry_at: Duration,
    lost_frames: u64,
    report_at: Duration,
    machines: BTreeMap<u32, Machine>,
    last_warning: LastWarning,
}

impl Machines {
    pub(crate) fn new(dir: MachinesDir, format: Format, room: u32) -> Self {
        Self {
            dir,
            format,
            room,
            watch: None,
            out_number: 0,
            out: None,
            retry_at: Duration::ZERO,
            lost_frames: 0,
            report_at: Duration::ZERO,
            machines: BTreeMap::new(),
            last_warning: LastWarning::default(),
        }
    }

    /// Looks for the directory and opens its pipes. `next` is the number for the next new machine.
    pub(crate) fn rescan(&mut self, cx: &mut Context, next: &mut u32) {
        let at_path = file_id(self.dir.path()).ok();
        if at_path.is_none() || self.watch.is_some_and(|(_, id)| Some(id) != at_path) {
            self.close(cx);
        }
        let Some(id) = at_path else { return };
        if self.watch.is_none() {
            self.watch = cx.watch(self.dir.path(), Target::Machines(self.room)).map(|watch| (watch, id));
        }
        if self.out_number == 0 {
            (self.out_number, *next) = (*next, *next + 1);
        }
        self.open_out(cx);
        match self.dir.machines() {
            Ok(present) => {
                self.machines.retain(|_, machine| present.contains(&machine.machine));
                present.into_iter().for_each(|name| self.refresh(cx, name, next));
            }
            Err(error) => {
                cx.warn_if_new(&mut self.last_warning, format!("{error}; machines that connect now are not heard"));
            }
        }
    }

    /// Closes all pipes, and removes the inotify watch.
    pub(crate) fn close(&mut self, cx: &mut Context) {
        if let Some((watch, _)) = self.watch.take() {
            cx.watcher.remove(watch);
        }
        self.out = None;
        self.machines.clear();
    }

    /// Handles a change of an entry of the directory. `next` is the number for the next new machine.
    pub(crate) fn entry_changed(&mut self, cx: &mut Context, change: Change, entry: &str, next: &mut u32) {
        if entry == "out" {
            return self.open_out(cx);
        }
        match (MachinesDir::machine(entry), change) {
            (Some(name), Change::Created | Change::Complete) => self.refresh(cx, name, next),
            (Some(name), Change::Removed) => self.machines.retain(|_, machine| machine.machine != name),
            _ => {}
        }
    }

    /// Reads the pipe with this number. Returns whether the machine needs ticks.
    pub(crate) fn read(&mut self, cx: &mut Context, number: u32) -> bool {
        self.machines.get_mut(&number).is_some_and(|machine| {
            machine.read(cx);
            !machine.is_idle()
        })
    }

    /// Closes `out` if it has this number: its last reader has closed it.
    pub(crate) fn lose_reader(&mut self, number: u32) {
        if number == self.out_number {
            (self.out, self.retry_at) = (None, Duration::ZERO);
        }
    }

    /// Returns the time at which to call [`Self::catch_up`] if no event comes earlier.
    pub(crate) fn deadline(&self, cx: &Context) -> Option<Duration> {
        self.machines.values().filter_map(|machine| machine.deadline(cx)).min()
    }

    /// For each machine whose deadline has passed, tries again to open its pipe if it could not be opened, and reads the pipe. Returns whether
    /// a machine needs ticks.
    pub(crate) fn catch_up(&mut self, cx: &mut Context) -> bool {
        for machine in self.machines.values_mut() {
            if machine.deadline(cx).is_some_and(|deadline| deadline <= cx.now.since_boot) {
                machine.catch_up(cx);
            }
        }
        !self.is_idle()
    }

    /// Writes the sum of this machine's talkers of one tick into `out`. If the pipe is full, the frame is lost.
    pub(crate) fn send(&mut self, cx: &mut Context, sum: &[i32]) {
        match self.out.as_mut().map(|out| out.write_sums(sum)) {
            None | Some(Wrote::Whole) => {}
            Some(Wrote::Slow) => self.lost_frames += 1,
            Some(Wrote::Gone) => self.lose_reader(self.out_number),
        }
        if self.lost_frames > 0 && cx.now.since_boot >= self.report_at {
            let (path, lost) = (self.dir.out(), self.lost_frames);
            cx.warn(format_args!(
                "the reader of '{}' is too slow: {lost} frames of 20 ms were lost for other machines",
                path.display()
            ));
            (self.lost_frames, self.report_at) = (0, cx.now.since_boot + 10 * INTERVAL);
        }
    }

    /// Takes the frames of the other machines that are due at `now`.
    pub(crate) fn take_frames(&mut self, cx: &Context, now: Duration) {
        self.machines.values_mut().for_each(|machine| machine.take_frame(cx, now));
    }

    /// Returns the other machines.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Machine> {
        self.machines.values()
    }

    /// Returns whether no machine needs ticks.
    pub(crate) fn is_idle(&self) -> bool {
        self.machines.values().all(Machine::is_idle)
    }

    fn refresh(&mut self, cx: &mut Context, name: Name, next: &mut u32) {
        if let Some(known) = self.machines.values_mut().find(|machine| machine.machine == name) {
            return known.refresh(cx);
        }
        if self.machines.len() == MACHINES_MAX {
            let path = self.dir.path().display();
            return cx.warn_if_new(
                &mut self.last_warning,
                format!("'{path}' has more than {MACHINES_MAX} machines; the machine '{name}' is not heard"),
            );
        }
        let id = ParticipantId { room: self.room, participant: *next };
        *next += 1;
        let mut machine = Machine::new(self.dir.from(&name), name, self.format, id);
        machine.refresh(cx);
        self.machines.insert(id.participant, machine);
    }

    /// Opens `out` if a program reads it, unless it is open already.
    fn open_out(&mut self, cx: &mut Context) {
        let path = self.dir.out();
        let id = file_id(&path).ok();
        if (id.is_some() && id == self.out.as_ref().map(PipeWriter::id)) || cx.now.since_boot < self.retry_at {
            return;
        }
        self.out = None;
        let token = Token::Ear(ParticipantId { room: self.room, participant: self.out_number });
        let opened = PipeWriter::open_sums(&path, self.format).and_then(|out| {
            let polled = cx.keep_reserve(&out).and_then(|()| cx.poller.add(&out, Interest::Closed, token));
            polled.map(|()| out).map_err(|source| OpenError::Io { path, source })
        });
        match opened {
            Ok(out) => {
                self.out = Some(out);
                self.last_warning.clear();
            }
            Err(OpenError::Missing(_) | OpenError::NoReader(_)) => {}
            Err(error) => {
                self.retry_at = cx.now.since_boot + INTERVAL;
                cx.warn_if_new(
                    &mut self.last_warning,
                    format!("{error}; in this room, other machines hear nothing from this machine"),
                );
            }
        }
    }
}
