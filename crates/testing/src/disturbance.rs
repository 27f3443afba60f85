//! Repeats a test that failed, but only if the kernel's figures show that the machine disturbed the test.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::proc;
use crate::turn::turn;

/// Maximum time for which a thread may wait for a CPU, or the machine for its host, in a test of sound. Sound passes about five threads, and the
/// smallest buffer holds 15 ms, so five waits of 3 ms are harmless.
const DISTURBANCE_MAX: Duration = Duration::from_millis(3);
/// Maximum number of repetitions of one test.
const REPETITIONS_MAX: u32 = 2;
/// Interval between two readings of the kernel's figures. The kernel counts a wait in full at its end, so the largest difference between two
/// readings is at least the longest wait.
const INTERVAL: Duration = Duration::from_millis(10);

/// Runs a test while no other test of its program runs. If the test fails, and the machine kept the test or one of its child processes from running
/// for more than 3 ms, repeats the test at most twice. Prints `REPEATED` with the test's name and the measured disturbance each time.
///
/// # Panics
/// If the test fails without a disturbance, or fails with a disturbance three times.
pub fn undisturbed<T, F: Fn() -> T>(test: F) -> T {
    undisturbed_by(DISTURBANCE_MAX, test)
}

/// Does the same as [`undisturbed`] for a test that a disturbance of at most `max` can't make fail.
///
/// # Panics
/// If the test fails without a disturbance, or fails with a disturbance three times.
pub fn undisturbed_by<T, F: Fn() -> T>(max: Duration, test: F) -> T {
    let _turn = turn();
    let name = test_name(&test);
    let observe = || {
        let observer = Observer::start();
        move || observer.stop()
    };
    repeat_if_disturbed(&test, max, observe, |disturbance| println!("REPEATED {name}: {disturbance}"))
}

fn repeat_if_disturbed<T, Stop: FnOnce() -> Disturbance>(
    test: &dyn Fn() -> T,
    max: Duration,
    observe: impl Fn() -> Stop,
    report: impl Fn(Disturbance),
) -> T {
    let mut repetitions = 0;
    loop {
        let stop = observe();
        let result = catch_unwind(AssertUnwindSafe(test));
        let disturbance = stop();
        match result {
            Ok(value) => return value,
            Err(failure) if !disturbance.is_longer_than(max) => resume_unwind(failure),
            Err(_) if repetitions < REPETITIONS_MAX => report(disturbance),
            Err(failure) => {
                println!("the machine stayed disturbed ({disturbance}); run this test again when the machine is idle");
                resume_unwind(failure)
            }
        }
        repetitions += 1;
    }
}

/// Returns the name of the test: of its thread or, if tests run in the main thread, of the function that contains the closure.
fn test_name<F>(_: &F) -> String {
    let thread = std::thread::current();
    let function = std::any::type_name::<F>().split("::{{closure}}").next();
    thread.name().filter(|name| *name != "main").or(function).unwrap_or_default().to_owned()
}

/// The disturbances of a test's processes by the machine.
#[derive(Clone, Copy, Debug, Default)]
struct Disturbance {
    /// Longest time between two readings for which one thread waited for a CPU.
    run_delay: Duration,
    /// Longest CPU time that other virtual machines took between two readings.
    steal: Duration,
    /// Share of the time in which some thread of the machine waited for a CPU. Only printed and not compared, because the test itself may be the cause.
    pressure_percent: u128,
}

impl Disturbance {
    fn is_longer_than(self, max: Duration) -> bool {
        self.run_delay.max(self.steal) > max
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run_delay, steal, pressure_percent } = self;
        write!(
            f,
            "run delay {} ms, steal {} ms, CPU pressure {pressure_percent} %",
            run_delay.as_millis(),
            steal.as_millis()
        )
    }
}

/// A thread that reads the kernel's figures until it is stopped.
struct Observer {
    stop: Sender<()>,
    thread: JoinHandle<Disturbance>,
}

