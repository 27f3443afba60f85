//! Marks: the state or level of each person in a room, as one byte per person. Records contain only changed marks.
//!
//! In a record, a mark is the base64 of three bytes: the person's index in the list of people (two bytes, high byte first) and the value.
//! This takes four characters. The index 65535 means all people. Each record has changes of a few levels only. So a room with hundreds
//! of people of whom a few talk needs no more bytes than a small room.

use crate::record;
use std::sync::Arc;

/// The value of a mark: a person's state or level.
pub(crate) type Value = u8;

/// The urgency with which a change must be sent to the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Nothing has changed.
    None,
    /// Only levels of talking people have changed. These changes can wait until the stream sends its next record.
    CanWait,
    /// A person has started or stopped talking, or was muted or unmuted, or the person's state has changed.
    Urgent,
    /// The list of people has changed, so the list, all states and all levels must be sent again.
    Everything,
}

/// The index that means all people.
const EVERYBODY: u16 = u16::MAX;
/// Minimum change of a level in dB. Smaller changes are not sent.
const MIN_STEP_DB: u8 = 3;
/// Maximum number of levels in one change. If more levels have changed, those with the largest changes are sent.
const MAX_LEVELS: usize = 6;

/// Returns the value for a person who talks at this level: 1 for −1 dBFS and above, 120 for −120 dBFS and below.
pub(crate) fn level_value(dbfs: f32) -> Value {
    (-dbfs).round().clamp(1.0, 120.0) as Value
}

/// The values that were sent last, and the last change.
#[derive(Debug, Clone)]
pub(crate) struct Marks {
    sent: Vec<Value>,
    all: Arc<str>,
    before: Arc<str>,
    change: Arc<str>,
}

impl Default for Marks {
    fn default() -> Self {
        let mut marks = Self { sent: Vec::new(), all: "".into(), before: "".into(), change: "".into() };
        marks.begin(&[]);
        marks
    }
}

impl Marks {
    /// Maximum number of people in the list.
    pub(crate) const MAX_PEOPLE: usize = EVERYBODY as usize;
    /// The value in place of a level for a person whom the operator has muted.
    pub(crate) const MUTED: Value = 255;

    /// Returns the number of people.
    pub(crate) fn len(&self) -> usize {
        self.sent.len()
    }

    /// Returns marks for the values of all people.
    pub(crate) fn all(&self) -> Arc<str> {
        Arc::clone(&self.all)
    }

    /// Returns marks for the last change. They apply to the values in [`Self::before`].
    pub(crate) fn change(&self) -> Arc<str> {
        Arc::clone(&self.change)
    }

    /// Returns marks for the values of all people before the last change.
    pub(crate) fn before(&self) -> Arc<str> {
        Arc::clone(&self.before)
    }

    /// Replaces all values after the list of people has changed.
    pub(crate) fn begin(&mut self, values: &[Value]) {
        self.sent = values.to_vec();
        self.all = render_all(values);
        (self.before, self.change) = (Arc::clone(&self.all), Arc::clone(&self.all));
    }

    /// Replaces the sent values by `values`. The last change then contains all values that differ. Returns whether any value has changed.
    pub(crate) fn change_to(&mut self, values: &[Value]) -> bool {
        let changes: Vec<usize> = (0..self.sent.len()).filter(|&place| values[place] != self.sent[place]).collect();
        self.send(values, &changes);
        !changes.is_empty()
    }

    /// Chooses from the new levels the last change: all people who started or stopped talking or were muted or unmuted, and the few levels that have
    /// changed most. Other changed levels are left for a later call.
    pub(crate) fn change_levels_to(&mut self, values: &[Value]) -> Urgency {
        let is_level = |value: Value| (1..Self::MUTED).contains(&value);
        let (mut levels, turned): (Vec<usize>, Vec<usize>) = (0..self.sent.len())
            .filter(|&place| values[place] != self.sent[place])
            .partition(|&place| is_level(values[place]) && is_level(self.sent[place]));
        let distance = |place: &usize| values[*place].abs_diff(self.sent[*place]);
        levels.retain(|place| distance(place) >= MIN_STEP_DB);
        levels.sort_by_key(|place| std::cmp::Reverse(distance(place)));
        levels.truncate(MAX_LEVELS);
        let changes = [&turned[..], &levels].concat();
        self.send(values, &changes);
        match (turned.is_empty(), levels.is_empty()) {
            (true, true) => Urgency::None,
            (true, false) => Urgency::CanWait,
            (false, _) => Urgency::Urgent,
        }
    }

    fn send(&mut self, values: &[Value], changes: &[usize]) {
        if changes.is_empty() {
            return;
        }
        for &place in changes {
            self.sent[place] = values[place];
        }
        self.change = render(changes.iter().map(|&place| (place as u16, values[place])));
        self.before = std::mem::replace(&mut self.all, render_all(&self.sent));
    }
}

/// Returns the marks for all values: one mark with the most common value for all people, and one for each person with another value.
fn render_all(values: &[Value]) -> Arc<str> {
    let common = commonest(values);
    let others = (0..EVERYBODY).zip(values.iter().copied()).filter(|(_, value)| *value != common);
    render(std::iter::once((EVERYBODY, common)).chain(others))
}

