//! Planned restarts while people talk: new processes serve, and everyone hears everyone with no help.
#![allow(clippy::unwrap_used, missing_docs)]

use palabre_e2e::client::Recording;
use palabre_e2e::people::People;
use palabre_e2e::suite::{PATIENCE, Suite, binary, signal};
use palabre_e2e::wait_for;
use std::path::Path;
use std::process::Command;

const PEOPLE: usize = 3;
const NAMES: [&str; PEOPLE] = ["p01", "p02", "p03"];

fn reconnections(people: &People) -> Vec<usize> {
    people.recordings.iter().map(Recording::reconnections).collect()
}

fn listeners(people: &People) -> [u32; PEOPLE] {
    NAMES.map(|name| people.suite.process("palabre-listener", name).unwrap())
}

/// The longest silence in what the person heard after `since`, in ms: windows of 10 ms below -60 dBFS.
fn longest_silence_ms(recording: &Recording, since: usize) -> u64 {
    let window = recording.rate_hz as usize / 100;
    let quiet = |piece: &[i16]| piece.iter().all(|&sample| sample.unsigned_abs() < 33);
    let (mut longest, mut now) = (0, 0);
    for piece in recording.from(since).chunks_exact(window) {
        now = if quiet(piece) { now + 10 } else { 0 };
        longest = longest.max(now);
    }
    longest
}

#[test]
fn the_mixer_is_replaced_in_its_process_and_no_connection_ends() {
    let people = People::talking(PEOPLE).unwrap();
    people.wait_until_all_hear_the_others(&[0; PEOPLE], PATIENCE).unwrap();
    let (pid, old, since) = (people.suite.process("palabre-mixer", ""), listeners(&people), people.now());
    for _ in 0..3 {
        let said = people.suite.palabre(&["restart", "mixer"]).unwrap();
        assert_eq!(said, format!("mixer: a new program serves, in process {}\n", pid.unwrap()));
        people.wait_until_all_hear_the_others(&people.now(), PATIENCE).unwrap();
    }
    let silences: Vec<u64> =
        people.recordings.iter().zip(&since).map(|(recording, &since)| longest_silence_ms(recording, since)).collect();
    println!("restart mixer: the longest silence each person heard, of three: {silences:?} ms");
    assert_eq!((people.suite.process("palabre-mixer", ""), listeners(&people)), (pid, old));
    assert_eq!(reconnections(&people), [0; PEOPLE]);
    people.suite.stop().unwrap();
}

#[test]
fn everybody_is_restarted_one_by_one_and_a_failure_ends_it() {
    let people = People::talking(PEOPLE).unwrap();
    people.wait_until_all_hear_the_others(&[0; PEOPLE], PATIENCE).unwrap();
    let old = listeners(&people);

    let said = people.suite.palabre(&["restart", "--all"]).unwrap();
    let expected: Vec<String> =
        (1..=PEOPLE).map(|nth| format!("p{nth:02}: a new listener serves ({nth} of {PEOPLE})")).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    let new = listeners(&people);
    assert!(old.iter().zip(&new).all(|(old, new)| old != new), "{old:?} {new:?}");
    people.wait_until_all_hear_the_others(&people.now(), PATIENCE).unwrap();
    assert_eq!(reconnections(&people), [1; PEOPLE], "a plain client comes back once, by itself");

    people.suite.palabre(&["stop", "p01"]).unwrap();
    let certificate = people.suite.dir().join("etc/tls/cert.pem");
    std::fs::write(&certificate, "this is no certificate\n").unwrap();
    let refused = people.suite.palabre(&["restart", "--all", "--json"]).unwrap_err().to_string();
    assert!(refused.contains("unable to restart 'p02'") && refused.contains("2 of 2 are as they were"), "{refused}");
    assert_eq!(
        NAMES[1..].iter().map(|name| people.suite.process("palabre-listener", name)).collect::<Vec<_>>(),
        new[1..].iter().map(|&pid| Some(pid)).collect::<Vec<_>>()
    );
    people.suite.stop().unwrap();
}

