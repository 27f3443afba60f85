//! Participants that each send their own tone and record the sound that they hear, so that a test can compute who hears whom.

use std::time::Duration;

use anyhow::{Context, Result};
use palabre_sound::measure::goertzel_dbfs;

use crate::client::{Recording, Talker};
use crate::suite::Suite;
use crate::wait::wait_for;

/// Level of each tone. The sum of forty stays below full scale.
pub const LEVEL_DBFS: f64 = -45.0;

/// Participants that all talk and listen by plain HTTP.
#[derive(Debug)]
pub struct People {
    /// The suite to which the participants are connected.
    pub suite: Suite,
    /// For each participant, a recording of the sound that this participant hears.
    pub recordings: Vec<Recording>,
    _talkers: Vec<Talker>,
}

/// Returns a participant's tone in Hz. Neighbouring tones can be told apart in half a second.
#[must_use]
pub fn tone_hz(participant: usize) -> f64 {
    300.0 + 100.0 * participant as f64
}

impl People {
    /// Starts a suite with `count` participants that listen and talk.
    pub fn talking(count: usize) -> Result<Self> {
        Self::talking_in(Suite::start(count)?)
    }

    /// Makes all participants of a suite listen and talk.
    pub fn talking_in(suite: Suite) -> Result<Self> {
        let recordings = suite.links.iter().map(|link| suite.client.record(link)).collect::<Result<_>>()?;
        let talk = |(participant, link)| Talker::tone(&suite.client, link, tone_hz(participant), LEVEL_DBFS);
        let talkers = suite.links.iter().enumerate().map(talk).collect();
        Ok(Self { suite, recordings, _talkers: talkers })
    }

    /// Returns the number of samples in each recording.
    #[must_use]
    pub fn now(&self) -> Vec<usize> {
        self.recordings.iter().map(Recording::len).collect()
    }

    /// Waits until each participant has heard the tones of all others, and not its own, during the last half second of its recording. This half
    /// second begins after `since`.
    pub fn wait_until_all_hear_the_others(&self, since: &[usize], timeout: Duration) -> Result<()> {
        for (participant, (recording, &since)) in self.recordings.iter().zip(since).enumerate() {
            let mut last = None;
            wait_for("every tone except the own one", timeout, || {
                last = self.heard(recording, since);
                let heard = last.as_ref()?;
                heard.iter().enumerate().all(|(other, &is)| is == Some(other != participant)).then_some(())
            })
            .with_context(|| format!("participant {participant} heard {last:?}"))?;
        }
        Ok(())
    }

    /// Returns for each tone whether it is in the last half second of a recording: true within 3 dB of its level, false more than 40 dB below it,
    /// else `None`. Returns `None` instead of the list if this half second begins before `since`.
    fn heard(&self, recording: &Recording, since: usize) -> Option<Vec<Option<bool>>> {
        let window = recording.rate_hz as usize / 2;
        let start = recording.len().checked_sub(window).filter(|&start| start >= since)?;
        let samples = recording.from(start);
        let tone = |participant| match goertzel_dbfs(&samples, recording.rate_hz, tone_hz(participant)) - LEVEL_DBFS {
            -3.0..=3.0 => Some(true),
            down if down < -40.0 => Some(false),
            _ => None,
        };
        Some((0..self.recordings.len()).map(tone).collect())
    }
}
