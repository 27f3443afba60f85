//! A participant who listens: one stream, a second one during a planned restart of the listener, and the check of what arrives.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::continuity::{Continuity, Window};
use crate::delay::DelayMeter;
use crate::histogram::Histogram;
use crate::links::Link;
use crate::records::{self, Parser, Record, Wav};
use crate::series::Series;
use crate::spans::What;
use crate::tones::{Fault, Tones};
use crate::wire::Wire;

/// Maximum number of streams of one participant.
pub(crate) const STREAMS: usize = 2;

/// The sample rates of rooms, in Hz.
const RATES_HZ: [u32; 3] = [16_000, 24_000, 48_000];
/// The lengths of the chunks of a stream, in ms.
const CHUNKS_MS: RangeInclusive<u32> = 20..=1000;

/// The format of a room, from the first record of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) rate_hz: u32,
    pub(crate) chunk_ms: u32,
    /// Whether the mixer changes the talkers' levels.
    pub(crate) levelling: bool,
}

impl Format {
    fn parse(hello: &str) -> Result<Self, String> {
        let json: serde_json::Value =
            serde_json::from_str(&records::text(hello)?).map_err(|error| error.to_string())?;
        let number = |name: &str| json[name].as_u64().and_then(|number| u32::try_from(number).ok()).filter(|&n| n > 0);
        match (number("rate_hz"), number("chunk_ms")) {
            (Some(rate_hz), Some(chunk_ms)) if !RATES_HZ.contains(&rate_hz) || !CHUNKS_MS.contains(&chunk_ms) => Err(
                format!("the record 'hello' has an unknown sample rate ({rate_hz} Hz) or chunk length ({chunk_ms} ms)"),
            ),
            (Some(rate_hz), Some(chunk_ms)) => Ok(Self { rate_hz, chunk_ms, levelling: json["levelling"] == true }),
            _ => Err("the record 'hello' has no 'rate_hz' or no 'chunk_ms'".to_owned()),
        }
    }
}

/// What all participants have in common, and the figures of all participants.
pub(crate) struct Common {
    pub(crate) format: Option<Format>,
    pub(crate) tones: Option<Tones>,
    /// Time at which sample 0 of all tones was captured.
    pub(crate) tones_began_ms: f64,
    pub(crate) window: Option<Window>,
    pub(crate) lateness: Histogram,
    pub(crate) series: Series,
    /// Delays in ms of each talker.
    pub(crate) delays: Vec<Histogram>,
    /// Number of records that have this fault, for each fault.
    pub(crate) faults: BTreeMap<String, u64>,
    /// A mix is checked if the number of the record is a multiple of this number.
    pub(crate) stride: u64,
    bytes: Vec<u8>,
    samples: Vec<f32>,
    amplitudes: Vec<f32>,
}

impl Common {
    pub(crate) fn new(talkers: usize, stride: u64) -> Self {
        Self {
            format: None,
            tones: None,
            tones_began_ms: 0.0,
            window: None,
            lateness: Histogram::new(),
            series: Series::new(),
            delays: vec![Histogram::new(); talkers],
            faults: BTreeMap::new(),
            stride,
            bytes: Vec::new(),
            samples: Vec::new(),
            amplitudes: Vec::new(),
        }
    }
}

/// A participant who listens.
pub(crate) struct Ear {
    pub(crate) link: Link,
    /// Number of this participant's own tone.
    pub(crate) own: Option<usize>,
    streams: [Option<Stream>; STREAMS],
    /// Earliest time in ms at which the next stream may be opened.
    pub(crate) retry_ms: f64,
    heard: Heard,
    /// Measures the talkers' delays. `None`: this participant's stream is not used for that.
    meter: Option<DelayMeter>,
    /// Number of streams that ended unexpectedly in the window.
    pub(crate) ended: u64,
    /// Why the last stream ended or could not be opened.
    pub(crate) last_error: Option<String>,
    is_moving: bool,
}

struct Stream {
    wire: Wire,
    parser: Parser,
    is_open: bool,
}

