//! A room full of people who each say a tone of their own and record what they hear: who hears whom is then arithmetic.

use std::time::Duration;

use anyhow::{Context, Result};
use palabre_sound::measure::goertzel_dbfs;

use crate::client::{Recording, Talker};
use crate::suite::Suite;
use crate::wait_for;

/// Level of each tone. Forty of them together stay below full scale.
pub const LEVEL_DBFS: f64 = -45.0;

/// Participants who all talk and listen by plain HTTP.
#[derive(Debug)]
pub struct People {
    /// Where they are.
    pub suite: Suite,
    /// What each hears.
    pub recordings: Vec<Recording>,
    _talkers: Vec<Talker>,
}

/// The tone of a person in Hz: far enough from the next for a window of half a second.
#[must_use]
pub fn tone_hz(person: usize) -> f64 {
    300.0 + 100.0 * person as f64
}

impl People {
    /// A suite with `count` people who have all begun to listen and to talk.
    ///
    /// # Errors
    /// The suite does not start, or somebody gets no answer.
    pub fn talking(count: usize) -> Result<Self> {
        Self::talking_in(Suite::start(count)?)
    }

    /// The people of this suite, who have all begun to listen and to talk.
    ///
    /// # Errors
    /// Somebody gets no answer.
    pub fn talking_in(suite: Suite) -> Result<Self> {
        let recordings = suite.links.iter().map(|link| suite.client.record(link)).collect::<Result<_>>()?;
        let talk = |(person, link)| Talker::tone(&suite.client, link, tone_hz(person), LEVEL_DBFS);
        let talkers = suite.links.iter().enumerate().map(talk).collect();
        Ok(Self { suite, recordings, _talkers: talkers })
    }

    /// Where each recording is now.
    #[must_use]
    pub fn now(&self) -> Vec<usize> {
        self.recordings.iter().map(Recording::len).collect()
    }

    /// Waits until everyone has heard everyone else and not himself for half a second after `since`.
    ///
    /// # Errors
    /// Somebody did not within `deadline`; the error says who and what was heard.
    pub fn wait_until_all_hear_the_others(&self, since: &[usize], deadline: Duration) -> Result<()> {
        for (person, (recording, &since)) in self.recordings.iter().zip(since).enumerate() {
            let mut last = None;
            wait_for("every tone but one's own", deadline, || {
                last = self.heard(recording, since);
                let heard = last.as_ref()?;
                heard.iter().enumerate().all(|(other, &is)| is == Some(other != person)).then_some(())
            })
            .with_context(|| format!("person {person} heard {last:?}"))?;
        }
        Ok(())
    }

    /// Which tones are in the last half second: there within 3 dB, or not there (40 dB down), or neither.
    fn heard(&self, recording: &Recording, since: usize) -> Option<Vec<Option<bool>>> {
        let window = recording.rate_hz as usize / 2;
        let start = recording.len().checked_sub(window).filter(|&start| start >= since)?;
        let samples = recording.from(start);
        let tone = |person| match goertzel_dbfs(&samples, recording.rate_hz, tone_hz(person)) - LEVEL_DBFS {
            -3.0..=3.0 => Some(true),
            down if down < -40.0 => Some(false),
            _ => None,
        };
        Some((0..self.recordings.len()).map(tone).collect())
    }
}
