//! What participants of several machines hear, to the sample: real mixers, real bridges and a real NATS server.

#![allow(clippy::unwrap_used)]

mod support;

use std::f64::consts::TAU;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use palabre_room::PipeReader;
use palabre_sound::measure;
use palabre_testing::{turn, undisturbed_by};
use support::voices::{HARMLESS, LATE, Person, RATE_HZ, Running, Voice, listen, talk};
use support::*;

/// Timeout for the beginning of undisturbed sound. The mixers' buffers adapt to the bursts at first.
const SETTLE: Duration = Duration::from_secs(120);

/// One second of samples.
const SECOND: usize = RATE_HZ as usize;
/// Length of the analysis, and of the loop that each participant says.
const LOOP: usize = 2 * SECOND;
/// Number of periods in the loop of each participant: four participants on each of three machines. Prime numbers that don't divide [`LOOP`], because
/// then each phase of the tone has only one place in the loop.
const PERIODS: [usize; 12] = [613, 809, 1009, 1201, 1409, 1607, 1801, 2003, 2207, 2411, 2609, 2801];
/// RMS level of each tone. The sum of the peaks of all tones is below the limiter's ceiling.
const TONE_DBFS: f64 = -26.0;
/// Maximum level of a participant's own tone in what this participant hears, in dB relative to the level at which the participant says it.
const OWN_DB: f64 = -90.0;

/// Cosine and sine of `i / LOOP` turns, for each `i` below [`LOOP`].
static TURN: LazyLock<Vec<(f64, f64)>> =
    LazyLock::new(|| (0..LOOP).map(|i| TAU * i as f64 / LOOP as f64).map(|x| (x.cos(), x.sin())).collect());

fn loop_of(person: usize) -> Vec<i16> {
    let hz = f64::from(RATE_HZ) * PERIODS[person] as f64 / LOOP as f64;
    measure::tone(RATE_HZ, hz, TONE_DBFS, LOOP)
}

/// Returns the level of a tone in dBFS and its phase in turns: the bin of a discrete Fourier transform over exactly one loop. The rounding of the
/// eleven other tones to 16 bits adds at most −121 dBFS to the bin of a tone, if all phases are the worst ones.
fn bin(heard: &[i16], periods: usize) -> (f64, f64) {
    let (mut re, mut im) = (0.0, 0.0);
    for (n, &x) in heard.iter().enumerate() {
        let (cos, sin) = TURN[n * periods % LOOP];
        re += f64::from(x) * cos;
        im -= f64::from(x) * sin;
    }
    let rms = 2.0 * re.hypot(im) / LOOP as f64 / 2f64.sqrt();
    (20.0 * (rms / 32_768.0).log10(), im.atan2(re) / TAU)
}

/// Returns the place in a participant's loop at which the samples begin.
fn place(heard: &[i16], person: usize) -> usize {
    let periods = PERIODS[person];
    // A sine is a quarter of a turn later than a cosine.
    let turns = (bin(heard, periods).1 + 0.25).rem_euclid(1.0);
    let steps = (turns * LOOP as f64).round() as usize % LOOP;
    (0..LOOP).find(|place| place * periods % LOOP == steps).unwrap()
}

/// What one participant hears during one loop.
#[derive(Clone, Copy, Debug)]
struct Heard {
    /// Level of this participant's own tone, in dB relative to the level at which the participant says it.
    own_db: f64,
    /// Lowest and highest level of the other participants' tones, in dB relative to the level at which they say them.
    others_db: (f64, f64),
    /// Whether the samples are the sum of the eleven other loops, to the bit.
    is_exact: bool,
}

impl Heard {
    fn new(heard: &[i16], own: usize, loops: &[Vec<i16>]) -> Self {
        let level = |person: usize| bin(heard, PERIODS[person]).0 - TONE_DBFS;
        let others = || (0..loops.len()).filter(|person| *person != own);
        let wide = others().map(level).fold((f64::MAX, f64::MIN), |(a, b), x| (x.min(a), x.max(b)));
        let mut rest: Vec<i32> = heard.iter().map(|&x| i32::from(x)).collect();
        for person in others() {
            let said = loops[person].iter().cycle().skip(place(heard, person));
            rest.iter_mut().zip(said).for_each(|(rest, &x)| *rest -= i32::from(x));
        }
        Self { own_db: level(own), others_db: wide, is_exact: rest.iter().all(|&x| x == 0) }
    }

