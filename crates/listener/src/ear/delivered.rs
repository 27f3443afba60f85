//! The state of the room that one stream has received. Each record can then add the changes that this stream has missed.

use super::opus_stream::{OpusStream, Parcel};
use super::ring::{Change, Kind, Record, State};
use crate::record;
use std::sync::Arc;

/// The first records of a stream. They are encoded for this stream only.
#[derive(Debug)]
pub(crate) struct Opening {
    hello: u64,
    room: u64,
    silence: Option<u64>,
    microphone: Option<u64>,
    people: Arc<str>,
    states: Arc<str>,
    levels: Arc<str>,
}

impl Opening {
    /// Creates the first records of a stream that starts with the next record. If the room is silent, they include a silence record with
    /// the levels, because the next record may come only after 2 s. If a page or a program had the microphone
    /// and none has it now, a record says so.
    pub(super) fn now(state: &mut State) -> Self {
        let (hello, room) = (state.seq(), state.seq());
        let silence = state.silent.then(|| state.seq());
        let microphone = state.is_microphone_free.then(|| state.seq());
        let levels = if silence.is_some() { Arc::clone(&state.levels) } else { "".into() };
        let [people, states] = [&state.people, &state.states].map(Arc::clone);
        Self { hello, room, silence, microphone, people, states, levels }
    }

    /// Creates the first records of a stream that continues with the record `seq` in the ring.
    pub(super) fn before(state: &State, seq: u64) -> Self {
        let (hello, room) = (seq.saturating_sub(2), seq.saturating_sub(1));
        let [people, states] = [&state.people, &state.states].map(Arc::clone);
        Self { hello, room, silence: None, microphone: None, people, states, levels: "".into() }
    }

    /// Returns the SEQ of the silence record, or of the room record if there is no silence record.
    pub(crate) fn seq(&self) -> u64 {
        self.silence.unwrap_or(self.room)
    }

    /// Encodes the first records. `me`: the JSON of `GET /me`. `known`: the tag of the list of people that the page has already.
    pub(crate) fn bytes(&self, me: &str, known: Option<&str>) -> Vec<u8> {
        let mut bytes = record::hello(self.hello, me);
        bytes.extend(match known == Some(record::tag(&self.people).as_str()) {
            true => record::states(self.room, &self.states),
            false => record::room(self.room, &self.people, &self.states),
        });
        if let Some(seq) = self.silence {
            bytes.extend(record::silence(seq, &self.levels, None));
        }
        if let Some(seq) = self.microphone {
            bytes.extend(record::microphone(seq, false));
        }
        bytes
    }
}

/// How the samples in a stream's records are encoded.
#[derive(Debug, Default)]
pub(crate) enum Encoding {
    #[default]
    Pcm,
    Adpcm,
    Opus(OpusStream),
}

/// The state of the room that one stream has received.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    encoding: Encoding,
    people: Option<Arc<str>>,
    states: Option<Arc<str>>,
    levels: Option<Arc<str>>,
    /// If packets of sound records wait for further chunks: the levels after these records, and the changes of levels in these records.
    waiting: Option<(Arc<str>, Option<Change>)>,
}

impl Delivered {
    pub(crate) fn new(opening: &Opening, encoding: Encoding) -> Self {
        let [people, states, levels] =
            [&opening.people, &opening.states, &opening.levels].map(|known| Some(Arc::clone(known)));
        Self { encoding, people, states, levels, waiting: None }
    }

    /// Calls `write` with the bytes of `record`: the bytes shared by all streams, or bytes encoded for this stream alone if this
    /// stream missed earlier records.
    pub(crate) fn deliver<E>(
        &mut self,
        record: &Record,
        skipped: bool,
        rate_hz: u32,
        mut write: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Encoding::Opus(stream) = &mut self.encoding {
            let parcels = stream.take(record, skipped);
            self.deliver_packets(record, parcels, rate_hz, &mut write)?;
        } else {
            self.catch_up(record, &mut write)?;
            match &record.kind {
                Kind::Sound { samples, gap } => {
                    self.deliver_samples(record, (samples, *gap, skipped), rate_hz, &mut write)?;
                }
                _ => self.deliver_other(record, None, rate_hz, &mut write)?,
            }
        }
        self.people = Some(Arc::clone(&record.people));
        self.states = Some(Arc::clone(&record.states));
        Ok(())
    }

