//! A recording: writes each speaker's frames to the speaker's track, and the limited sum of all frames to the room's track.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use palabre_room::{FRAME_MS, Format, Name, RecordedFrame};
use palabre_sound::limit::{LOOK_AHEAD_MS, Limiter};
use palabre_sound::mix::Sum;

use crate::track::{Layout, Track};

/// Name of the room's track. A participant's name can't begin with `_`.
const ROOM: &str = "_room";
/// Maximum delay between a tick of the mixer and the arrival of the tick's frames at the recorder.
const MAX_DELAY: Duration = Duration::from_millis(400);
/// Maximum number of speakers with a track. Each track keeps a file open. Further speakers are in the room's track only.
const MAX_SPEAKERS: usize = 1_000;
const TICK: Duration = Duration::from_millis(FRAME_MS);

/// A recording with all its tracks.
pub(crate) struct Session {
    began: Duration,
    layout: Layout,
    tracks: BTreeMap<Name, Track>,
    room: RoomTrack,
}

impl Session {
    /// Creates a recording in `directory` that started at the time `began` of CLOCK_MONOTONIC.
    pub(crate) fn new(directory: PathBuf, format: Format, began: Duration, part_minutes: u64) -> Self {
        let rate_hz = format.rate.hz();
        let layout = Layout { directory, rate_hz, part_samples: part_minutes * 60 * u64::from(rate_hz) };
        let room = RoomTrack::new(Track::new(layout.clone(), ROOM), format);
        Self { began, layout, tracks: BTreeMap::new(), room }
    }

    /// Returns the number of speakers who have a track.
    pub(crate) fn speakers(&self) -> usize {
        self.tracks.len()
    }

    /// Writes a speaker's frame. Write the frames of all speakers in one tick before frames of the next tick.
    pub(crate) fn take(&mut self, take: &RecordedFrame) -> io::Result<()> {
        let Some(at) = self.sample_at(take.at) else { return Ok(()) };
        if let Some(track) = self.tracks.get_mut(&take.name) {
            track.write(at, &take.frame)?;
        } else if self.tracks.len() < MAX_SPEAKERS {
            let mut track = Track::new(self.layout.clone(), take.name.as_str());
            track.write(at, &take.frame)?;
            self.tracks.insert(take.name.clone(), track);
        }
        self.room.take(take.at, at, &take.frame)
    }

    /// Extends every track with silence up to `now` minus [`MAX_DELAY`]. Frames of later ticks may still arrive.
    pub(crate) fn update(&mut self, now: Duration) -> io::Result<()> {
        let settled = now.saturating_sub(MAX_DELAY);
        self.room.settle(settled)?;
        self.update_all(settled)
    }

    /// Completes every track after the last frame. If completing a track fails, the other tracks are still completed.
    pub(crate) fn end(&mut self, now: Duration) -> io::Result<()> {
        // Add two ticks: the last frame may start at `now`, and the limiter delays that frame.
        self.room.finish().and(self.update_all(now + TICK * 2))
    }

    fn update_all(&mut self, until: Duration) -> io::Result<()> {
        let Some(samples) = self.sample_at(until) else { return Ok(()) };
        let tracks = self.tracks.values_mut().chain([&mut self.room.track]);
        tracks.map(|track| track.update(samples)).fold(Ok(()), Result::and)
    }

    /// Returns the number of the sample at this time, or `None` if the time is before the start of the recording.
    fn sample_at(&self, time: Duration) -> Option<u64> {
        let since = time.checked_sub(self.began)?;
        u64::try_from(since.as_nanos() * u128::from(self.layout.rate_hz) / 1_000_000_000).ok()
    }
}

/// The room's track: the sum of all speakers, with the limiter that the mixer uses.
struct RoomTrack {
    track: Track,
    sum: Sum,
    limiter: Limiter,
    frame: Vec<i16>,
    /// Delay of the limiter in samples.
    delay: u64,
    /// Time and sample number of the tick whose frames are being summed.
    tick: Option<(Duration, u64)>,
}

impl RoomTrack {
    fn new(track: Track, format: Format) -> Self {
        Self {
            track,
            sum: Sum::new(format.frame_samples()),
            limiter: Limiter::new(format.rate.hz()),
            frame: vec![0; format.frame_samples()],
            delay: format.samples_in_ms(LOOK_AHEAD_MS as u64) as u64,
            tick: None,
        }
    }

    fn take(&mut self, time: Duration, at: u64, frame: &[i16]) -> io::Result<()> {
        if self.tick.is_none_or(|(tick, _)| tick != time) {
            let follows = self.tick.is_some_and(|(tick, _)| time > tick && time - tick <= TICK + TICK / 2);
            self.write()?;
            if !follows {
                self.write_tail()?;
            }
            self.tick = Some((time, at));
        }
        self.sum.add(frame);
        Ok(())
    }