    fn is_right(&self) -> bool {
        self.is_exact && self.own_db <= OWN_DB && self.others_db.0 > -0.01 && self.others_db.1 < 0.01
    }
}

#[test]
fn twelve_participants_of_three_machines_hear_the_exact_sum_of_all_others_and_nothing_of_themselves() {
    let _turn = turn();
    let broker = Broker::start();
    let sites = ["lyon", "nantes", "paris"].map(|machine| Site::start(machine, &broker));
    let _mixers = sites.each_ref().map(|site| site.start_mixer(&[]));
    let loops: Vec<Vec<i16>> = (0..PERIODS.len()).map(loop_of).collect();
    let (mut voices, mut ears) = (Vec::new(), Vec::new());
    for (person, said) in loops.iter().cloned().enumerate() {
        let Person { mic, ear } = Person::join(&sites[person / 4], &format!("p{}", person % 4));
        voices.push((mic, Box::new(move |at| said[at % LOOP]) as Voice));
        ears.push(ear);
    }
    let _talking = talk(1.0, LATE, voices);
    let heard = ears.iter().map(|_| Arc::new(Mutex::new(Vec::new()))).collect::<Vec<_>>();
    let keep = |heard: &mut Vec<i16>, samples: &[i16]| {
        heard.extend_from_slice(samples);
        heard.drain(..heard.len().saturating_sub(LOOP));
    };
    let _listening: Vec<Running> =
        ears.into_iter().zip(&heard).map(|(ear, heard)| listen(ear, Arc::clone(heard), keep)).collect();
    let deadline = Instant::now() + SETTLE;
    let all = loop {
        std::thread::sleep(Duration::from_millis(500));
        // Takes the last loop that each participant has heard, of all participants at once. So all of them say their tones while the test checks that
        // nobody hears their own.
        let last: Vec<Vec<i16>> = heard.iter().map(|heard| heard.lock().unwrap().clone()).collect();
        if last.iter().all(|heard| heard.len() == LOOP) {
            let all = last.iter().enumerate().map(|(own, heard)| Heard::new(heard, own, &loops));
            let all: Vec<Heard> = all.collect();
            if all.iter().all(Heard::is_right) {
                break all;
            }
            assert!(Instant::now() < deadline, "{all:#?}");
        }
        assert!(Instant::now() < deadline, "no sound");
    };
    let own_db = all.iter().map(|heard| heard.own_db).fold(f64::MIN, f64::max);
    println!("loudest own tone: {own_db:.1} dB; other tones: {:+.4?} dB", all[0].others_db);
}

/// [`code`] writes a number as two digits. This is the number of values of a digit.
const DIGITS: usize = 1_250;

/// Returns the sample at `place` of a test sound in which two consecutive samples are a pair that tells its number. The first sample is a positive
/// multiple of 8 for the lower digit of the number, the second one a negative multiple of 8 for the upper digit.
fn code(place: usize) -> i16 {
    let pair = place / 2;
    let digit = if place.is_multiple_of(2) { pair % DIGITS } else { pair / DIGITS % DIGITS };
    let sample = 8 * (digit as i16 + 1);
    if place.is_multiple_of(2) { sample } else { -sample }
}

/// Constant samples that the participants of the other machines say. All their sums are less than 8 and differ.
const NANTES: i16 = 2;
const PARIS: i16 = 3;

/// Splits a sample into a sample of [`code`] and what the other machines add: −1 to 6, because the beginning and the end of a sound may overshoot.
fn split(sample: i16) -> (i16, i16) {
    let rest = (sample + 1).rem_euclid(8) - 1;
    (sample - rest, rest)
}

/// Checks that each sample of [`code`] is heard, once and in order.
#[derive(Debug, Default)]
struct Follower {
    /// The last sample of the code, and its place if it is known.
    last: Option<(i16, Option<usize>)>,
    /// Number of samples since the last break.
    unbroken: usize,
    /// What the other machines add.
    others: i16,
    is_strict: bool,
    /// The first break after `is_strict` was set.
    broken: Option<String>,
}

