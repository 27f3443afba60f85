//! The personal gains of one listener: how loud the listener hears the other participants.

use std::collections::BTreeMap;

use palabre_room::{Gain, Name, PersonalGain};
use palabre_sound::gain;
use palabre_sound::mix::Factor;

use crate::mixing::Fade;

/// The factors of one listener for the participants whom the listener hears louder or more quietly. A new factor is reached by a fade over one frame.
#[derive(Debug, Default)]
pub(crate) struct Gains {
    fades: BTreeMap<Name, Fade>,
    /// The content of the file `gains`, if it has changed since the last tick.
    next: Option<BTreeMap<Name, Factor>>,
    /// Whether a fade of the current tick changes a factor.
    is_fading: bool,
    /// Whether a tick has begun. The first tick needs no fades, because the listener heard nothing before.
    has_begun: bool,
}

impl Gains {
    /// Replaces all gains at the next tick. If a name occurs twice, the last gain counts.
    pub(crate) fn set(&mut self, gains: Vec<PersonalGain>) {
        self.next = Some(gains.into_iter().map(|line| (line.name, factor(line.gain))).collect());
    }

    /// Begins a tick: ends the fades of the previous tick, and begins fades to the gains that were set since. After silence, changes need no fade.
    pub(crate) fn advance(&mut self, after_silence: bool) {
        let needs_no_fade = after_silence || !std::mem::replace(&mut self.has_begun, true);
        let next = self.next.take();
        if next.is_none() && !self.is_fading {
            return;
        }
        for (name, fade) in &mut self.fades {
            fade.from = fade.to;
            if let Some(next) = &next {
                fade.to = next.get(name).copied().unwrap_or(Factor::ONE);
            }
        }
        for (name, to) in next.into_iter().flatten() {
            self.fades.entry(name).or_insert(Fade { from: Factor::ONE, to });
        }
        if needs_no_fade {
            self.fades.values_mut().for_each(|fade| fade.from = fade.to);
        }
        self.fades.retain(|_, fade| *fade != Fade { from: Factor::ONE, to: Factor::ONE });
        self.is_fading = self.fades.values().any(|fade| fade.from != fade.to);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fades.is_empty()
    }

    /// Returns the fade of the current tick for a participant; `None` if the participant's gain is 0 dB.
    pub(crate) fn get(&self, name: &Name) -> Option<Fade> {
        self.fades.get(name).copied()
    }
}

fn factor(gain: Gain) -> Factor {
    match gain {
        Gain::Db(db) => Factor::nearest(gain::factor(db)),
        Gain::Mute => Factor::ZERO,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fades(gains: &Gains) -> Vec<(&str, Fade)> {
        gains.fades.iter().map(|(name, fade)| (name.as_str(), *fade)).collect()
    }

    #[test]
    fn a_new_gain_fades_in_for_one_tick_and_a_removed_gain_fades_out() {
        let bob: Name = "bob".parse().unwrap();
        let (one, two, none) = (Factor::ONE, Factor::nearest(gain::factor(6.0)), Factor::ZERO);
        let mut gains = Gains::default();
        gains.advance(false);
        let ticks = [
            (Some(Gain::Mute), vec![("bob", Fade { from: one, to: none })]),
            (Some(Gain::Db(6.0)), vec![("bob", Fade { from: none, to: two })]),
            (Some(Gain::Db(6.0)), vec![("bob", Fade { from: two, to: two })]),
            (None, vec![("bob", Fade { from: two, to: one })]),
            (None, vec![]),
        ];
        for (gain, expected) in ticks {
            gains.set(gain.into_iter().map(|gain| PersonalGain { name: bob.clone(), gain }).collect());
            gains.advance(false);
            assert_eq!(fades(&gains), expected);
        }
    }

    #[test]
    fn in_the_first_tick_and_after_silence_a_gain_needs_no_fade() {
        let mut gains = Gains::default();
        gains.set(["bob -6", "bob mute", "carol 0"].map(|line| line.parse().unwrap()).into());
        gains.advance(false);
        assert_eq!(fades(&gains), [("bob", Fade::LEFT_OUT)]);
        gains.advance(false);
        assert_eq!(fades(&gains), [("bob", Fade::LEFT_OUT)]);
        gains.set(Vec::new());
        gains.advance(true);
        assert!(gains.is_empty());
    }
}