/// The figures of one participant.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) continuity: Option<Continuity>,
    /// Number of records of sound in the window.
    pub(crate) records: u64,
    pub(crate) checked: u64,
    pub(crate) wrong: u64,
    pub(crate) disturbed: u64,
    /// Total number of records of sound.
    total: u64,
    pub(crate) first_sound_ms: Option<f64>,
    pub(crate) last_record_ms: f64,
    pub(crate) max_late_ms: f64,
}

impl Ear {
    pub(crate) fn new(link: Link, own: Option<usize>, measures_delay: bool) -> Self {
        Self {
            link,
            own,
            streams: [None, None],
            retry_ms: 0.0,
            heard: Heard::default(),
            meter: measures_delay.then(DelayMeter::default),
            ended: 0,
            last_error: None,
            is_moving: false,
        }
    }

    pub(crate) fn heard(&self) -> &Heard {
        &self.heard
    }

    pub(crate) fn continuity(&mut self) -> &mut Continuity {
        // Without a format, no record has arrived, so the length of a chunk is unknown. 40 ms is the default in palabre.toml. The value affects only
        // the number of missing records.
        self.heard.continuity.get_or_insert_with(|| Continuity::new(40.0))
    }

    /// Returns true if no stream is open and none is being opened.
    pub(crate) fn is_closed(&self) -> bool {
        self.streams.iter().all(Option::is_none)
    }

    /// Returns whether a stream has delivered its first record.
    pub(crate) fn is_open(&self) -> bool {
        self.streams.iter().flatten().any(|stream| stream.is_open)
    }

    /// Returns whether the participant's listener has announced its replacement, and a second stream is needed.
    pub(crate) fn needs_second(&self) -> bool {
        self.is_moving && self.streams.iter().flatten().count() == 1
    }

    /// Opens a stream. Returns its number and its connection.
    pub(crate) fn open(&mut self, config: &Arc<ClientConfig>) -> io::Result<Option<(usize, &Wire)>> {
        self.is_moving = false;
        let Some(free) = self.streams.iter().position(Option::is_none) else { return Ok(None) };
        let mut wire = Wire::connect(config, &self.link.address)?;
        let (path, host, key) = (&self.link.address.path, self.link.host(), self.link.key.as_str());
        let last = self.heard.continuity.as_ref().and_then(Continuity::last_seq);
        let query = last.map_or(String::new(), |seq| format!("?from={seq}"));
        let request =
            format!("GET {path}listen{query} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\r\n");
        wire.send(request.as_bytes())?;
        let stream = self.streams[free].insert(Stream { wire, parser: Parser::new(), is_open: false });
        Ok(Some((free, &stream.wire)))
    }

    /// Reads from a stream. After an error, which contains the cause, the stream is closed.
    pub(crate) fn read(
        &mut self,
        number: usize,
        common: &mut Common,
        scratch: &mut [u8],
        now_ms: f64,
    ) -> Result<(), String> {
        let Some(stream) = &mut self.streams[number] else { return Ok(()) };
        let (heard, meter, own) = (&mut self.heard, &mut self.meter, self.own);
        let (mut fault, mut moves) = (None, false);
        let result = match stream.wire.read(scratch) {
            Ok(None) => Ok(()),
            Ok(Some(0)) => Err("the listener ended the stream".to_owned()),
            Err(error) => Err(error.to_string()),
            Ok(Some(count)) => stream.parser.feed(&scratch[..count], |seq, record| {
                stream.is_open = true;
                moves |= record == Record::Moved;
                let result = heard.record(seq, &record, common, meter.as_mut(), own, now_ms);
                fault = fault.take().or(result.err());
            }),
        };
        // A listener announces its replacement twice. After the second announcement, don't open another stream if a stream to the next process is open.
        self.is_moving |= moves && self.streams.iter().flatten().count() == 1;
        let result = result.and(fault.map_or(Ok(()), Err));
        if result.is_err() {
            self.streams[number] = None;
        }
        result
    }
}

