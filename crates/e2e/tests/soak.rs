//! The short form of `scripts/soak`: after guests, restarts of listeners and renewals of the certificate, no process, file or descriptor is left over.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use palabre_e2e::soak::{Options, run};
use palabre_e2e::swarm::losses;

#[test]
fn guests_restarts_and_renewals_leave_nothing_behind() {
    let out = tempfile::tempdir().unwrap();
    let options = Options {
        time: Duration::from_secs(10),
        participants: 6,
        talkers: 2,
        interval: Duration::from_secs(1),
        restart_every: Duration::from_secs(3),
        renew_every: Duration::from_secs(5),
        out: out.path().to_owned(),
    };
    palabre_testing::undisturbed(|| {
        let outcome = run(&options).unwrap();
        assert_eq!(outcome.left, Vec::<String>::new());
        let [joins, leaves, restarts, renewals] = outcome.events;
        assert!(joins >= 5 && leaves == joins && restarts >= 2 && renewals >= 1, "{:?}", outcome.events);
        let events = std::fs::read_to_string(out.path().join("events.csv")).unwrap();
        assert_eq!(losses(&outcome.swarm), Vec::<String>::new(), "{events}");
        for file in ["samples.csv", "events.csv", "swarm.json", "summary.json", "memory.svg", "streams.svg"] {
            assert!(out.path().join(file).metadata().unwrap().len() > 100, "{file}");
        }
    });
}
