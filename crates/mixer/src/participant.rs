//! One participant: microphone, jitter buffer, levelling, gain, and what they hear.

use palabre_room::{Format, Gain, LevelLine, Levelling, Name, ParticipantDir, PipeId, Talk, pipe_id};
use palabre_sound::gain;
use palabre_sound::jitter::{Jitter, Pulled};
use palabre_sound::meter::Meter;

use crate::context::{Complaint, Context};
use crate::ear::Ear;
use crate::levelling::{Choice, Voice};
use crate::mic::Mic;
use crate::poller::Key;
use crate::watcher::{Watch, What};

/// Ticks for which somebody is still listed after their last frame: the time over which the level is taken.
const LISTED_TICKS: u32 = 10;

/// A participant's directory, as the mixer serves it.
#[derive(Debug)]
pub struct Participant {
    pub name: Name,
    /// Which directory this is: another one of the same name is another participant.
    pub id: Option<PipeId>,
    pub watch: Watch,
    dir: ParticipantDir,
    mic: Mic,
    ear: Ear,
    jitter: Jitter,
    levelling: Choice,
    voice: Voice,
    meter: Meter,
    gain: Gain,
    /// What the last frame was multiplied by; a change of gain takes one frame.
    factor: f32,
    without: Vec<Name>,
    /// This tick's frame, levelled and gain applied, if there is one.
    frame: Vec<i16>,
    speaks: bool,
    turned: bool,
    ticks_silent: u32,
    talked_ticks: u64,
    gain_complaint: Complaint,
    without_complaint: Complaint,
}

impl Participant {
    pub fn new(name: Name, dir: ParticipantDir, format: Format, key: Key, watch: Watch) -> Self {
        Self {
            name,
            id: pipe_id(dir.path()).ok(),
            watch,
            mic: Mic::new(dir.mic(), format, key),
            ear: Ear::new(dir.ear(), format, key),
            dir,
            jitter: Jitter::new(format.rate.hz()),
            levelling: Choice::default(),
            voice: Voice::new(format.rate.hz()),
            meter: Meter::new(),
            gain: Gain::default(),
            factor: 1.0,
            without: Vec::new(),
            frame: vec![0; format.frame_samples()],
            speaks: false,
            turned: false,
            ticks_silent: LISTED_TICKS,
            talked_ticks: 0,
            gain_complaint: Complaint::default(),
            without_complaint: Complaint::default(),
        }
    }

    /// Looks at everything in the directory.
    pub fn rescan(&mut self, cx: &mut Context) {
        self.read_gain(cx);
        self.levelling.set(cx, self.dir.levelling());
        self.read_without(cx);
        self.mic.refresh(cx);
        self.ear.refresh(cx);
    }

    /// Something happened to an entry of the directory.
    pub fn changed(&mut self, cx: &mut Context, what: What, entry: &str) {
        match (entry, what) {
            ("mic", What::Created | What::Complete | What::Left) => self.mic.refresh(cx),
            ("ear", _) => self.ear.refresh(cx),
            // A file that was just made is empty until its writer closes it.
            ("gain", What::Complete | What::Left) => self.read_gain(cx),
            ("levelling", What::Complete | What::Left) => self.levelling.set(cx, self.dir.levelling()),
            ("without", What::Complete | What::Left) => self.read_without(cx),
            _ => {}
        }
    }

    /// Takes what is in the microphone's pipe.
    pub fn hear(&mut self, cx: &mut Context, scratch: &mut Vec<i16>) {
        scratch.clear();
        self.mic.drain(cx, scratch);
        if self.gain != Gain::Mute {
            self.jitter.push(cx.now.since_boot, scratch);
        }
    }

    /// Takes this tick's frame out of the jitter buffer; `None` when there is nothing to hear. `room` is what the room says
    /// of levelling.
    pub fn speak(&mut self, cx: &Context, now: std::time::Duration, room: Option<Levelling>) -> Option<&[i16]> {
        self.mic.refill(cx);
        self.speaks = self.jitter.pull(now, &mut self.frame) == Pulled::Frame;
        let talked = self.meter.is_talking();
        if self.speaks {
            self.voice.level(&mut self.frame, Levelling::is_on(self.levelling.get(), room));
            gain::ramp(&mut self.frame, self.factor, factor(self.gain));
            self.factor = factor(self.gain);
            self.meter.push(&self.frame);
            self.ticks_silent = 0;
        } else if self.ticks_silent < LISTED_TICKS {
            self.meter.push(&[]);
            self.ticks_silent += 1;
        }
        self.turned = self.meter.is_talking() != talked;
        self.talked_ticks += u64::from(self.meter.is_talking());
        self.frame()
    }

    /// Whether they began or ended to talk in the present tick.
    pub fn turned(&self) -> bool {
        self.turned
    }

    /// For how many ticks they have talked so far.
    pub fn talked_ticks(&self) -> u64 {
        self.talked_ticks
    }

    /// The frame of the present tick.
    pub fn frame(&self) -> Option<&[i16]> {
        self.speaks.then_some(&self.frame[..])
    }

    pub fn ear(&self) -> &Ear {
        &self.ear
    }

    pub fn ear_mut(&mut self) -> &mut Ear {
        &mut self.ear
    }

    pub fn mic(&self) -> &Mic {
        &self.mic
    }

    pub fn mic_mut(&mut self) -> &mut Mic {
        &mut self.mic
    }

    pub fn jitter(&self) -> &Jitter {
        &self.jitter
    }

    pub fn without(&self) -> &[Name] {
        &self.without
    }

    /// Whether nothing waits, so that no tick is needed.
    pub fn is_idle(&self) -> bool {
        self.jitter.is_idle() && !self.mic.is_paused()
    }

    /// The room fell silent: the next word is measured by itself.
    pub fn fall_silent(&mut self) {
        self.factor = factor(self.gain);
        self.ticks_silent = LISTED_TICKS;
        self.meter.reset();
    }

    /// This participant's line in `levels`, if there is something to say.
    pub fn level(&self) -> Option<LevelLine> {
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
                self.gain_complaint.clear();
            }
            Err(error) => self.gain_complaint.say(cx, format!("{error}; the gain stays as it was, {}", self.gain)),
        }
    }

    fn read_without(&mut self, cx: &mut Context) {
        match self.dir.without() {
            Ok(names) => {
                self.without = names;
                self.without_complaint.clear();
            }
            Err(error) => self.without_complaint.say(cx, format!("{error}; the list stays as it was")),
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
