use super::*;
use palabre_sound::measure;

const RATE_HZ: u32 = 24_000;
const FRAME: usize = 480;
const AHEAD: usize = 120;

/// Runs one tick. `talkers` are (number, frame), `listeners` are (number, numbers of the talkers whom the mix leaves out).
fn tick(mixing: &mut Mixing, talkers: &[(u32, &[i16])], listeners: &[(u32, &[u32])]) {
    let without = |numbers: &[u32]| Difference::new(numbers.iter().map(|number| (*number, Fade::LEFT_OUT)).collect());
    tick_with(mixing, talkers, listeners.iter().map(|(listener, numbers)| (*listener, without(numbers))));
}

fn tick_with(mixing: &mut Mixing, talkers: &[(u32, &[i16])], listeners: impl Iterator<Item = (u32, Difference)>) {
    mixing.clear();
    talkers.iter().for_each(|(_, frame)| mixing.add(frame));
    mixing.begin(listeners);
    mixing.mix(|number| talkers.iter().find(|(talker, _)| *talker == number).map(|(_, frame)| *frame));
}

fn mixes(mixing: &Mixing) -> usize {
    mixing.assigned.values().collect::<std::collections::HashSet<_>>().len()
}

#[test]
fn each_listener_gets_the_sum_without_some_talkers_and_equal_mixes_are_shared() {
    let (a, b, c) = ([1; FRAME], [10; FRAME], [100; FRAME]);
    let talkers: [(u32, &[i16]); 3] = [(1, &a), (2, &b), (3, &c)];
    let mut mixing = Mixing::new(RATE_HZ);
    for round in 0..3 {
        mixing.rest(0);
        tick(&mut mixing, &talkers, &[(1, &[1]), (2, &[3, 2]), (4, &[]), (5, &[]), (6, &[2, 3])]);
        for (listener, value) in [(1, 110), (2, 1), (4, 111), (5, 111), (6, 1)] {
            let frame = mixing.frame(listener).unwrap();
            assert!(frame[AHEAD..].iter().all(|&x| x == value), "{listener}");
            assert!(frame[..AHEAD].iter().all(|&x| x == if round == 0 { 0 } else { value }), "{listener}");
        }
        assert_eq!(mixes(&mixing), 3);
        assert!(mixing.frame(3).is_none() && mixing.has_tail());
    }
    // The limiters delay sound, so the last of it comes out in one more tick.
    tick(&mut mixing, &[], &[(4, &[])]);
    assert_eq!((mixing.frame(4).unwrap()[0], mixing.frame(4).unwrap()[AHEAD]), (111, 0));
    assert!(mixing.is_silent());
}

#[test]
fn a_gain_of_one_listener_changes_no_bit_for_the_others() {
    let (a, b) = ([300; FRAME], [10; FRAME]);
    let talkers: [(u32, &[i16]); 2] = [(1, &a), (2, &b)];
    let (half, twice) = (Factor::nearest(0.5), Factor::nearest(2.0));
    let steady = |factor| Fade { from: factor, to: factor };
    let mut mixing = Mixing::new(RATE_HZ);
    for _ in 0..2 {
        let own = (1, Fade::LEFT_OUT);
        let differences = [
            (1, vec![own, (2, steady(twice))]),
            (2, vec![(2, Fade::LEFT_OUT)]),
            (3, vec![]),
            (4, vec![(1, steady(half))]),
        ];
        tick_with(&mut mixing, &talkers, differences.map(|(who, factors)| (who, Difference::new(factors))).into_iter());
    }
    for (listener, value) in [(1, 20), (2, 300), (3, 310), (4, 160)] {
        assert!(mixing.frame(listener).unwrap().iter().all(|&x| x == value), "{listener}");
    }
    // The change of the factor is spread over the frame. The limiter delays the sound by 5 ms, so the frame lacks the end of the change.
    let fade = Difference::new(vec![(1, Fade { from: half, to: Factor::ZERO })]);
    tick_with(&mut mixing, &talkers, [(4, fade), (3, Difference::None)].into_iter());
    let frame = mixing.frame(4).unwrap();
    assert!(frame.windows(2).all(|pair| (0..=1).contains(&(pair[0] - pair[1]))), "{frame:?}");
    assert!(frame[FRAME - 1] < 55 && mixing.frame(3).unwrap().iter().all(|&x| x == 310));
}

