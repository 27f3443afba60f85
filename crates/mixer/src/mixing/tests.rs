use super::*;
use palabre_sound::measure;

const RATE_HZ: u32 = 24_000;
const FRAME: usize = 480;
const AHEAD: usize = 120;

/// Runs one tick. `talkers` are (number, frame), `listeners` are (number, excluded numbers).
fn tick(mixing: &mut Mixing, talkers: &[(u32, &[i16])], listeners: &[(u32, &[u32])]) {
    mixing.clear();
    talkers.iter().for_each(|(_, frame)| mixing.add(frame));
    mixing.begin(listeners.iter().map(|(listener, excluded)| (*listener, Excluded::new(excluded.to_vec()))));
    mixing.mix(|number| talkers.iter().find(|(talker, _)| *talker == number).map(|(_, frame)| *frame));
}

fn mixes(mixing: &Mixing) -> usize {
    mixing.assigned.values().collect::<std::collections::HashSet<_>>().len()
}

#[test]
fn each_listener_gets_the_sum_without_the_excluded_and_equal_mixes_are_shared() {
    let (a, b, c) = ([1; FRAME], [10; FRAME], [100; FRAME]);
    let talkers: [(u32, &[i16]); 3] = [(1, &a), (2, &b), (3, &c)];
    let mut mixing = Mixing::new(RATE_HZ);
    for round in 0..3 {
        mixing.rest(0);
        tick(&mut mixing, &talkers, &[(1, &[1]), (2, &[3, 2]), (4, &[]), (5, &[]), (6, &[2, 3, 2])]);
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
