//! Each participant hears exactly the others: one tone per participant, through real TLS, pipes and processes.
#![allow(clippy::unwrap_used, missing_docs)]

use palabre_e2e::people::{LEVEL_DBFS, People, tone_hz};
use palabre_e2e::suite::TIMEOUT;
use palabre_sound::measure::goertzel_dbfs;

fn participants_hear_exactly_the_others(count: usize) {
    let people = People::talking(count).unwrap();
    people.wait_until_all_hear_the_others(&vec![0; count], TIMEOUT).unwrap();
    for (participant, recording) in people.recordings.iter().enumerate() {
        let own = goertzel_dbfs(&recording.from(0), recording.rate_hz, tone_hz(participant));
        assert!(own < LEVEL_DBFS - 40.0, "participant {participant} heard itself at {own} dBFS");
        assert_eq!(recording.reconnections(), 0, "participant {participant}");
    }
}

#[test]
fn three_participants_hear_exactly_the_others() {
    participants_hear_exactly_the_others(3);
}

#[test]
fn forty_participants_hear_exactly_the_others() {
    participants_hear_exactly_the_others(40);
}
