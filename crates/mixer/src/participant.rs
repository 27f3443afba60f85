//! One participant: microphone, jitter buffer, levelling, gain and ear.

use std::time::Duration;

use palabre_room::{FileId, Format, Gain, LevelLine, Levelling, Name, ParticipantDir, Talk, file_id};
use palabre_sound::gain;
use palabre_sound::jitter::{Jitter, Pulled};
use palabre_sound::meter::Meter;

use crate::clock::TICK;
use crate::context::{Context, LastWarning};
use crate::ear::Ear;
use crate::gains::Gains;
use crate::levelling::{LevellingFile, OptionalLeveller};
use crate::mic::Mic;
use crate::poller::ParticipantId;
use crate::watcher::{Change, Watch};

/// Number of ticks for which a participant remains listed in `levels` after the last frame. The level is measured over the same time.
const LISTED_TICKS: u32 = 10;

/// A participant whom the mixer serves: the open files of the participant's directory, and the state of the sound.
#[derive(Debug)]
pub(crate) struct Participant {
    pub(crate) name: Name,
    /// Identity of the directory. Another directory of the same name is another participant.
    pub(crate) dir_id: Option<FileId>,
    pub(crate) watch: Watch,
    dir: ParticipantDir,
    mic: Mic,
    ear: Ear,
    jitter: Jitter,
    levelling: LevellingFile,
    leveller: OptionalLeveller,
    meter: Meter,
    gain: Gain,
    /// Gain factor at the end of the last frame. A new gain is reached by a ramp over one frame.
    factor: f32,
    gains: Gains,
    /// Whether the file `gains` may have changed since the mixer last read it.
    gains_changed: bool,
    /// Time from which on a change of the file `gains` is read at once. An earlier change is read at the next tick.
    gains_due: Duration,
    /// This tick's frame after levelling and gain, if `has_frame`.
    frame: Vec<i16>,
    has_frame: bool,
    talk_changed: bool,
    ticks_silent: u32,
    talked_ticks: u64,
    gain_warning: LastWarning,
    gains_warning: LastWarning,
    ear_frames_warning: LastWarning,
}

impl Participant {
    pub(crate) fn new(name: Name, dir: ParticipantDir, format: Format, id: ParticipantId, watch: Watch) -> Self {
        Self {
            name,
            dir_id: file_id(dir.path()).ok(),
            watch,
            mic: Mic::new(dir.mic(), format, id),
            ear: Ear::new(dir.ear(), format, id),
            dir,
            jitter: Jitter::new(format.rate.hz()),
            levelling: LevellingFile::default(),
            leveller: OptionalLeveller::new(format.rate.hz()),
            meter: Meter::new(),
            gain: Gain::default(),
            factor: 1.0,
            gains: Gains::default(),
            gains_changed: false,
            gains_due: Duration::ZERO,
            frame: vec![0; format.frame_samples()],
            has_frame: false,
            talk_changed: false,
            ticks_silent: LISTED_TICKS,
            talked_ticks: 0,
            gain_warning: LastWarning::default(),
            gains_warning: LastWarning::default(),
            ear_frames_warning: LastWarning::default(),
        }
    }

    /// Reads all files of the directory.
    pub(crate) fn rescan(&mut self, cx: &mut Context) {
        self.read_gain(cx);
        self.levelling.set(cx, self.dir.levelling());
        self.read_gains(cx);
        self.read_ear_frames(cx);
        self.mic.refresh(cx);
        self.ear.refresh(cx);
    }

    /// Handles a change of the directory's entry `entry`.
    pub(crate) fn entry_changed(&mut self, cx: &mut Context, change: Change, entry: &str) {
        match (entry, change) {
            ("mic", Change::Created | Change::Complete | Change::Removed) => self.mic.refresh(cx),
            ("ear", _) => self.ear.refresh(cx),
            // A file that was just created is empty until its writer closes it.
            ("gain", Change::Complete | Change::Removed) => self.read_gain(cx),
            ("levelling", Change::Complete | Change::Removed) => self.levelling.set(cx, self.dir.levelling()),
            ("gains" | "without", Change::Complete | Change::Removed) => {
                // The file can have a thousand lines. If it changes again within a tick, read it only at the next tick.
                self.gains_changed = true;
                if cx.now.since_boot >= self.gains_due {
                    self.read_changed_gains(cx);
                }
            }
            ("ear-frames", Change::Complete | Change::Removed) => self.read_ear_frames(cx),
            _ => {}
        }
    }

    /// Returns the time at which to call [`Self::catch_up`] if no event comes earlier.
    pub(crate) fn deadline(&self, cx: &Context) -> Option<Duration> {
        self.mic.deadline(cx)
    }

    /// Tries again to open a `mic` that could not be opened, and reads the `mic`. Call it at [`Self::deadline`]. `scratch` is reused memory
    /// for samples.
    pub(crate) fn catch_up(&mut self, cx: &mut Context, scratch: &mut Vec<i16>) {
        self.mic.retry(cx);
        self.read_mic(cx, scratch);
    }

    /// Moves samples from the `mic` to the jitter buffer. `scratch` is reused memory for samples.
    pub(crate) fn read_mic(&mut self, cx: &mut Context, scratch: &mut Vec<i16>) {
        scratch.clear();
        self.mic.read(cx, scratch);
        if self.gain != Gain::Mute {
            self.jitter.push(cx.now.since_boot, scratch);
        }
    }

