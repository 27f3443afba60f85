//! The reader thread of an [`Ear`]: source in, records out.

use super::{Change, Ear, Kind};
use crate::chunker::{Chunker, Cut, SILENCE_AFTER};
use crate::room_view::{News, RoomView};
use crate::source::{Source, TAKE_PATIENCE};
use std::time::{Duration, Instant};

/// How long the source stays open after the last stream: a page that renews its stream finds it as it was.
const LINGER: Duration = Duration::from_secs(2);
/// How often `levels` is looked at in silence, in which only one's own voice can be news.
const LEVELS_EVERY: Duration = Duration::from_millis(200);
/// The same while sound flows, which wakes this thread anyway.
const LEVELS_IN_SOUND_EVERY: Duration = Duration::from_millis(40);
/// How often a silence that carries nothing but a level is said.
const SLIGHT_EVERY: Duration = Duration::from_millis(500);
/// How often `names` is looked at.
const NAMES_EVERY: Duration = Duration::from_secs(1);
/// How often to look whether the next process asks for the pipe.
const ASKED_EVERY: Duration = Duration::from_millis(10);

/// The reader thread.
pub(super) struct Reader<'a> {
    ear: &'a Ear,
    view: RoomView,
    source: Source,
    chunker: Chunker,
    levels_due: Instant,
    names_due: Instant,
    alone_since: Option<Instant>,
    /// The levels that no record has told yet, and whether somebody watches for them.
    levels: Option<Change>,
    urgent: bool,
    slight_due: Instant,
    leaving: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(ear: &'a Ear, view: RoomView, source: Source) -> Self {
        let now = Instant::now();
        let mut chunker = Chunker::new(ear.format, ear.chunk_ms, now);
        match source.is_taking_over() {
            // Whether the room is silent is known when the pipe has been handed over.
            true => chunker.goes_on(now + TAKE_PATIENCE),
            // The opening of the first stream has said it already.
            false => chunker.silence_said(now),
        }
        Self {
            ear,
            view,
            source,
            chunker,
            levels_due: now + LEVELS_EVERY,
            names_due: now + NAMES_EVERY,
            alone_since: None,
            levels: None,
            urgent: false,
            slight_due: now,
            leaving: false,
        }
    }

    pub(super) fn run(mut self) {
        let (mut samples, mut cuts) = (Vec::new(), Vec::new());
        while self.goes_on(&mut cuts) {
            samples.clear();
            let until = self.chunker.due().min(self.levels_due);
            let asked = self.leaving.then(|| Instant::now() + ASKED_EVERY);
            self.source.read(asked.map_or(until, |asked| asked.min(until)), &mut samples);
            let now = Instant::now();
            if self.source.has_taken_over() {
                self.chunker.goes_on(now + SILENCE_AFTER);
            }
            self.chunker.feed(now, &samples, &mut cuts);
            self.chunker.tick(now, &mut cuts);
            self.look_at_files(now);
            self.publish(&mut cuts, now);
        }
    }

    fn publish(&mut self, cuts: &mut Vec<Cut>, now: Instant) {
        let is_news = self.urgent || (self.levels.is_some() && now >= self.slight_due);
        if cuts.is_empty() && is_news && self.chunker.is_silent() {
            // One's own voice is silence to oneself, but its level is news.
            cuts.push(Cut::Silence);
            self.chunker.silence_said(now);
        }
        if cuts.is_empty() {
            return;
        }
        let mut state = self.ear.lock();
        for cut in cuts.drain(..) {
            let levels = self.levels.take();
            self.urgent = false;
            self.slight_due = now + SLIGHT_EVERY;
            let kind = match cut {
                Cut::Sound { samples, gap } => Kind::Sound { samples, gap },
                Cut::Silence => Kind::Silence,
            };
            self.ear.publish(&mut state, kind, levels);
        }
        drop(state);
        self.ear.news.notify_all();
    }

    fn look_at_files(&mut self, now: Instant) {
        if now < self.levels_due {
            return;
        }
        self.levels_due = now + if self.chunker.is_silent() { LEVELS_EVERY } else { LEVELS_IN_SOUND_EVERY };
        if now >= self.names_due {
            self.names_due = now + NAMES_EVERY;
            self.look_at_names();
        }
        match self.view.look_at_levels() {
            News::None => return,
            News::Slight => {}
            News::Urgent | News::All => self.urgent = true,
        }
        let (marks, before) = (self.view.levels.change(), self.view.levels.before());
        self.levels = Some(match self.levels.take() {
            // Each mark is four letters, so two changes after each other are one.
            Some(earlier) => Change { before: earlier.before, marks: format!("{}{marks}", earlier.marks).into() },
            None => Change { before, marks },
        });
        self.ear.lock().levels = self.view.levels.all();
    }

    fn look_at_names(&mut self) {
        let news = self.view.look_at_names();
        if news == News::None {
            return;
        }
        let mut state = self.ear.lock();
        state.states = self.view.states.all();
        if news == News::All {
            state.people = self.view.people();
            state.levels = self.view.levels.all();
            (self.levels, self.urgent) = (None, true);
            self.ear.publish(&mut state, Kind::Room, None);
        } else {
            let change = Change { before: self.view.states.before(), marks: self.view.states.change() };
            self.ear.publish(&mut state, Kind::States, Some(change));
        }
        drop(state);
        self.ear.news.notify_all();
    }

    /// False when there is nobody to read for any more; then the source is closed by dropping this.
    fn goes_on(&mut self, cuts: &mut Vec<Cut>) -> bool {
        let mut state = self.ear.lock();
        let now = Instant::now();
        if let Some(end) = state.leaving {
            self.leaving = true;
            if now < end && !state.streams.is_empty() && !self.source.is_awaited() {
                return true;
            }
            drop(state);
            self.leave(cuts, now);
            return false;
        }
        if !state.streams.is_empty() {
            self.alone_since = None;
            return true;
        }
        let since = *self.alone_since.get_or_insert(now);
        state.running = now < since + LINGER;
        state.running
    }

    /// Says the last: what was begun, and that nothing follows.
    fn leave(&mut self, cuts: &mut Vec<Cut>, now: Instant) {
        self.chunker.cut(cuts);
        self.publish(cuts, now);
        let mut state = self.ear.lock();
        self.ear.publish(&mut state, Kind::Moved { last: true }, None);
        state.running = false;
        drop(state);
        self.ear.news.notify_all();
    }
}