impl Follower {
    fn take(&mut self, samples: &[i16]) {
        for &sample in samples {
            let (coded, rest) = split(sample);
            let place = match self.last {
                Some((_, Some(last))) if code(last + 1) == coded => Some(last + 1),
                Some((low, None)) if low > 0 && coded < 0 => {
                    let digit = |sample: i16| usize::from(sample.unsigned_abs()) / 8 - 1;
                    Some(2 * (digit(low) + DIGITS * digit(coded)) + 1)
                }
                _ => None,
            };
            self.unbroken = if place.is_some() { self.unbroken + 1 } else { 0 };
            if let (true, Some((_, Some(last))), None) = (self.is_strict, self.last, place) {
                self.broken.get_or_insert_with(|| format!("{sample} at {last} instead of {}", code(last + 1)));
            }
            (self.last, self.others) = (Some((coded, place)), rest);
        }
    }
}

/// Bob on the machine `lyon`, who hears Alice on the same machine, and constant samples from the other machines.
struct Bob {
    heard: Arc<Mutex<Follower>>,
    _listening: Running,
}

impl Bob {
    fn start(ear: PipeReader) -> Self {
        let heard = Arc::new(Mutex::new(Follower::default()));
        let listening = listen(ear, Arc::clone(&heard), Follower::take);
        Self { heard, _listening: listening }
    }

    /// Waits until the other machines add this sum to what Bob hears.
    fn wait_for_others(&self, others: i16) {
        wait_until(&format!("{others} from other machines"), || {
            (self.heard.lock().unwrap().others == others).then_some(())
        });
    }

    /// Waits until Bob has heard the next seconds.
    fn hear_seconds(&self, seconds: usize) {
        let until = self.heard.lock().unwrap().unbroken + seconds * SECOND;
        wait_until("sound", || {
            let follower = self.heard.lock().unwrap();
            (follower.unbroken >= until || follower.broken.is_some()).then_some(())
        });
    }

    /// Waits until Bob has heard everybody without a break for five seconds. After that, a break makes the test fail.
    fn settle(&self) {
        let deadline = Instant::now() + SETTLE;
        loop {
            let mut follower = self.heard.lock().unwrap();
            if follower.unbroken > 5 * SECOND && follower.others == NANTES + PARIS {
                follower.is_strict = true;
                return;
            }
            drop(follower);
            assert!(Instant::now() < deadline, "no undisturbed sound");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Fails if Bob has not heard each sample in order.
    fn check(&self, after: &str) {
        let follower = self.heard.lock().unwrap();
        assert_eq!(follower.broken, None, "{after}");
        println!("{after}: {} samples in order", follower.unbroken);
    }
}

#[test]
fn local_sound_loses_no_sample_while_the_broker_or_another_machine_is_away() {
    undisturbed_by(HARMLESS, || {
        let mut broker = Broker::start();
        let mut sites = ["lyon", "nantes", "paris"].map(|machine| Site::start(machine, &broker));
        let mut mixers = sites.each_ref().map(|site| Some(site.start_mixer(&[])));
        let bob = Bob::start(Person::join(&sites[0], "bob").ear);
        let said: [Voice; 3] = [Box::new(code), Box::new(|_| NANTES), Box::new(|_| PARIS)];
        let voices = sites.iter().zip(said).map(|(site, voice)| (Person::join(site, "alice").mic, voice)).collect();
        let _talking = talk(1.0, LATE, voices);
        bob.settle();

        broker.kill();
        sites[0].wait_for_report(|report| !report.is_connected && report.links.iter().all(|link| link.is_cut_off));
        bob.wait_for_others(0);
        bob.hear_seconds(1);
        bob.check("without the broker");
        broker.restart();
        bob.wait_for_others(NANTES + PARIS);
        sites[0].wait_for_report(|report| report.is_connected && !report.links.iter().any(|link| link.is_cut_off));
        bob.check("after the restart of the broker");

        (sites[2].bridge, mixers[2]) = (None, None);
        bob.wait_for_others(NANTES);
        sites[0].wait_for_link("paris", true);
        bob.check("after the other machine was killed");

        sites[1].bridge().signal("STOP");
        bob.wait_for_others(0);
        bob.hear_seconds(5);
        sites[0].wait_for_link("nantes", true);
        sites[1].bridge().signal("CONT");
        bob.wait_for_others(NANTES);
        bob.check("after another machine stood still for 5 s");

        sites[0].bridge().signal("STOP");
        bob.hear_seconds(5);
        sites[1].wait_for_link("lyon", true);
        sites[0].bridge().signal("CONT");
        sites[1].wait_for_link("lyon", false);
        bob.wait_for_others(NANTES);
        bob.check("after the own bridge stood still for 5 s");
    });
}