    /// Takes the frame that is due at `now` out of the jitter buffer, and returns it after levelling and gain. Returns `None` if there is
    /// no frame. `room` is the value of the room's file `levelling`.
    pub(crate) fn take_frame(&mut self, cx: &Context, now: Duration, room: Option<Levelling>) -> Option<&[i16]> {
        self.mic.refill(cx);
        self.has_frame = self.jitter.pull(now, &mut self.frame) == Pulled::Frame;
        let talked = self.meter.is_talking();
        if self.has_frame {
            self.leveller.process(&mut self.frame, Levelling::is_on(self.levelling.value(), room));
            gain::ramp(&mut self.frame, self.factor, factor(self.gain));
            self.factor = factor(self.gain);
            self.meter.push(&self.frame);
            self.ticks_silent = 0;
        } else if self.ticks_silent < LISTED_TICKS {
            self.meter.push(&[]);
            self.ticks_silent += 1;
        } else {
            // The participant is no longer listed in `levels`, so the participant no longer counts as talking.
            self.meter.reset();
        }
        self.talk_changed = self.meter.is_talking() != talked;
        self.talked_ticks += u64::from(self.meter.is_talking());
        self.frame()
    }

    /// Returns whether the participant started or stopped talking in the current tick.
    pub(crate) fn talk_changed(&self) -> bool {
        self.talk_changed
    }

    /// Returns the number of ticks in which the participant has talked since the mixer opened the participant's directory.
    pub(crate) fn talked_ticks(&self) -> u64 {
        self.talked_ticks
    }

    /// Returns this participant's frame of the current tick, after levelling and gain.
    pub(crate) fn frame(&self) -> Option<&[i16]> {
        self.has_frame.then_some(&self.frame[..])
    }

    pub(crate) fn ear(&self) -> &Ear {
        &self.ear
    }

    pub(crate) fn ear_mut(&mut self) -> &mut Ear {
        &mut self.ear
    }

    pub(crate) fn mic(&self) -> &Mic {
        &self.mic
    }

    pub(crate) fn jitter(&self) -> &Jitter {
        &self.jitter
    }

    /// Returns the gains with which this participant hears the others.
    pub(crate) fn gains(&self) -> &Gains {
        &self.gains
    }

    /// Begins a tick for the personal gains ([`Gains::advance`]). First reads the file `gains` if it has changed. `after_silence`: the room was
    /// silent, so a change needs no fade.
    pub(crate) fn advance_gains(&mut self, cx: &mut Context, after_silence: bool) {
        self.read_changed_gains(cx);
        self.gains.advance(after_silence);
    }

    /// Returns whether this participant needs no ticks.
    pub(crate) fn is_idle(&self) -> bool {
        self.jitter.is_idle() && !self.mic.needs_ticks()
    }

    /// Resets the meter, and uses the present gain without a ramp. Call it when the room becomes idle.
    pub(crate) fn reset_meter(&mut self) {
        self.factor = factor(self.gain);
        self.ticks_silent = LISTED_TICKS;
        self.meter.reset();
    }

    /// Returns this participant's line in `levels`, if there is one.
    pub(crate) fn level(&self) -> Option<LevelLine> {
        let (state, dbfs) = if self.gain == Gain::Mute {
            (Talk::Muted, f32::NEG_INFINITY)
        } else if self.ticks_silent < LISTED_TICKS {
            (if self.meter.is_talking() { Talk::Talking } else { Talk::Quiet }, self.meter.level_dbfs())
        } else {
            return None;
        };
        Some(LevelLine { name: self.name.clone(), state, dbfs })
    }

    fn read_gain(&mut self, cx: &mut Context) {
        match self.dir.gain() {
            Ok(gain) => {
                self.gain = gain;
                if self.ticks_silent >= LISTED_TICKS {
                    self.factor = factor(gain);
                }
                self.gain_warning.clear();
            }
            Err(error) => cx.warn_if_new(&mut self.gain_warning, format!("{error}; the gain remains {}", self.gain)),
        }
    }

    fn read_changed_gains(&mut self, cx: &mut Context) {
        if std::mem::take(&mut self.gains_changed) {
            self.gains_due = cx.now.since_boot + TICK;
            self.read_gains(cx);
        }
    }

    fn read_gains(&mut self, cx: &mut Context) {
        match self.dir.gains() {
            Ok(gains) => {
                self.gains.set(gains);
                self.gains_warning.clear();
            }
            Err(error) => cx.warn_if_new(&mut self.gains_warning, format!("{error}; keeping the previous gains")),
        }
    }

    fn read_ear_frames(&mut self, cx: &mut Context) {
        match self.dir.ear_frames() {
            Ok(frames) => {
                self.ear.set_frames(frames);
                self.ear_frames_warning.clear();
            }
            Err(error) => cx.warn_if_new(
                &mut self.ear_frames_warning,
                format!("{error}; the number of frames in each write to 'ear' remains unchanged"),
            ),
        }
    }
}

/// Returns the factor by which samples are multiplied: 1 at 0 dB, 0 when muted.
fn factor(gain: Gain) -> f32 {
    match gain {
        Gain::Db(db) => gain::factor(db),
        Gain::Mute => 0.0,
    }
}
