//! SIGKILL of each kind of process while eight participants talk: only the participants that it served are disturbed, and all hear all others
//! again.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Instant;

use palabre_e2e::people::People;
use palabre_e2e::suite::TIMEOUT;
use palabre_e2e::wait_for;

const PEOPLE: usize = 8;

/// Kills a process, and waits until a new one runs and each participant hears all others. Prints how long that took.
fn kill_and_recover(people: &People, program: &str, argument: &str) {
    let since = people.now();
    let killed = Instant::now();
    let old = people.suite.kill(program, argument).unwrap();
    wait_for("a new process", TIMEOUT, || people.suite.process(program, argument).filter(|&new| new != old)).unwrap();
    people.wait_until_all_hear_the_others(&since, TIMEOUT).unwrap();
    let took_ms = killed.elapsed().as_millis();
    println!("SIGKILL of {program} {argument}: each participant hears all others again after {took_ms} ms");
}

fn reconnections(people: &People) -> Vec<usize> {
    people.recordings.iter().map(palabre_e2e::client::Recording::reconnections).collect()
}

#[test]
fn participants_hear_each_other_again_after_any_process_is_killed() {
    let people = People::talking(PEOPLE).unwrap();
    people.wait_until_all_hear_the_others(&[0; PEOPLE], TIMEOUT).unwrap();

    kill_and_recover(&people, "palabre-mixer", "");
    assert_eq!(reconnections(&people), [0; PEOPLE], "no stream ends with the mixer");

    kill_and_recover(&people, "palabre-listener", "p03");
    assert_eq!(reconnections(&people), [0, 0, 1, 0, 0, 0, 0, 0], "only the stream of p03 ends with its listener");

    kill_and_recover(&people, "palabre-supervisor", "");
    assert!(reconnections(&people).iter().all(|&count| count >= 1), "all listeners end with the supervisor");
    people.suite.stop().unwrap();
}

#[test]
fn planned_restart_of_a_listener_ends_no_other_stream() {
    let people = People::talking(3).unwrap();
    people.wait_until_all_hear_the_others(&[0; 3], TIMEOUT).unwrap();
    let old = people.suite.process("palabre-listener", "p02").unwrap();
    people.suite.palabre(&["restart", "p02"]).unwrap();
    assert_ne!(people.suite.process("palabre-listener", "p02").unwrap(), old);
    people.wait_until_all_hear_the_others(&people.now(), TIMEOUT).unwrap();
    assert_eq!(reconnections(&people)[0] + reconnections(&people)[2], 0);
    people.suite.stop().unwrap();
}

#[test]
fn no_process_is_left_after_palabre_try_is_killed() {
    let people = People::talking(2).unwrap();
    let processes = palabre_e2e::suite::descendants(people.suite.pid());
    assert!(processes.len() >= 4, "mixer, supervisor and two listeners: {processes:?}");
    palabre_e2e::suite::signal(people.suite.pid(), "KILL").unwrap();
    wait_for("the end of every process", TIMEOUT, || {
        let alive =
            |pid: &&u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it.starts_with("palabre"));
        processes.iter().find(alive).is_none().then_some(())
    })
    .unwrap();
}