#[test]
fn the_supervisor_is_replaced_in_its_process_and_nobody_notices() {
    let people = People::talking(PEOPLE).unwrap();
    people.wait_until_all_hear_the_others(&[0; PEOPLE], PATIENCE).unwrap();
    let (pid, old, since) = (people.suite.process("palabre-supervisor", "").unwrap(), listeners(&people), people.now());
    for _ in 0..3 {
        let said = people.suite.palabre(&["restart", "supervisor"]).unwrap();
        assert_eq!(said, format!("supervisor: a new program serves, in process {pid}\n"));
    }
    people.wait_until_all_hear_the_others(&people.now(), PATIENCE).unwrap();
    let silences: Vec<u64> =
        people.recordings.iter().zip(&since).map(|(recording, &since)| longest_silence_ms(recording, since)).collect();
    println!("restart supervisor: the longest silence each person heard, of three: {silences:?} ms");
    assert_eq!((people.suite.process("palabre-supervisor", ""), listeners(&people)), (Some(pid), old));
    assert_eq!(reconnections(&people), [0; PEOPLE]);
    people.suite.stop().unwrap();
}

/// Another file of the same content in the place of a program, by rename, as a package does it. Written by cp(1), since a
/// file that we have open for writing while another test starts a process can't be executed.
fn install(programs: &Path, name: &str) {
    let new = programs.join("new");
    assert!(Command::new("cp").arg(binary(name).unwrap()).arg(&new).status().unwrap().success());
    std::fs::rename(new, programs.join(name)).unwrap();
}

#[test]
fn people_stay_connected_through_an_upgrade_of_every_program() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["palabre", "palabre-mixer", "palabre-supervisor", "palabre-listener"] {
        install(dir.path(), name);
    }
    let people = People::talking_in(Suite::start_from(dir.path(), PEOPLE).unwrap()).unwrap();
    people.wait_until_all_hear_the_others(&[0; PEOPLE], PATIENCE).unwrap();
    let (pid, old, since) = (people.suite.process("palabre-supervisor", "").unwrap(), listeners(&people), people.now());
    for name in ["palabre-supervisor", "palabre-listener"] {
        install(dir.path(), name);
    }
    signal(pid, "HUP").unwrap();
    wait_for("new listeners", PATIENCE, || {
        let new = NAMES.map(|name| people.suite.process("palabre-listener", name));
        new.iter().zip(&old).all(|(new, &old)| new.is_some_and(|new| new != old)).then_some(())
    })
    .unwrap();
    wait_for("the old listeners' end", PATIENCE, || {
        old.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    })
    .unwrap();
    people.wait_until_all_hear_the_others(&people.now(), PATIENCE).unwrap();
    let silences: Vec<u64> =
        people.recordings.iter().zip(&since).map(|(recording, &since)| longest_silence_ms(recording, since)).collect();
    println!("upgrade of supervisor and listeners: the longest silence each person heard: {silences:?} ms");
    assert_eq!(people.suite.process("palabre-supervisor", ""), Some(pid));
    assert_eq!(reconnections(&people), [1; PEOPLE], "a plain client comes back once, by itself");
    people.suite.stop().unwrap();
}

#[test]
fn who_is_revoked_hears_nothing_from_that_moment_on() {
    let people = People::talking(2).unwrap();
    people.wait_until_all_hear_the_others(&[0; 2], PATIENCE).unwrap();
    let alice = people.suite.process("palabre-listener", "p01").unwrap();
    let asked = std::time::Instant::now();
    people.suite.palabre(&["revoke", "p01"]).unwrap();
    wait_for("the end of the listener", PATIENCE, || {
        let stat = std::fs::read_to_string(format!("/proc/{alice}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    })
    .unwrap();
    println!("revoke: the listener is gone {} ms after the command began", asked.elapsed().as_millis());
    people.suite.stop().unwrap();
}