#[test]
fn a_listener_who_starts_to_talk_keeps_the_limiters_gain() {
    let loud = measure::tone(RATE_HZ, 440.0, -4.0, FRAME);
    let quiet = measure::tone(RATE_HZ, 1000.0, -40.0, FRAME);
    let loud_ones: [(u32, &[i16]); 3] = [(1, &loud), (2, &loud), (3, &loud)];
    let mut mixing = Mixing::new(RATE_HZ);
    for _ in 0..50 {
        tick(&mut mixing, &loud_ones, &[(8, &[]), (9, &[])]);
    }
    assert_eq!(mixes(&mixing), 1);
    let shared = mixing.mixes[mixing.assigned[&9]].limiter.gain();
    assert!(shared < 0.5, "{shared}");
    let all: [(u32, &[i16]); 4] = [(1, &loud), (2, &loud), (3, &loud), (9, &quiet)];
    tick(&mut mixing, &all, &[(8, &[]), (9, &[9])]);
    assert_eq!(mixes(&mixing), 2);
    let own = mixing.mixes[mixing.assigned[&9]].limiter.gain();
    assert!((own / shared - 1.0).abs() < 0.05, "{own} {shared}");
}

#[test]
fn a_listener_who_stops_talking_rejoins_when_the_gains_agree() {
    let loud = measure::tone(RATE_HZ, 440.0, -4.0, FRAME);
    let talkers: [(u32, &[i16]); 3] = [(1, &loud), (2, &loud), (3, &loud)];
    let mut mixing = Mixing::new(RATE_HZ);
    let listeners: [(u32, &[u32]); 3] = [(1, &[1]), (8, &[]), (9, &[])];
    (0..50).for_each(|_| tick(&mut mixing, &talkers, &listeners));
    let gain = |mixing: &Mixing, who: u32| mixing.mixes[mixing.assigned[&who]].limiter.gain();
    assert!(gain(&mixing, 1) > gain(&mixing, 8) * 1.3);
    let (mut alone, mut last) = (0, gain(&mixing, 1));
    // Participant 1 stops talking. The limiters of the other participants' mixes still reduce the gain.
    while mixes(&mixing) > 1 {
        last = gain(&mixing, 1);
        tick(&mut mixing, &talkers[1..], &[(1, &[]), (8, &[]), (9, &[])]);
        alone += 1;
        assert!(alone < 500, "the limiters never agree");
    }
    assert!(alone > 1, "the mixes merged before the gains agreed");
    let step = 20.0 * (gain(&mixing, 1) / last).log10().abs();
    assert!(step < 1.5, "{step} dB");
    assert_eq!(mixing.mixes.len(), 2, "memory is used again");
}

#[test]
fn a_limiter_releases_during_silence() {
    let loud = measure::tone(RATE_HZ, 440.0, -4.0, FRAME);
    let mut mixing = Mixing::new(RATE_HZ);
    let talkers: [(u32, &[i16]); 2] = [(1, &loud), (2, &loud)];
    (0..50).for_each(|_| tick(&mut mixing, &talkers, &[(8, &[])]));
    tick(&mut mixing, &[], &[(8, &[])]);
    let gain = |mixing: &Mixing| mixing.mixes[mixing.assigned[&8]].limiter.gain();
    let before = gain(&mixing);
    mixing.rest(10);
    assert!(gain(&mixing) > before && gain(&mixing) < 1.0, "{before} {}", gain(&mixing));
    mixing.rest(u64::MAX);
    assert_eq!(gain(&mixing), 1.0);
    mixing.forget(8);
    assert!(mixing.frame(8).is_none());
}

#[test]
fn repeated_starts_and_stops_need_no_more_memory() {
    let sound = measure::tone(RATE_HZ, 440.0, -20.0, FRAME);
    let mut mixing = Mixing::new(RATE_HZ);
    for _ in 0..100 {
        (0..3).for_each(|_| tick(&mut mixing, &[(1, &sound), (2, &sound)], &[(1, &[1]), (2, &[2]), (3, &[])]));
        (0..3).for_each(|_| tick(&mut mixing, &[(1, &sound)], &[(1, &[1]), (2, &[]), (3, &[])]));
    }
    assert_eq!(mixes(&mixing), 2);
    assert!(mixing.mixes.len() <= 5, "{}", mixing.mixes.len());
}
