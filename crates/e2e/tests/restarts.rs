//! Planned restarts while people talk: new processes serve, and everyone hears everyone with no help.
#![allow(clippy::unwrap_used, missing_docs)]

use palabre_e2e::client::Recording;
use palabre_e2e::people::People;
use palabre_e2e::suite::PATIENCE;

const PEOPLE: usize = 3;
const NAMES: [&str; PEOPLE] = ["p01", "p02", "p03"];

fn reconnections(people: &People) -> Vec<usize> {
    people.recordings.iter().map(Recording::reconnections).collect()
}

fn listeners(people: &People) -> [u32; PEOPLE] {
    NAMES.map(|name| people.suite.process("palabre-listener", name).unwrap())
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
