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
    levels: Arc<str>,
}

impl Opening {
    /// For a stream that begins now. In silence it says so, with the levels: the next record may be 2 s away.
    pub(super) fn now(state: &mut State) -> Self {
        let (hello, room) = (state.seq(), state.seq());
        let silence = state.silent.then(|| state.seq());
        let levels = if silence.is_some() { Arc::clone(&state.levels) } else { "".into() };
        Self { hello, room, silence, people: Arc::clone(&state.people), levels }
    }

    /// For a stream that begins with the record of this number, which is in the ring.
    pub(super) fn before(state: &State, seq: u64) -> Self {
        let (hello, room) = (seq.saturating_sub(2), seq.saturating_sub(1));
        Self { hello, room, silence: None, people: Arc::clone(&state.people), levels: "".into() }
    }

    /// Their bytes; `me` is the JSON of `GET /me`.
    pub fn bytes(&self, me: &str) -> Vec<u8> {
        let mut bytes = record::hello(self.hello, me);
        bytes.extend(record::room(self.room, &self.people));
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
    levels: Option<Arc<str>>,
}

impl Told {
    /// After these records of the beginning.
    pub fn new(opening: &Opening) -> Self {
        Self { people: Some(Arc::clone(&opening.people)), levels: Some(Arc::clone(&opening.levels)) }
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
        let knows = |told: &Option<Arc<str>>, now: &Arc<str>| told.as_ref().is_some_and(|told| told == now);
        if !matches!(record.kind, Kind::Room) && !knows(&self.people, &record.people) {
            write(&record::room(record.seq.saturating_sub(1), &record.people))?;
        }
        let knows_levels = record.carries_levels || knows(&self.levels, &record.levels);
        let takes_levels = matches!(record.kind, Kind::Sound { .. } | Kind::Silence);
        match &record.kind {
            Kind::Sound { samples, gap } if skipped || !knows_levels => {
                let levels = if knows_levels && !record.carries_levels { "" } else { &record.levels };
                write(&record::sound(record.seq, *gap || skipped, rate_hz, samples, levels))?;
            }
            Kind::Silence if !knows_levels => write(&record::silence(record.seq, &record.levels))?,
            _ => write(&record.bytes)?,
        }
        self.people = Some(Arc::clone(&record.people));
        if takes_levels {
            self.levels = Some(Arc::clone(&record.levels));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record(kind: Kind, levels: &str, carries_levels: bool) -> Record {
        let bytes = b"shared".to_vec();
        Record { seq: 9, kind, bytes, people: "cGVvcGxl".into(), levels: levels.into(), carries_levels }
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
        Told { people: Some("cGVvcGxl".into()), levels: Some("".into()) }
    }

    #[test]
    fn who_is_up_to_date_gets_the_shared_bytes() {
        assert_eq!(tell(&mut told(), &record(sound(), "", false), false), ["shared"]);
        assert_eq!(tell(&mut told(), &record(Kind::Silence, "bmV3", true), false), ["shared"]);
    }

    #[test]
    fn who_has_skipped_gets_a_gap_and_what_has_changed_meanwhile() {
        let mut told = Told { people: Some("b2xk".into()), levels: Some("b2xk".into()) };
        let out = tell(&mut told, &record(sound(), "bmV3", false), true);
        assert_eq!(out[0], "<b>3,8,cGVvcGxl</b><script>p()</script>");
        assert!(out[1].starts_with("<b>1,9,1,") && out[1].contains(",bmV3</b>"), "{}", out[1]);
        assert_eq!(tell(&mut told, &record(sound(), "bmV3", false), false), ["shared"]);
    }

    #[test]
    fn who_comes_into_the_middle_of_sound_gets_the_levels_with_the_first_record() {
        let out = tell(&mut told(), &record(sound(), "bmV3", false), false);
        assert!(out[0].starts_with("<b>1,9,0,") && out[0].contains(",bmV3</b>"), "{}", out[0]);
        assert_eq!(
            tell(&mut told(), &record(Kind::Silence, "bmV3", false), false),
            ["<b>2,9,bmV3</b><script>p()</script>"]
        );
    }
}
