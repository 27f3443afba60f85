//! What a stream of an [`Ear`](super::Ear) has been told about the room, and what each record must add to it.

use super::{Kind, Record, State};
use crate::record;
use std::sync::Arc;

/// The records that only one stream gets: its first.
#[derive(Debug)]
pub struct Opening {
    hello: u64,
    room: u64,
    silence: Option<u64>,
    people: Arc<str>,
    states: Arc<str>,
    levels: Arc<str>,
}

impl Opening {
    /// For a stream that begins now. In silence it says so, with the levels: the next record may be 2 s away.
    pub(super) fn now(state: &mut State) -> Self {
        let (hello, room) = (state.seq(), state.seq());
        let silence = state.silent.then(|| state.seq());
        let levels = if silence.is_some() { Arc::clone(&state.levels) } else { "".into() };
        Self { hello, room, silence, people: Arc::clone(&state.people), states: Arc::clone(&state.states), levels }
    }

    /// For a stream that begins with the record of this number, which is in the ring.
    pub(super) fn before(state: &State, seq: u64) -> Self {
        let (hello, room) = (seq.saturating_sub(2), seq.saturating_sub(1));
        let [people, states] = [&state.people, &state.states].map(Arc::clone);
        Self { hello, room, silence: None, people, states, levels: "".into() }
    }

    /// Their bytes; `me` is the JSON of `GET /me`, `known` the tag of the list of people that the page has already.
    pub fn bytes(&self, me: &str, known: Option<&str>) -> Vec<u8> {
        let mut bytes = record::hello(self.hello, me);
        bytes.extend(match known == Some(record::tag(&self.people).as_str()) {
            true => record::states(self.room, &self.states),
            false => record::room(self.room, &self.people, &self.states),
        });
        if let Some(seq) = self.silence {
            bytes.extend(record::silence(seq, &self.levels));
        }
        bytes
    }
}

/// What one stream has been told, so that each record can be completed by what it missed.
#[derive(Debug, Default)]
pub struct Told {
    people: Option<Arc<str>>,
    states: Option<Arc<str>>,
    levels: Option<Arc<str>>,
}

impl Told {
    /// After these records of the beginning.
    pub fn new(opening: &Opening) -> Self {
        let [people, states, levels] =
            [&opening.people, &opening.states, &opening.levels].map(|known| Some(Arc::clone(known)));
        Self { people, states, levels }
    }

    /// Calls `write` with the bytes of this record: the shared ones, or its own where it missed something before.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn tell<E>(
        &mut self,
        record: &Record,
        skipped: bool,
        rate_hz: u32,
        mut write: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.catch_up(record, &mut write)?;
        let (seq, is_known) = (record.seq, self.understands(record));
        match &record.kind {
            Kind::Sound { samples, gap } if skipped || !is_known => {
                let marks = record.change.as_ref().map_or("", |change| &*change.marks);
                let levels = if is_known { marks } else { &record.levels };
                write(&record::sound(seq, *gap || skipped, rate_hz, samples, levels))?;
            }
            Kind::Silence if !is_known => write(&record::silence(seq, &record.levels))?,
            Kind::States if !is_known => write(&record::states(seq, &record.states))?,
            _ => write(&record.bytes)?,
        }
        self.people = Some(Arc::clone(&record.people));
        self.states = Some(Arc::clone(&record.states));
        if matches!(record.kind, Kind::Sound { .. } | Kind::Silence) {
            self.levels = Some(Arc::clone(&record.levels));
        }
        Ok(())
    }

    /// Tells what was missed of the people and their states, before a record that says nothing of it.
    fn catch_up<E>(&self, record: &Record, mut write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let seq = record.seq.saturating_sub(1);
        match record.kind {
            Kind::Room => Ok(()),
            _ if !knows(&self.people, &record.people) => write(&record::room(seq, &record.people, &record.states)),
            Kind::States => Ok(()),
            _ if !knows(&self.states, &record.states) => write(&record::states(seq, &record.states)),
            _ => Ok(()),
        }
    }

    /// Whether the marks in the record follow on what this stream was told.
    fn understands(&self, record: &Record) -> bool {
        let (told, now) = match record.kind {
            Kind::States => (&self.states, &record.states),
            _ => (&self.levels, &record.levels),
        };
        knows(told, record.change.as_ref().map_or(now, |change| &change.before))
    }
}

