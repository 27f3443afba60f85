//! Marks: a byte for each person of a room, and how little must be said when some of them change.
//!
//! In a record they are base64 of three bytes each: the person's place in the list of people, two bytes, high byte first, and
//! the value; so each change is four letters. The place 65535 is everybody. A room of hundreds in which a few talk
//! costs no more than a small one: only who changes is told, and a level only of a few at a time.

use crate::record;
use crate::room_view::News;
use std::sync::Arc;

/// What is said of a person.
pub type Value = u8;

/// The place that means everybody.
const EVERYBODY: u16 = u16::MAX;
/// A level is told again when it has changed by so much, in dB.
const STEP_DB: u8 = 3;
/// How many levels are told at a time at most, those that have changed most.
const LEVELS_AT_ONCE: usize = 6;

/// The value of somebody who talks at this level: 1 for −1 dBFS and above, 120 for −120 dBFS and below.
pub fn level_value(dbfs: f32) -> Value {
    (-dbfs).round().clamp(1.0, 120.0) as Value
}

/// What was told of everybody, and what the last change to it was.
#[derive(Debug, Clone)]
pub struct Marks {
    told: Vec<Value>,
    all: Arc<str>,
    before: Arc<str>,
    change: Arc<str>,
}

impl Default for Marks {
    fn default() -> Self {
        let mut marks = Self { told: Vec::new(), all: "".into(), before: "".into(), change: "".into() };
        marks.begin(&[]);
        marks
    }
}

impl Marks {
    /// The most people there can be.
    pub const MOST: usize = EVERYBODY as usize;
    /// The level of somebody who is muted by the operator.
    pub const MUTED: Value = 255;

    /// Everything, for whoever knows nothing.
    pub fn all(&self) -> Arc<str> {
        Arc::clone(&self.all)
    }

    /// The last change, for whoever knows all that was [before](Self::before).
    pub fn change(&self) -> Arc<str> {
        Arc::clone(&self.change)
    }

    /// Everything as it was before the last change.
    pub fn before(&self) -> Arc<str> {
        Arc::clone(&self.before)
    }

    /// Begins anew, with other people.
    pub fn begin(&mut self, values: &[Value]) {
        self.told = values.to_vec();
        self.all = render_all(values);
        (self.before, self.change) = (Arc::clone(&self.all), Arc::clone(&self.all));
    }

    /// Tells every value that has changed; whether there was one.
    pub fn change_to(&mut self, values: &[Value]) -> bool {
        let changes: Vec<usize> = (0..self.told.len()).filter(|&place| values[place] != self.told[place]).collect();
        self.tell(values, &changes);
        !changes.is_empty()
    }

    /// Tells who began or ended to talk or was muted, and the few levels that have changed most.
    pub fn change_levels_to(&mut self, values: &[Value]) -> News {
        let is_level = |value: Value| (1..Self::MUTED).contains(&value);
        let (mut levels, turned): (Vec<usize>, Vec<usize>) = (0..self.told.len())
            .filter(|&place| values[place] != self.told[place])
            .partition(|&place| is_level(values[place]) && is_level(self.told[place]));
        let distance = |place: &usize| values[*place].abs_diff(self.told[*place]);
        levels.retain(|place| distance(place) >= STEP_DB);
        levels.sort_by_key(|place| std::cmp::Reverse(distance(place)));
        levels.truncate(LEVELS_AT_ONCE);
        let changes = [&turned[..], &levels].concat();
        self.tell(values, &changes);
        match (turned.is_empty(), levels.is_empty()) {
            (true, true) => News::None,
            (true, false) => News::Slight,
            (false, _) => News::Urgent,
        }
    }

    fn tell(&mut self, values: &[Value], changes: &[usize]) {
        if changes.is_empty() {
            return;
        }
        for &place in changes {
            self.told[place] = values[place];
        }
        self.change = render(changes.iter().map(|&place| (place as u16, values[place])));
        self.before = std::mem::replace(&mut self.all, render_all(&self.told));
    }
}

