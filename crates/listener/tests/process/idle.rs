//! Measures the wake-ups and the CPU time of a listener in silence.

use crate::rig::{Rig, wait_for};
use std::time::Duration;

/// Time in seconds for which wake-ups are counted.
const SECONDS: u64 = 4;

/// Returns the number of voluntary context switches of all threads of the listener, and the listener's CPU time in ticks of 10 ms:
/// proc_pid_status(5), proc_pid_stat(5).
fn activity(rig: &Rig) -> (u64, u64) {
    let process = format!("/proc/{}", rig.child.id());
    let switches = |status: String| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    };
    let tasks = std::fs::read_dir(format!("{process}/task")).unwrap();
    // A thread may end before its status is read, so errors are ignored.
    let statuses = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).ok());
    let stat = std::fs::read_to_string(format!("{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // CPU time is in the fields 14 and 15 of stat. The first two fields were cut off, and indexes start at 0.
    let ticks = [11, 12].map(|field: usize| fields[field].parse::<u64>().unwrap());
    (statuses.map(switches).sum(), ticks.iter().sum())
}

/// Returns the number of wake-ups and the CPU time in ticks of 10 ms during the next [`SECONDS`].
fn idle(rig: &Rig) -> (u64, u64) {
    let before = activity(rig);
    std::thread::sleep(Duration::from_secs(SECONDS));
    let after = activity(rig);
    println!("{} wake-ups and {} ticks in {SECONDS} s", after.0 - before.0, after.1 - before.1);
    (after.0 - before.0, after.1 - before.1)
}

#[test]
fn listener_without_streams_sleeps() {
    let rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    records.next_of(2);
    drop(records);
    rig.wait_for_status("streams=0 speaking=no");
    // Wait until only the main thread is left: the reader thread ends 2 s after the last stream.
    wait_for(|| (std::fs::read_dir(format!("/proc/{}/task", rig.child.id())).unwrap().count() == 1).then_some(()));
    // One wake-up is allowed: the main thread checks its counters again 10 s after its last report.
    let (switches, ticks) = idle(&rig);
    assert!(switches <= 1 && ticks <= 1, "{switches} {ticks}");
}

#[test]
fn open_page_in_silence_wakes_the_listener_only_to_look_at_levels_and_to_confirm_silence() {
    let rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    records.next_of(2);
    rig.wait_for_status("streams=1 speaking=no");
    records.next_of(2);
    let (switches, ticks) = idle(&rig);
    // The reader thread checks `levels` every 200 ms. Every 2 s, a silence record wakes the stream's thread, which may wait for two locks.
    // The main thread may send one report.
    let max = SECONDS * 5 + SECONDS / 2 * 4 + 5;
    assert!(switches <= max && ticks <= SECONDS, "{switches} of {max}, {ticks}");
}