fn knows(told: &Option<Arc<str>>, what: &Arc<str>) -> bool {
    told.as_ref().is_some_and(|told| Arc::ptr_eq(told, what) || told == what)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Change;
    use super::*;

    /// A record after which the levels are `levels`, and by which they are so if it has a change.
    fn record(kind: Kind, levels: &str, before: Option<&str>) -> Record {
        let change = before.map(|before| Change { before: before.into(), marks: "Y2hh".into() });
        let bytes = b"shared".to_vec();
        Record { seq: 9, kind, bytes, people: "cGVv".into(), states: "c3Rh".into(), levels: levels.into(), change }
    }

    fn sound() -> Kind {
        Kind::Sound { samples: vec![1], gap: false }
    }

    fn tell(told: &mut Told, record: &Record, skipped: bool) -> Vec<String> {
        let mut out = Vec::new();
        let write = |bytes: &[u8]| {
            out.push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok::<(), ()>(())
        };
        told.tell(record, skipped, 24000, write).unwrap();
        out
    }

    fn told() -> Told {
        Told { people: Some("cGVv".into()), states: Some("c3Rh".into()), levels: Some("".into()) }
    }

    #[test]
    fn who_is_up_to_date_gets_the_shared_bytes() {
        assert_eq!(tell(&mut told(), &record(sound(), "", None), false), ["shared"]);
        assert_eq!(tell(&mut told(), &record(Kind::Silence, "bmV3", Some("")), false), ["shared"]);
        assert_eq!(tell(&mut told(), &record(Kind::States, "", Some("c3Rh")), false), ["shared"]);
        assert_eq!(tell(&mut told(), &record(Kind::Message("eA==".into()), "", None), true), ["shared"]);
    }

    #[test]
    fn who_has_skipped_gets_a_gap_and_what_has_changed_meanwhile() {
        let old = || Some("b2xk".into());
        let mut told = Told { people: old(), states: old(), levels: old() };
        let out = tell(&mut told, &record(sound(), "bmV3", None), true);
        assert!(out[0].starts_with("<b>3,8,cGVv,c3Rh,"), "{}", out[0]);
        assert!(out[1].starts_with("<b>1,9,1,") && out[1].contains(",bmV3</b>"), "{}", out[1]);
        assert_eq!(tell(&mut told, &record(sound(), "bmV3", None), false), ["shared"]);
    }

    #[test]
    fn who_has_the_list_of_people_gets_only_their_states() {
        let mut state = State { people: "cGVv".into(), states: "c3Rh".into(), ..State::default() };
        let opening = Opening::now(&mut state);
        let told = |known: Option<&str>| String::from_utf8(opening.bytes("{}", known)).unwrap();
        let tag = record::tag("cGVv");
        let states = format!("<b>6,{},c3Rh</b>", opening.room);
        let room = format!("<b>3,{},cGVv,c3Rh,{tag}</b>", opening.room);
        assert!(told(Some(&tag)).contains(&states) && !told(Some(&tag)).contains("<b>3,"));
        for other in [None, Some(""), Some("0123456789abcdef"), Some(&tag[1..])] {
            assert!(told(other).contains(&room), "{other:?}");
        }
    }

    #[test]
    fn who_has_missed_a_change_of_states_gets_all_of_them() {
        let mut behind = Told { states: Some("b2xk".into()), ..told() };
        let out = tell(&mut behind, &record(Kind::Silence, "", None), false);
        assert_eq!(out, ["<b>6,8,c3Rh</b><script>p()</script>", "shared"]);
        let mut behind = Told { states: Some("b2xk".into()), ..told() };
        let out = tell(&mut behind, &record(Kind::States, "", Some("bWlk")), false);
        assert_eq!(out, ["<b>6,9,c3Rh</b><script>p()</script>"]);
    }

    #[test]
    fn who_has_missed_a_change_of_levels_gets_all_of_them() {
        let out = tell(&mut told(), &record(sound(), "bmV3", None), false);
        assert!(out[0].starts_with("<b>1,9,0,") && out[0].contains(",bmV3</b>"), "{}", out[0]);
        for before in [None, Some("b2xk")] {
            let out = tell(&mut told(), &record(Kind::Silence, "bmV3", before), false);
            assert_eq!(out, ["<b>2,9,bmV3</b><script>p()</script>"]);
        }
        let out = tell(&mut told(), &record(sound(), "bmV3", Some("")), true);
        assert!(out[0].starts_with("<b>1,9,1,") && out[0].contains(",Y2hh</b>"), "{}", out[0]);
    }
}