impl Observer {
    fn start() -> Self {
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let (began, pressure) = (Instant::now(), proc::pressure());
            let mut readings = Readings::new();
            let mut disturbance = Disturbance::default();
            loop {
                let is_last = stopped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout);
                readings.advance(&mut disturbance);
                if is_last {
                    let waited = proc::pressure().saturating_sub(pressure);
                    disturbance.pressure_percent = waited.as_micros() * 100 / began.elapsed().as_micros().max(1);
                    return disturbance;
                }
            }
        });
        Self { stop, thread }
    }

    fn stop(self) -> Disturbance {
        drop(self.stop);
        self.thread.join().unwrap_or_default()
    }
}

/// The kernel's figures at the last reading.
struct Readings {
    run_delays: HashMap<u32, Duration>,
    steal: Duration,
}

impl Readings {
    fn new() -> Self {
        Self { run_delays: proc::run_delays().into_iter().collect(), steal: proc::steal() }
    }

    fn advance(&mut self, disturbance: &mut Disturbance) {
        let (run_delays, steal) = (proc::run_delays(), proc::steal());
        for (thread, delay) in &run_delays {
            let before = self.run_delays.get(thread).copied().unwrap_or_default();
            disturbance.run_delay = disturbance.run_delay.max(delay.saturating_sub(before));
        }
        disturbance.steal = disturbance.steal.max(steal.saturating_sub(self.steal));
        *self = Self { run_delays: run_delays.into_iter().collect(), steal };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::cell::Cell;

    const CALM: Duration = DISTURBANCE_MAX;
    const DISTURBED: Duration = Duration::from_millis(11);

    /// Returns how often a test runs that fails `failures` times, and whether it succeeds in the end, if a thread waited for a CPU for `run_delay`
    /// each time.
    fn runs(failures: u32, run_delay: Duration) -> (u32, bool) {
        let runs = Cell::new(0);
        let test = || {
            runs.set(runs.get() + 1);
            assert!(runs.get() > failures);
        };
        let observe = || move || Disturbance { run_delay, ..Disturbance::default() };
        let reports = Cell::new(0);
        let report = |_| reports.set(reports.get() + 1);
        let result = catch_unwind(AssertUnwindSafe(|| repeat_if_disturbed(&test, DISTURBANCE_MAX, observe, report)));
        assert_eq!(reports.get(), runs.get() - 1, "each repetition is reported");
        (runs.get(), result.is_ok())
    }

    #[test]
    fn test_that_succeeds_runs_once() {
        assert_eq!(runs(0, DISTURBED), (1, true));
    }

    #[test]
    fn failure_on_a_calm_machine_is_not_repeated() {
        assert_eq!(runs(1, CALM), (1, false));
    }

    #[test]
    fn failure_on_a_disturbed_machine_is_repeated_twice_at_most() {
        assert_eq!(runs(1, DISTURBED), (2, true));
        assert_eq!(runs(9, DISTURBED), (1 + REPETITIONS_MAX, false));
    }

    #[test]
    fn test_name_is_known_in_every_thread() {
        let is_known = || test_name(&|| ()).ends_with("test_name_is_known_in_every_thread");
        assert!(is_known(), "{}", test_name(&|| ()));
        assert!(std::thread::scope(|scope| scope.spawn(is_known).join().unwrap()));
    }

    #[test]
    fn observer_sees_a_process_that_waits_for_a_cpu() {
        let cpus = std::thread::available_parallelism().unwrap().get();
        let script = "for n in $(seq $1); do while :; do :; done & done; wait";
        let mut busy = std::process::Command::new("timeout")
            .args(["60", "sh", "-c", script, "sh", &(4 * cpus).to_string()])
            .spawn()
            .unwrap();
        // A wait that ends before the observer's first reading is not seen, so observe until a wait is seen or the busy processes have ended.
        let seen = loop {
            let observer = Observer::start();
            std::thread::sleep(INTERVAL * 10);
            let seen = observer.stop();
            let is_seen = seen.run_delay > DISTURBANCE_MAX && seen.pressure_percent > 0;
            if is_seen || busy.try_wait().unwrap().is_some() {
                break seen;
            }
        };
        std::process::Command::new("kill").arg(busy.id().to_string()).status().unwrap();
        busy.wait().unwrap();
        assert!(seen.run_delay > DISTURBANCE_MAX && seen.pressure_percent > 0, "{seen:?}");
    }
}