impl Heard {
    fn record(
        &mut self,
        seq: u64,
        record: &Record<'_>,
        common: &mut Common,
        meter: Option<&mut DelayMeter>,
        own: Option<usize>,
        now_ms: f64,
    ) -> Result<(), String> {
        self.last_record_ms = now_ms;
        if let Record::Hello(hello) = record {
            let format = Format::parse(hello)?;
            if *common.format.get_or_insert(format) != format {
                return Err("the participant's room has another format than the other participants' room".to_owned());
            }
            let max = Tones::max(format.rate_hz);
            if common.delays.len() > max {
                return Err(format!(
                    "at {} Hz, there are tones for {max} talkers; choose a lower --talkers",
                    format.rate_hz
                ));
            }
        }
        let Some(format) = common.format else { return Err("the first record is not 'hello'".to_owned()) };
        let continuity = self.continuity.get_or_insert_with(|| Continuity::new(f64::from(format.chunk_ms)));
        // Ignore the SEQs of 'hello' and of other records: every stream begins with a 'hello', and a text message may have an earlier SEQ.
        if *record == Record::Other || matches!(record, Record::Hello(_)) || !continuity.seq(seq, now_ms) {
            return Ok(());
        }
        match *record {
            Record::Sound { gap, wav } => self.sound(gap, wav, format, common, meter, own, now_ms),
            Record::Removed => Err("the participant was removed".to_owned()),
            _ => Ok(()),
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "these values come from several structures, which the caller borrows separately, so they can't be one parameter"
    )]
    fn sound(
        &mut self,
        gap: bool,
        wav: Wav<'_>,
        format: Format,
        common: &mut Common,
        meter: Option<&mut DelayMeter>,
        own: Option<usize>,
        now_ms: f64,
    ) -> Result<(), String> {
        let Some(continuity) = &mut self.continuity else { return Ok(()) };
        let length_ms = wav.samples() as f64 * 1000.0 / f64::from(format.rate_hz);
        let is_inside = common.window.is_some_and(|window| now_ms >= window.begin_ms && now_ms < window.end_ms);
        let window = common.window.filter(|window| now_ms >= window.begin_ms);
        let late_ms = continuity.sound(gap, length_ms, now_ms, window);
        self.first_sound_ms.get_or_insert(now_ms);
        self.total += 1;
        if is_inside {
            self.records += 1;
            self.max_late_ms = self.max_late_ms.max(late_ms);
            common.lateness.add(late_ms);
            common.series.lateness(late_ms);
        }
        let is_whole = (length_ms - f64::from(format.chunk_ms)).abs() < 0.1;
        let Some(tones) = common.tones.as_ref().filter(|_| is_inside && is_whole) else { return Ok(()) };
        if meter.is_none() && !self.total.is_multiple_of(common.stride) {
            return Ok(());
        }
        wav.decode(format.rate_hz, &mut common.bytes, &mut common.samples)?;
        tones.measure(&common.samples, &mut common.amplitudes);
        let (faults, disturbed) = tones.check(&common.samples, &common.amplitudes, own, format.levelling);
        self.checked += 1;
        self.wrong += u64::from(!faults.is_empty());
        self.disturbed += u64::from(disturbed);
        if disturbed {
            continuity.spans.note(What::Disturbed, now_ms - length_ms, now_ms, 1);
        }
        for fault in faults {
            continuity.spans.note(What::Mix(fault), now_ms - length_ms, now_ms, 1);
            *common.faults.entry(describe(fault)).or_default() += 1;
        }
        if let Some(meter) = meter.filter(|_| !format.levelling) {
            if gap {
                meter.restart();
            }
            let (delays, series, origin) = (&mut common.delays, &mut common.series, common.tones_began_ms);
            meter.record(tones, &common.amplitudes, now_ms, length_ms, origin, |talker, ms| {
                delays[talker].add(ms);
                series.delay(ms);
            });
        }
        Ok(())
    }
}