/// What most have is said of everybody first, so that only the others need a mark of their own.
fn render_all(values: &[Value]) -> Arc<str> {
    let most = commonest(values);
    let others = (0..EVERYBODY).zip(values.iter().copied()).filter(|(_, value)| *value != most);
    render(std::iter::once((EVERYBODY, most)).chain(others))
}

/// The least of those that most have; 0 of nobody.
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

    /// What a page makes of marks.
    fn apply(page: &mut [Value], marks: &str) {
        for mark in record::decode(marks).as_chunks::<3>().0 {
            match u16::from_be_bytes([mark[0], mark[1]]) {
                EVERYBODY => page.fill(mark[2]),
                place => page[usize::from(place)] = mark[2],
            }
        }
    }

    /// Numbers without end that are the same each time.
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
        assert_eq!(marks.change_levels_to(&values), News::Urgent);
        assert_eq!((marks.change().len(), marks.all().len()), (8, 12));
        assert_eq!(marks.change_levels_to(&values), News::None);
    }

    #[test]
    fn what_most_have_is_said_of_everybody() {
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
    fn a_level_is_told_when_it_has_changed_enough() {
        let mut marks = Marks::default();
        marks.begin(&[0]);
        assert_eq!(marks.change_levels_to(&[level_value(-20.0)]), News::Urgent);
        assert_eq!(marks.change_levels_to(&[level_value(-21.9)]), News::None);
        assert_eq!(marks.change_levels_to(&[level_value(-23.0)]), News::Slight);
        assert_eq!((level_value(3.0), level_value(f32::NEG_INFINITY)), (1, 120));
    }

    #[test]
    fn five_hundred_people_who_talk_and_fidget_cost_less_than_two_kilobits_a_second() {
        const SECONDS: usize = 300;
        let (mut marks, mut random, mut values) = (Marks::default(), numbers(7), vec![0; 500]);
        marks.begin(&values);
        let (mut page, mut letters, mut spurts) = (values.clone(), 0, 0);
        // Five looks a second; three people talk at a time on average, in spurts of four seconds, and each of their levels
        // wanders. A level needs no record of its own.
        for _ in 0..5 * SECONDS {
            for value in &mut values {
                match (*value, random.next().unwrap()) {
                    (0, chance) if chance % 3333 == 0 => (*value, spurts) = (25, spurts + 1),
                    (1.., chance) if chance % 20 == 0 => *value = 0,
                    (1.., chance) => *value = 15 + (chance % 20) as u8,
                    _ => {}
                }
            }
            if marks.change_levels_to(&values) != News::None {
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
    fn a_crowd_that_all_talks_at_once_is_no_flood() {
        let (mut marks, mut random) = (Marks::default(), numbers(1));
        marks.begin(&vec![20; 500]);
        let longest = (0..100).map(|_| {
            let values: Vec<u8> = (0..500).map(|_| 10 + (random.next().unwrap() % 40) as u8).collect();
            marks.change_levels_to(&values);
            marks.change().len()
        });
        assert!(longest.max().unwrap() <= 4 * LEVELS_AT_ONCE);
    }

    proptest::proptest! {
        #[test]
        fn a_page_knows_the_same_by_all_changes_and_by_everything_at_once(
            steps in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 9), 1..20),
            levels in proptest::prelude::any::<bool>(),
        ) {
            let mut marks = Marks::default();
            marks.begin(&[0; 9]);
            let (mut page, mut fresh) = ([9; 9], [7; 9]);
            apply(&mut page, &marks.all());
            for values in &steps {
                let news = if levels { marks.change_levels_to(values) != News::None } else { marks.change_to(values) };
                if news {
                    apply(&mut page, &marks.change());
                }
                apply(&mut fresh, &marks.all());
                assert_eq!(page, fresh);
                assert!(levels || page == values[..]);
            }
        }
    }
}
