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
fn open_page_in_silence_wakes_the_listener_only_to_confirm_silence() {
    let rig = Rig::new();
    let mut records = rig.connect().listen(&rig, "");
    records.next_of(2);
    rig.wait_for_status("streams=1 speaking=no");
    records.next_of(2);
    let (switches, ticks) = idle(&rig);
    // Every 2 s the stream's thread sends a silence record. The main thread may send one report, with at most two wake-ups.
    let max = SECONDS / 2 + 1 + 2;
    assert!(switches <= max && ticks <= 1, "{switches} of {max}, {ticks}");
}

#[test]
fn chunk_wakes_one_thread_once() {
    const CHUNKS: u64 = 50;
    let rig = Rig::with("[stream]\nchunk-ms = 100\n");
    let mut records = rig.connect().listen(&rig, "");
    rig.wait_for_status("streams=1 speaking=no");
    let mut ear = rig.ear();
    // Write all frames of a chunk at once, as the mixer does. Write the next chunk when the client has received the record.
    let mut chunk = |value: i16| {
        (0..5).for_each(|_| ear.gather(&[value; 480]));
        assert_eq!(ear.write_gathered(), Some(0));
        while records.next_of(1).samples[0] != value {}
    };
    (0..5).for_each(&mut chunk);
    let before = activity(&rig).0;
    (5..5 + CHUNKS as i16).for_each(&mut chunk);
    let switches = activity(&rig).0 - before;
    println!("{switches} wake-ups for {CHUNKS} chunks");
    // One wake-up per chunk, and some for reports and locks. If each of the 50 chunks woke two threads, or a thread and a timer, there would be 100.
    assert!(switches <= CHUNKS * 3 / 2, "{switches} wake-ups for {CHUNKS} chunks");
}