    fn deliver_samples<E>(
        &mut self,
        record: &Record,
        (samples, gap, skipped): (&[i16], bool, bool),
        rate_hz: u32,
        write: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let encode = match self.encoding {
            Encoding::Adpcm => record::adpcm,
            Encoding::Pcm | Encoding::Opus(_) => record::sound,
        };
        let levels = self.levels(record.change.as_ref(), &record.levels);
        let is_adpcm = matches!(self.encoding, Encoding::Adpcm);
        if skipped || !self.can_apply(record) {
            write(&encode(record.seq, gap || skipped, rate_hz, samples, levels))?;
        } else if is_adpcm {
            write(record.adpcm.get_or_init(|| encode(record.seq, gap, rate_hz, samples, levels)))?;
        } else {
            write(record.bytes(rate_hz))?;
        }
        self.levels = Some(Arc::clone(&record.levels));
        Ok(())
    }

    /// Writes the parcels of an Opus stream, and the record itself if it is no sound record.
    fn deliver_packets<E>(
        &mut self,
        record: &Record,
        parcels: Vec<Parcel>,
        rate_hz: u32,
        write: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (earlier, own): (Vec<_>, Vec<_>) = parcels.into_iter().partition(|parcel| parcel.seq < record.seq);
        for parcel in earlier {
            let (now, change) = self.waiting.take().unwrap_or_else(|| (self.known_levels(), None));
            write(&record::opus(
                parcel.seq,
                (parcel.gap, parcel.preroll),
                &parcel.list,
                self.levels(change.as_ref(), &now),
            ))?;
            self.levels = Some(now);
        }
        self.catch_up(record, &mut *write)?;
        let parcel = own.into_iter().next();
        if !matches!(record.kind, Kind::Sound { .. }) {
            return self.deliver_other(record, parcel.as_ref(), rate_hz, write);
        }
        let change = self.waiting.take().map_or(record.change.clone(), |(_, earlier)| joined(earlier, &record.change));
        let Some(parcel) = parcel else {
            self.waiting = Some((Arc::clone(&record.levels), change));
            return Ok(());
        };
        let levels = self.levels(change.as_ref(), &record.levels);
        write(&record::opus(parcel.seq, (parcel.gap, parcel.preroll), &parcel.list, levels))?;
        self.levels = Some(Arc::clone(&record.levels));
        Ok(())
    }

    /// Writes a record that is no sound record. `end`: the packets of the sound's end, for a silence record.
    fn deliver_other<E>(
        &mut self,
        record: &Record,
        end: Option<&Parcel>,
        rate_hz: u32,
        write: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        match record.kind {
            Kind::Silence => {
                let waiting = self.waiting.take();
                if end.is_none() && waiting.is_none() && self.can_apply(record) {
                    write(record.bytes(rate_hz))?;
                } else {
                    let change = joined(waiting.and_then(|(_, change)| change), &record.change);
                    let levels = self.levels(change.as_ref(), &record.levels);
                    write(&record::silence(record.seq, levels, end.map(|end| &*end.list)))?;
                }
                self.levels = Some(Arc::clone(&record.levels));
                Ok(())
            }
            Kind::States if !self.can_apply(record) => write(&record::states(record.seq, &record.states)),
            _ => write(record.bytes(rate_hz)),
        }
    }

    /// Returns the marks for a record after which the levels are `now`: the change, or all levels if the change doesn't apply to the values that this
    /// stream received last.
    fn levels<'a>(&self, change: Option<&'a Change>, now: &'a Arc<str>) -> &'a str {
        match change {
            Some(change) if knows(&self.levels, &change.before) => &change.marks,
            None if knows(&self.levels, now) => "",
            _ => now,
        }
    }

