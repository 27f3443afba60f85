//! The short form of `scripts/measure faults`: a fault of one participant costs no other participant a record.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use palabre_e2e::faults::{Options, Row, run};

/// Maximum number of wrong mixes of one participant after a fault. A busy machine delays a chunk of a talker more than all earlier chunks; then the
/// mixer's buffer of this talker runs dry, which disturbs one or two mixes. A fault that does change the mixes of the other participants makes 22
/// mixes of each wrong while it lasts.
const MIXES_MAX: u64 = 4;

#[test]
fn faults_of_one_participant_cost_the_others_nothing() {
    let options = Options {
        participants: 12,
        talkers: 2,
        hold: Duration::from_millis(900),
        rest: Duration::from_millis(500),
        only_cheap: true,
        only: "",
    };
    palabre_testing::undisturbed(|| {
        let (rows, skipped) = run(&options).unwrap();
        assert_eq!(skipped, Vec::<String>::new());
        for Row { what, lost, others, effect, .. } in &rows {
            println!(
                "{what}: {lost}; others: {others} (at most {} mixes each); effect: {effect:?}",
                others.worst_mixes
            );
        }
        let without_effect: Vec<_> = rows.iter().filter(|row| row.effect.is_none()).map(|row| row.what).collect();
        assert_eq!(without_effect, Vec::<&str>::new());
        let harms = |row: &&Row| row.others.records > 0 || row.others.worst_mixes > MIXES_MAX;
        let harmed: Vec<_> = rows.iter().filter(harms).map(|row| row.what).collect();
        assert_eq!(harmed, Vec::<&str>::new());
        // Check that the measurement notices losses: these two faults must cause some.
        let row = |what: &str| rows.iter().find(|row| row.what == what).unwrap();
        assert!(row("half of the listeners are stopped").lost.records > 0);
        let talker = row("SIGSTOP of a talker's listener");
        assert!(talker.lost.records > 0 && talker.others.without_talker > MIXES_MAX, "{talker:?}");
    });
}
