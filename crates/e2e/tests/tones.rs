//! Everyone hears exactly the others: a tone for each participant, through real TLS, pipes and processes.
#![allow(clippy::unwrap_used, missing_docs)]

use palabre_e2e::people::{LEVEL_DBFS, People, tone_hz};
use palabre_e2e::suite::PATIENCE;
use palabre_sound::measure::goertzel_dbfs;

fn everyone_hears_exactly_the_others(count: usize) {
    let people = People::talking(count).unwrap();
    people.wait_until_all_hear_the_others(&vec![0; count], PATIENCE).unwrap();
    for (person, recording) in people.recordings.iter().enumerate() {
        let own = goertzel_dbfs(&recording.from(0), recording.rate_hz, tone_hz(person));
        assert!(own < LEVEL_DBFS - 40.0, "person {person} heard himself at {own} dBFS");
        assert_eq!(recording.reconnections(), 0, "person {person}");
    }
}

#[test]
fn three_people_hear_exactly_the_others() {
    everyone_hears_exactly_the_others(3);
}

#[test]
fn forty_people_hear_exactly_the_others() {
    everyone_hears_exactly_the_others(40);
}
