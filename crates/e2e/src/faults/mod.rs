//! Fault injection while the participants of `palabre swarm` talk. Each fault affects some participants. The result has their losses and the losses of all
//! other participants.

mod crowd;
mod effects;
mod keyless;
mod losses;
mod scene;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::processes::prefer;
use crate::suite::Suite;
use crate::swarm::Swarm;

use losses::Slot;
pub use losses::{Lost, Row};
use scene::{Scene, Whom};

/// A fault, with the functions that begin and end it.
struct Fault {
    what: &'static str,
    whom: Whom,
    begin: fn(&mut Scene<'_>) -> Result<()>,
    /// Returns what shows that the fault has an effect; `None` if nothing shows it. Is called before `end`.
    effect: fn(&mut Scene<'_>) -> Result<Option<String>>,
    end: fn(&mut Scene<'_>) -> Result<()>,
    /// Whether the short form of the measurement (tests/faults.rs) injects the fault too.
    is_cheap: bool,
}

#[allow(
    clippy::redundant_closure_for_method_calls,
    reason = "the methods of a type with a lifetime are functions of another type"
)]
#[rustfmt::skip]
const FAULTS: [Fault; 21] = [
    fault("nothing", Whom::Nobody, |_| Ok(()), |_| Ok(Some("-".to_owned())), |_| Ok(()), true),
    fault("SIGSTOP of a listener", Whom::One, |s| s.signal_listeners("STOP"), |s| s.stopped(), |s| s.signal_listeners("CONT"), false),
    fault("SIGKILL of a listener", Whom::One, |s| s.signal_listeners("KILL"), |s| s.ended(), |_| Ok(()), true),
    fault("SIGKILL of a talker's listener", Whom::Talker, |s| s.signal_listeners("KILL"), |s| s.ended(), |_| Ok(()), false),
    fault("a listener may not map more memory, 20 connections", Whom::One, |s| s.limit_memory(), |s| s.has_no_memory(), |s| s.lift_limits(), true),
    fault("a listener has no free descriptors, 20 connections", Whom::One, |s| s.limit_descriptors(), |s| s.has_no_descriptors(), |s| s.lift_limits(), true),
    fault("7 more streams of a participant, which are never read", Whom::One, |s| s.open_unread(), |s| s.unread_streams(), |s| s.hang_up(), true),
    fault("a foreign program floods a `mic`", Whom::One, |s| s.flood(), |s| s.flooded(), |s| s.stop_programs(), true),
    fault("a participant's directory is removed", Whom::One, |s| s.remove_directory(), |s| s.removed(), |_| Ok(()), true),
    fault("half of the listeners are stopped", Whom::Half, |s| s.signal_listeners("STOP"), |s| s.stopped(), |s| s.signal_listeners("CONT"), true),
    fault("the line of a participant stalls", Whom::Far, |s| s.stall(true), |s| s.stalled(), |s| s.stall(false), false),
    fault("SIGKILL of the recorder", Whom::Nobody, |s| s.kill("palabre-recorder"), |s| s.ended(), |s| s.stop_recording(), true),
    fault("SIGKILL of the exporter", Whom::Nobody, |s| s.kill_exporter(), |s| s.ended(), |_| Ok(()), true),
    fault("SIGSTOP of a talker's listener", Whom::Talker, |s| s.signal_listeners("STOP"), |s| s.stopped(), |s| s.signal_listeners("CONT"), true),
    fault("SIGKILL of the signer", Whom::Nobody, |s| s.kill("palabre-signer"), |s| s.ended(), |_| Ok(()), false),
    fault("no space for `/run` and `/var`", Whom::Nobody, |s| s.fill(), |s| s.filled(), |s| s.free(), false),
    fault("2000 connections without a key per second at a listener", Whom::One, |s| s.crowd(), |s| s.crowded(), |s| s.disperse(), false),
    fault("complete handshakes without a key at 20 listeners, as many as possible", Whom::Nobody, |s| s.visit(), |s| s.visited(), |s| s.leave(), false),
    fault("all cores are busy", Whom::Nobody, |s| s.occupy(), |s| s.occupied(), |s| s.stop_programs(), false),
    fault("SIGKILL of the mixer", Whom::Everybody, |s| s.kill("palabre-mixer"), |s| s.ended(), |_| Ok(()), false),
    fault("SIGKILL of the supervisor", Whom::Everybody, |s| s.kill("palabre-supervisor"), |s| s.ended(), |_| Ok(()), false),
];

const fn fault(
    what: &'static str,
    whom: Whom,
    begin: fn(&mut Scene<'_>) -> Result<()>,
    effect: fn(&mut Scene<'_>) -> Result<Option<String>>,
    end: fn(&mut Scene<'_>) -> Result<()>,
    is_cheap: bool,
) -> Fault {
    Fault { what, whom, begin, effect, end, is_cheap }
}

/// Options of [`run`].
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Number of participants.
    pub participants: usize,
    /// Number of participants who talk.
    pub talkers: usize,
    /// Time from the beginning of a fault to its end.
    pub hold: Duration,
    /// Time from the end of a fault to the beginning of the next fault.
    pub rest: Duration,
    /// Whether only the faults of the short form (tests/faults.rs) are injected, instead of all faults.
    pub only_cheap: bool,
    /// A part of the names of the faults to inject. The fault "nothing" is injected too. Empty: all faults.
    pub only: &'static str,
}

/// Injects the faults one after another. Returns a row for each fault, and a line with the reason for each fault that this machine can't inject.
pub fn run(options: &Options) -> Result<(Vec<Row>, Vec<String>)> {
    let suite = Suite::start(options.participants)?;
    let mut scene = Scene::new(&suite, options.talkers)?;
    let faults: Vec<&Fault> = FAULTS
        .iter()
        .filter(|fault| fault.is_cheap || !options.only_cheap)
        .filter(|fault| fault.what == "nothing" || fault.what.contains(options.only))
        .collect();
    let certificate = suite.dir().join("etc/tls/cert.pem");
    let swarm = Swarm::start(&suite, scene.links(), &certificate, options.talkers, 86_400)?;
    prefer(swarm.pid());
    suite.process("palabre-mixer", "").into_iter().for_each(prefer);
    let (mut slots, mut skipped) = (Vec::new(), Vec::new());
    for fault in faults {
        scene.choose(fault.whom);
        if let Some(why) = scene.obstacle(fault.what) {
            skipped.push(format!("{}: {why}", fault.what));
            continue;
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let began = Instant::now();
        (fault.begin)(&mut scene).with_context(|| format!("unable to begin '{}'", fault.what))?;
        std::thread::sleep(options.hold.saturating_sub(began.elapsed()));
        let effect = (fault.effect)(&mut scene).with_context(|| format!("no effect of '{}' is known", fault.what))?;
        (fault.end)(&mut scene).with_context(|| format!("unable to end '{}'", fault.what))?;
        std::thread::sleep(options.rest);
        slots.push(Slot {
            what: fault.what,
            victims: scene.victims().to_vec(),
            is_talker: fault.whom == Whom::Talker,
            at,
            effect,
        });
    }
    let end = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let report = swarm.stop()?;
    drop(scene);
    suite.stop()?;
    Ok((losses::rows(&report, &slots, end), skipped))
}