pub(crate) fn describe(fault: Fault) -> String {
    match fault {
        Fault::Missing(talker) => format!("the tone of talker {} is missing", talker + 1),
        Fault::Own(talker) => format!("talker {} hears their own tone", talker + 1),
        Fault::Level(talker) => format!("the tone of talker {} has a wrong level", talker + 1),
        Fault::Noise => "the mix contains more noise than tones".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;

    const TALKERS: usize = 3;

    #[test]
    fn unknown_format_is_refused() {
        for (rate_hz, chunk_ms, is_valid) in [
            (24_000_u64, 40, true),
            (1, 40, false),
            (4_000_000_000, 40, false),
            (24_000, 1, false),
            (24_000, 1001, false),
        ] {
            let hello = BASE64.encode(format!(r#"{{"rate_hz":{rate_hz},"chunk_ms":{chunk_ms}}}"#));
            assert_eq!(Format::parse(&hello).is_ok(), is_valid, "{rate_hz} Hz, {chunk_ms} ms");
        }
    }

    #[test]
    fn talkers_without_a_tone_at_the_rate_of_the_room_are_refused() {
        let hello = BASE64.encode(r#"{"rate_hz":16000,"chunk_ms":40}"#);
        let max = Tones::max(16_000);
        for (talkers, is_possible) in [(max, true), (max + 1, false)] {
            let (mut heard, mut common) = (Heard::default(), Common::new(talkers, 1));
            let result = heard.record(1, &Record::Hello(&hello), &mut common, None, None, 0.0);
            assert_eq!(result.is_ok(), is_possible, "{talkers} talkers");
        }
    }

    /// Plays four seconds of the tones of `talkers` to a participant with the tone 0, and returns the figures.
    fn heard(talkers: &[usize]) -> (Heard, Common) {
        let (mut heard, mut common) = (Heard::default(), Common::new(TALKERS, 1));
        let hello = BASE64.encode(r#"{"rate_hz":24000,"chunk_ms":40,"levelling":false}"#);
        let mut record = |seq, record: Record<'_>, common: &mut Common, ms| {
            heard.record(seq, &record, common, None, Some(0), ms).unwrap();
        };
        record(1, Record::Hello(&hello), &mut common, 0.0);
        common.tones = Some(Tones::new(24_000, TALKERS));
        common.window = Some(Window { begin_ms: 1000.0, end_ms: 4000.0 });
        for number in 0..100_u64 {
            let mut sum = [0_i16; 960];
            for &talker in talkers {
                let mut bytes = Vec::new();
                common.tones.as_ref().unwrap().write(talker, number * 960, 960, &mut bytes);
                for (sum, pair) in sum.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *sum += i16::from_le_bytes(*pair);
                }
            }
            let text = format!(
                "<b>1,{},{},{},</b><script>p()</script>",
                40 * number + 41,
                u8::from(number == 0),
                BASE64.encode(palabre_sound::wav::little(24_000, &sum))
            );
            let mut parser = Parser::new();
            let stream = format!("HTTP/1.1 200 OK\r\n\r\n<!doctype html></script>{text}");
            parser
                .feed(stream.as_bytes(), |seq, sound| record(seq, sound, &mut common, (40 * number + 41) as f64))
                .unwrap();
        }
        (heard, common)
    }

    #[test]
    fn right_mix_has_no_faults() {
        let (heard, common) = heard(&[1, 2]);
        assert_eq!((heard.records, heard.checked, heard.wrong, heard.disturbed), (75, 75, 0, 0));
        assert_eq!(common.lateness.percentile_ms(100.0), 0.0);
    }

    #[test]
    fn own_tone_and_missing_tone_are_counted_and_named() {
        let (heard, common) = heard(&[0, 2]);
        assert_eq!((heard.checked, heard.wrong), (75, 75));
        let named: Vec<_> = common.faults.into_iter().collect();
        assert_eq!(
            named,
            [("talker 1 hears their own tone".into(), 75), ("the tone of talker 2 is missing".into(), 75)]
        );
    }
}
