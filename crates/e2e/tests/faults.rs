//! The short form of `scripts/measure faults`: a fault of one participant costs no other participant a record.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use palabre_e2e::faults::{Options, Row, run};

/// Maximum number of wrong mixes of all other participants together. A busy machine delays the talkers of the swarm, which makes some mixes wrong. A fault
/// that changes the mixes makes at least 200 wrong.
const MIXES_MAX: u64 = 100;

#[test]
fn faults_of_one_participant_cost_the_others_nothing() {
    let options = Options {
        participants: 12,
        talkers: 2,
        hold: Duration::from_millis(900),
        rest: Duration::from_millis(500),
        only_cheap: true,
    };
    palabre_testing::undisturbed(|| {
        let (rows, skipped) = run(&options).unwrap();
        assert_eq!(skipped, Vec::<String>::new());
        for Row { what, lost, others, .. } in &rows {
            println!("{what}: {lost}; others: {others}");
        }
        let harms = |row: &&Row| row.others.records > 0 || row.others.mixes > MIXES_MAX;
        let harmed: Vec<_> = rows.iter().filter(harms).map(|row| row.what).collect();
        assert_eq!(harmed, Vec::<&str>::new());
        // The swarm must notice the losses that these faults cause.
        let noticed = |what: &str| rows.iter().find(|row| row.what == what).unwrap().lost.records;
        assert!(noticed("SIGSTOP of a listener") > 0 && noticed("half of the listeners are stopped") > 0);
    });
}
