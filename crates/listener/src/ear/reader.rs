//! The reader thread of an [`Ear`]: source in, records out.

use super::{Ear, Kind};
use crate::chunker::{Chunker, Cut};
use crate::room_view::RoomView;
use crate::source::Source;
use std::time::{Duration, Instant};

/// How long the source stays open after the last stream: a page that renews its stream finds it as it was.
const LINGER: Duration = Duration::from_secs(2);
/// How often `levels` is looked at.
const LEVELS_EVERY: Duration = Duration::from_millis(200);
/// How often `names` is looked at.
const NAMES_EVERY: Duration = Duration::from_secs(1);

/// The reader thread.
pub(super) struct Reader<'a> {
    ear: &'a Ear,
    view: RoomView,
    source: Source,
    chunker: Chunker,
    levels_due: Instant,
    names_due: Instant,
    alone_since: Option<Instant>,
    levels_changed: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(ear: &'a Ear, view: RoomView) -> Self {
        let now = Instant::now();
        Self {
            ear,
            view,
            source: Source::new(&ear.origin, ear.format, ear.chunk_ms),
            chunker: Chunker::new(ear.format, ear.chunk_ms, now),
            levels_due: now + LEVELS_EVERY,
            names_due: now + NAMES_EVERY,
            alone_since: None,
            levels_changed: false,
        }
    }

    pub(super) fn run(mut self) {
        // The opening of the first stream has said it already.
        self.chunker.silence_said(Instant::now());
        let (mut samples, mut cuts) = (Vec::new(), Vec::new());
        while self.goes_on(&mut cuts) {
            samples.clear();
            self.source.read(self.chunker.due().min(self.levels_due), &mut samples);
            let now = Instant::now();
            self.chunker.feed(now, &samples, &mut cuts);
            self.chunker.tick(now, &mut cuts);
            self.look_at_files(now);
            self.publish(&mut cuts, now);
        }
    }

    fn publish(&mut self, cuts: &mut Vec<Cut>, now: Instant) {
        if cuts.is_empty() && self.levels_changed && self.chunker.is_silent() {
            // One's own voice is silence to oneself, but its level is news.
            cuts.push(Cut::Silence);
            self.chunker.silence_said(now);
        }
        if cuts.is_empty() {
            return;
        }
        let mut state = self.ear.lock();
        for cut in cuts.drain(..) {
            let carries = std::mem::take(&mut self.levels_changed);
            let kind = match cut {
                Cut::Sound { samples, gap } => Kind::Sound { samples, gap },
                Cut::Silence => Kind::Silence,
            };
            self.ear.publish(&mut state, kind, carries);
        }
        drop(state);
        self.ear.news.notify_all();
    }

    fn look_at_files(&mut self, now: Instant) {
        if now < self.levels_due {
            return;
        }
        self.levels_due = now + LEVELS_EVERY;
        if self.view.look_at_levels() {
            self.levels_changed = true;
            self.ear.lock().levels = self.view.levels();
        }
        if now < self.names_due {
            return;
        }
        self.names_due = now + NAMES_EVERY;
        if self.view.look_at_names() {
            let mut state = self.ear.lock();
            state.people = self.view.people();
            self.ear.publish(&mut state, Kind::Room, false);
            drop(state);
            self.ear.news.notify_all();
        }
    }

    /// False when there is nobody to read for any more; then the source is closed by dropping this.
    fn goes_on(&mut self, cuts: &mut Vec<Cut>) -> bool {
        let mut state = self.ear.lock();
        let now = Instant::now();
        if state.leaving {
            drop(state);
            self.chunker.cut(cuts);
            self.publish(cuts, now);
            let mut state = self.ear.lock();
            self.ear.publish(&mut state, Kind::Moved, false);
            state.running = false;
            drop(state);
            self.ear.news.notify_all();
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
}
