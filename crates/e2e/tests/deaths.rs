//! kill -9 of each kind of process while eight people talk: who must notice, notices, and everyone hears again with no help.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use palabre_e2e::people::People;
use palabre_e2e::suite::PATIENCE;
use palabre_e2e::wait_for;

const PEOPLE: usize = 8;

/// Kills the process, waits until another has taken its place and everyone hears everyone; says how long that took.
fn kill_and_recover(people: &People, program: &str, argument: &str) -> Duration {
    let since = people.now();
    let killed = Instant::now();
    let old = people.suite.kill(program, argument).unwrap();
    wait_for("a new process", PATIENCE, || people.suite.process(program, argument).filter(|&new| new != old)).unwrap();
    people.wait_until_all_hear_the_others(&since, PATIENCE).unwrap();
    let took = killed.elapsed();
    println!("kill -9 of {program} {argument}: everyone hears everyone again after {} ms", took.as_millis());
    took
}

fn reconnections(people: &People) -> Vec<usize> {
    people.recordings.iter().map(palabre_e2e::client::Recording::reconnections).collect()
}

#[test]
fn everyone_hears_again_after_the_death_of_any_process() {
    let people = People::talking(PEOPLE).unwrap();
    people.wait_until_all_hear_the_others(&[0; PEOPLE], PATIENCE).unwrap();

    kill_and_recover(&people, "palabre-mixer", "");
    assert_eq!(reconnections(&people), [0; PEOPLE], "the mixer's death is silence and no more");

    kill_and_recover(&people, "palabre-listener", "p03");
    assert_eq!(reconnections(&people), [0, 0, 1, 0, 0, 0, 0, 0], "only his own listener's death is noticed by p03");

    kill_and_recover(&people, "palabre-supervisor", "");
    assert!(reconnections(&people).iter().all(|&count| count >= 1), "the listeners die with their supervisor");
    people.suite.stop().unwrap();
}

#[test]
fn a_planned_restart_of_one_listener_is_noticed_by_nobody_else() {
    let people = People::talking(3).unwrap();
    people.wait_until_all_hear_the_others(&[0; 3], PATIENCE).unwrap();
    let old = people.suite.process("palabre-listener", "p02").unwrap();
    people.suite.palabre(&["restart", "p02"]).unwrap();
    assert_ne!(people.suite.process("palabre-listener", "p02").unwrap(), old);
    people.wait_until_all_hear_the_others(&people.now(), PATIENCE).unwrap();
    assert_eq!(reconnections(&people)[0] + reconnections(&people)[2], 0);
    people.suite.stop().unwrap();
}

#[test]
fn nothing_is_left_after_the_death_of_the_whole_try() {
    let people = People::talking(2).unwrap();
    let processes = palabre_e2e::suite::descendants(people.suite.pid());
    assert!(processes.len() >= 4, "mixer, supervisor and two listeners: {processes:?}");
    palabre_e2e::suite::signal(people.suite.pid(), "KILL").unwrap();
    wait_for("the end of every process", PATIENCE, || {
        let alive =
            |pid: &&u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it.starts_with("palabre"));
        processes.iter().find(alive).is_none().then_some(())
    })
    .unwrap();
}