/// Returns the most common value. Returns the smallest of several such values, or 0 if `values` is empty.
fn commonest(values: &[Value]) -> Value {
    let mut counts = [0_usize; 256];
    values.iter().for_each(|&value| counts[usize::from(value)] += 1);
    (0..=Value::MAX).rev().max_by_key(|&value| counts[usize::from(value)]).unwrap_or_default()
}

fn render(marks: impl Iterator<Item = (u16, Value)>) -> Arc<str> {
    let bytes: Vec<u8> = marks.flat_map(|(place, value)| [(place >> 8) as u8, place as u8, value]).collect();
    record::encode_bytes(&bytes).into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Applies marks as a page does.
    fn apply(page: &mut [Value], marks: &str) {
        for mark in record::decode(marks).as_chunks::<3>().0 {
            match u16::from_be_bytes([mark[0], mark[1]]) {
                EVERYBODY => page.fill(mark[2]),
                place => page[usize::from(place)] = mark[2],
            }
        }
    }

    /// Returns pseudo-random numbers from this seed.
    fn numbers(seed: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(seed), |x| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)))
            .map(|x| x >> 8)
    }

    #[test]
    fn each_change_takes_four_letters() {
        let mut marks = Marks::default();
        marks.begin(&[0; 500]);
        assert_eq!(marks.all().len(), 4);
        let mut values = [0; 500];
        (values[3], values[499]) = (20, 255);
        assert_eq!(marks.change_levels_to(&values), Urgency::Urgent);
        assert_eq!((marks.change().len(), marks.all().len()), (8, 12));
        assert_eq!(marks.change_levels_to(&values), Urgency::None);
    }

    #[test]
    fn commonest_value_is_sent_for_everybody() {
        let mut marks = Marks::default();
        let mut values = [1; 500];
        values[499] = 7;
        marks.begin(&values);
        let mut page = [9; 500];
        apply(&mut page, &marks.all());
        assert_eq!((marks.all().len(), page), (8, values));
        assert_eq!((commonest(&[]), commonest(&[5, 3, 5, 3])), (0, 3));
    }

    #[test]
    fn level_is_sent_when_it_has_changed_by_3_db() {
        let mut marks = Marks::default();
        marks.begin(&[0]);
        assert_eq!(marks.change_levels_to(&[level_value(-20.0)]), Urgency::Urgent);
        assert_eq!(marks.change_levels_to(&[level_value(-21.9)]), Urgency::None);
        assert_eq!(marks.change_levels_to(&[level_value(-23.0)]), Urgency::CanWait);
        assert_eq!((level_value(3.0), level_value(f32::NEG_INFINITY)), (1, 120));
    }

    #[test]
    fn levels_of_five_hundred_people_take_less_than_two_kilobits_a_second() {
        const SECONDS: usize = 300;
        let (mut marks, mut random, mut values) = (Marks::default(), numbers(7), vec![0; 500]);
        marks.begin(&values);
        let (mut page, mut letters, mut spurts) = (values.clone(), 0, 0);
        // Simulates five changes a second. Three people talk at a time on average, for four seconds each, with changing levels.
        for _ in 0..5 * SECONDS {
            for value in &mut values {
                match (*value, random.next().unwrap()) {
                    (0, chance) if chance % 3333 == 0 => (*value, spurts) = (25, spurts + 1),
                    (1.., chance) if chance % 20 == 0 => *value = 0,
                    (1.., chance) => *value = 15 + (chance % 20) as u8,
                    _ => {}
                }
            }
            if marks.change_levels_to(&values) != Urgency::None {
                letters += marks.change().len();
                apply(&mut page, &marks.change());
            }
            assert!(page.iter().zip(&values).all(|(page, value)| (*page == 0) == (*value == 0)));
        }
        let bits_per_second = letters * 8 / SECONDS;
        println!("{bits_per_second} bit/s for {spurts} spurts in {SECONDS} s");
        assert!(spurts > 100 && bits_per_second < 2000, "{bits_per_second} bit/s");
    }

    #[test]
    fn change_is_short_even_if_five_hundred_people_talk() {
        let (mut marks, mut random) = (Marks::default(), numbers(1));
        marks.begin(&vec![20; 500]);
        let longest = (0..100).map(|_| {
            let values: Vec<u8> = (0..500).map(|_| 10 + (random.next().unwrap() % 40) as u8).collect();
            marks.change_levels_to(&values);
            marks.change().len()
        });
        assert!(longest.max().unwrap() <= 4 * MAX_LEVELS);
    }

    proptest::proptest! {
        #[test]
        fn applying_all_changes_gives_the_same_as_applying_all_values(
            steps in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 9), 1..20),
            levels in proptest::prelude::any::<bool>(),
        ) {
            let mut marks = Marks::default();
            marks.begin(&[0; 9]);
            let (mut page, mut fresh) = ([9; 9], [7; 9]);
            apply(&mut page, &marks.all());
            for values in &steps {
                let is_changed = if levels { marks.change_levels_to(values) != Urgency::None } else { marks.change_to(values) };
                if is_changed {
                    apply(&mut page, &marks.change());
                }
                apply(&mut fresh, &marks.all());
                assert_eq!(page, fresh);
                assert!(levels || page == values[..]);
            }
        }
    }
}