    /// Writes the current tick if the tick ends before `until`.
    fn settle(&mut self, until: Duration) -> io::Result<()> {
        if self.tick.is_some_and(|(tick, _)| tick + TICK < until) { self.finish() } else { Ok(()) }
    }

    /// Writes the current tick and the samples that the limiter holds back. Silence follows.
    fn finish(&mut self) -> io::Result<()> {
        self.write()?;
        self.write_tail()
    }

    /// Writes the sum of the current tick. Doesn't change `tick`.
    fn write(&mut self) -> io::Result<()> {
        let Some((_, at)) = self.tick else { return Ok(()) };
        self.sum.seal();
        self.limiter.process(self.sum.total(), &mut self.frame);
        self.sum.clear();
        // Write the samples earlier by the delay of the limiter. Leave out samples before the start of the recording.
        let missing = self.delay.saturating_sub(at);
        self.track.write(at.saturating_sub(self.delay), &self.frame[missing as usize..])
    }

    /// Writes the samples that the limiter holds back after the last tick.
    fn write_tail(&mut self) -> io::Result<()> {
        if let Some((tick, at)) = self.tick.take() {
            self.tick = Some((tick + TICK, at + self.frame.len() as u64));
            let written = self.write();
            self.tick = None;
            self.limiter.rest(1_000);
            written?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_sound::wav::{self, Head};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn take(at_ms: u64, who: &str, value: i16) -> RecordedFrame {
        RecordedFrame { at: ms(at_ms), name: who.parse().unwrap(), frame: vec![value; 480] }
    }

    fn samples(directory: &tempfile::TempDir, name: &str) -> Vec<i16> {
        let bytes = std::fs::read(directory.path().join(name)).unwrap();
        assert_eq!(Head::read(&mut &bytes[..]).unwrap().rate_hz, 24_000);
        let samples: Vec<i16> = bytes[44..].chunks_exact(2).map(|x| i16::from_le_bytes([x[0], x[1]])).collect();
        assert!(bytes == wav::little(24_000, &samples), "{name}");
        samples
    }

    /// Returns the times in ms at which the samples of this value begin and end.
    fn span(samples: &[i16], value: i16) -> (usize, usize) {
        let first = samples.iter().position(|&x| x == value).unwrap();
        let last = samples.iter().rposition(|&x| x == value).unwrap();
        (first / 24, (last + 1) / 24)
    }

    #[test]
    fn tracks_are_aligned_and_room_track_is_their_sum() {
        let directory = tempfile::tempdir().unwrap();
        let mut session = Session::new(directory.path().to_owned(), Format::default(), ms(1_000), 360);
        session.take(&take(900, "alice", 9)).unwrap();
        for at in (1_100..1_200).step_by(20) {
            session.take(&take(at, "alice", 100)).unwrap();
        }
        // From 1200 to 1300 ms, bob speaks together with alice.
        for at in (1_200..1_300).step_by(20) {
            session.take(&take(at, "alice", 100)).unwrap();
            session.take(&take(at, "bob", 23)).unwrap();
        }
        session.take(&take(1_987, "bob", 7)).unwrap();
        session.update(ms(3_000)).unwrap();
        let (alice, bob, room) =
            (samples(&directory, "alice.wav"), samples(&directory, "bob.wav"), samples(&directory, "_room.wav"));
        assert_eq!([alice.len(), bob.len(), room.len()], [1_600 * 24; 3]);
        assert_eq!(span(&alice, 100), (100, 300));
        assert_eq!((span(&bob, 23), span(&bob, 7)), ((200, 300), (987, 1_007)));
        assert_eq!((span(&room, 100), span(&room, 123), span(&room, 7)), ((100, 200), (200, 300), (987, 1_007)));
        assert!(room[301 * 24..987 * 24].iter().all(|&x| x == 0));
    }

    #[test]
    fn frame_at_the_start_is_recorded() {
        let directory = tempfile::tempdir().unwrap();
        let mut session = Session::new(directory.path().to_owned(), Format::default(), ms(1_000), 360);
        session.take(&take(1_000, "alice", 100)).unwrap();
        session.end(ms(1_040)).unwrap();
        assert_eq!(span(&samples(&directory, "_room.wav"), 100), (0, 20));
    }

    #[test]
    fn continued_recording_stays_aligned() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Session::new(directory.path().to_owned(), Format::default(), ms(0), 360);
        let mut session = open();
        session.take(&take(100, "alice", 100)).unwrap();
        session.take(&take(100, "bob", 50)).unwrap();
        drop(session);
        let mut session = open();
        session.take(&take(500, "alice", 101)).unwrap();
        session.take(&take(500, "carol", 60)).unwrap();
        session.end(ms(600)).unwrap();
        let (alice, carol) = (samples(&directory, "alice.wav"), samples(&directory, "carol.wav"));
        assert_eq!((span(&alice, 100), span(&alice, 101), span(&carol, 60)), ((100, 120), (500, 520), (500, 520)));
        assert_eq!(span(&samples(&directory, "_room.wav"), 161), (500, 520));
    }
}