    fn known_levels(&self) -> Arc<str> {
        self.levels.clone().unwrap_or_default()
    }

    /// Writes the changes that this stream missed and `record` doesn't contain: the list of people with their states, or only the states if the
    /// list is the same.
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

    /// Returns whether the changes in `record` apply to the values that this stream received last.
    fn can_apply(&self, record: &Record) -> bool {
        let (delivered, now) = match record.kind {
            Kind::States => (&self.states, &record.states),
            _ => (&self.levels, &record.levels),
        };
        knows(delivered, record.change.as_ref().map_or(now, |change| &change.before))
    }
}

/// Returns two consecutive changes as one. Each mark is four base64 characters without padding, so the lists can be concatenated.
fn joined(earlier: Option<Change>, later: &Option<Change>) -> Option<Change> {
    match (earlier, later) {
        (Some(earlier), Some(later)) => {
            Some(Change { before: earlier.before, marks: format!("{}{}", earlier.marks, later.marks).into() })
        }
        (earlier, later) => earlier.or_else(|| later.clone()),
    }
}

fn knows(delivered: &Option<Arc<str>>, text: &Arc<str>) -> bool {
    delivered.as_ref().is_some_and(|it| Arc::ptr_eq(it, text) || it == text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::encoder::Encoders;
    use super::super::ring::Ring;
    use super::*;
    use crate::handover::Handover;
    use palabre_room::Format;
    use std::time::Instant;

    /// Returns a record after which the levels are `levels`. `before`: the levels to which the change in the record applies, if it has one.
    fn record(kind: Kind, levels: &str, before: Option<&str>) -> Record {
        let change = before.map(|before| Change { before: before.into(), marks: "Y2hh".into() });
        let pcm = b"shared".to_vec().into();
        let (people, states) = ("cGVv".into(), "c3Rh".into());
        Record { seq: 9, kind, pcm, people, states, levels: levels.into(), change, ..Record::default() }
    }

    fn sound() -> Kind {
        Kind::Sound { samples: vec![1], gap: false }
    }

    fn deliver(delivered: &mut Delivered, record: &Record, skipped: bool) -> Vec<String> {
        let mut out = Vec::new();
        let write = |bytes: &[u8]| {
            out.push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok::<(), ()>(())
        };
        delivered.deliver(record, skipped, 24000, write).unwrap();
        out
    }

    fn delivered() -> Delivered {
        let [people, states, levels] = ["cGVv", "c3Rh", ""].map(|text| Some(text.into()));
        Delivered { people, states, levels, ..Delivered::default() }
    }

    #[test]
    fn stream_without_losses_gets_the_shared_bytes() {
        assert_eq!(deliver(&mut delivered(), &record(sound(), "", None), false), ["shared"]);
        assert_eq!(deliver(&mut delivered(), &record(Kind::Silence, "bmV3", Some("")), false), ["shared"]);
        assert_eq!(deliver(&mut delivered(), &record(Kind::States, "", Some("c3Rh")), false), ["shared"]);
        assert_eq!(deliver(&mut delivered(), &record(Kind::Message("eA==".into()), "", None), true), ["shared"]);
    }

    #[test]
    fn stream_that_skipped_records_gets_a_gap_and_the_missed_changes() {
        let old = || Some("b2xk".into());
        let mut delivered = Delivered { people: old(), states: old(), levels: old(), ..Delivered::default() };
        let out = deliver(&mut delivered, &record(sound(), "bmV3", None), true);
        assert!(out[0].starts_with("<b>3,8,cGVv,c3Rh,"), "{}", out[0]);
        assert!(out[1].starts_with("<b>1,9,1,") && out[1].contains(",bmV3</b>"), "{}", out[1]);
        assert_eq!(deliver(&mut delivered, &record(sound(), "bmV3", None), false), ["shared"]);
    }

    #[test]
    fn page_that_has_the_list_of_people_gets_only_states() {
        let mut state = State { people: "cGVv".into(), states: "c3Rh".into(), ..State::default() };
        let opening = Opening::now(&mut state);
        let bytes = |known: Option<&str>| String::from_utf8(opening.bytes("{}", known)).unwrap();
        let tag = record::tag("cGVv");
        let states = format!("<b>6,{},c3Rh</b>", opening.room);
        let room = format!("<b>3,{},cGVv,c3Rh,{tag}</b>", opening.room);
        assert!(bytes(Some(&tag)).contains(&states) && !bytes(Some(&tag)).contains("<b>3,"));
        for other in [None, Some(""), Some("0123456789abcdef"), Some(&tag[1..])] {
            assert!(bytes(other).contains(&room), "{other:?}");
        }
    }

    #[test]
    fn stream_that_missed_a_change_of_states_gets_all_states() {
        let mut behind = Delivered { states: Some("b2xk".into()), ..delivered() };
        let out = deliver(&mut behind, &record(Kind::Silence, "", None), false);
        assert_eq!(out, ["<b>6,8,c3Rh</b><script>p()</script>", "shared"]);
        let mut behind = Delivered { states: Some("b2xk".into()), ..delivered() };
        let out = deliver(&mut behind, &record(Kind::States, "", Some("bWlk")), false);
        assert_eq!(out, ["<b>6,9,c3Rh</b><script>p()</script>"]);
    }

    #[test]
    fn stream_that_missed_a_change_of_levels_gets_all_levels() {
        let out = deliver(&mut delivered(), &record(sound(), "bmV3", None), false);
        assert!(out[0].starts_with("<b>1,9,0,") && out[0].contains(",bmV3</b>"), "{}", out[0]);
        for before in [None, Some("b2xk")] {
            let out = deliver(&mut delivered(), &record(Kind::Silence, "bmV3", before), false);
            assert_eq!(out, ["<b>2,9,bmV3</b><script>p()</script>"]);
        }
        let out = deliver(&mut delivered(), &record(sound(), "bmV3", Some("")), true);
        assert!(out[0].starts_with("<b>1,9,1,") && out[0].contains(",Y2hh</b>"), "{}", out[0]);
    }

    #[test]
    fn levels_of_chunks_that_wait_are_sent_with_the_next_packets() {
        let handover = Arc::new(Handover::new(None, Instant::now()));
        let ring = Ring::new(Format::default(), 40, handover);
        let encoder = Encoders::default().get(&ring, 16).unwrap();
        let encoding = Encoding::Opus(OpusStream::new(Arc::clone(&ring), encoder, 0));
        let mut delivered = Delivered { encoding, ..delivered() };
        let mut heard = Vec::new();
        let mut publish = |kind: Kind, before: &str, marks: &str, after: &str| {
            let mut state = ring.lock();
            (state.people, state.states, state.levels) = ("cGVv".into(), "c3Rh".into(), after.into());
            ring.publish(&mut state, kind, Some(Change { before: before.into(), marks: marks.into() }));
            let record = Arc::clone(state.ring.back().unwrap());
            drop(state);
            heard.push(deliver(&mut delivered, &record, false));
        };
        let chunk = |gap| Kind::Sound { samples: vec![0; 960], gap };
        publish(chunk(true), "", "AAAA", "b25l");
        publish(chunk(false), "b25l", "BBBB", "dHdv");
        publish(chunk(false), "dHdv", "CCCC", "dGhy");
        publish(Kind::Silence, "dGhy", "DDDD", "Zm91");
        assert_eq!(heard[0], [""; 0]);
        assert!(heard[1][0].contains(",AAAABBBB</b>"), "{:?}", heard[1]);
        assert!(heard[2].is_empty() && heard[3].len() == 2);
        assert!(heard[3][0].contains(",CCCC</b>") && heard[3][1].contains(",DDDD,"), "{:?}", heard[3]);
    }
}
