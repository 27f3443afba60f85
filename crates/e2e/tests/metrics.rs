//! What Prometheus is told of a real suite in which people talk.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

use palabre_e2e::people::People;
use palabre_e2e::suite::{PATIENCE, binary};
use palabre_e2e::wait_for;

/// The value of a metric, where there is one.
fn value(page: &str, metric: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn who_talks_is_counted_by_mixer_listener_and_kernel() {
    let people = People::talking(2).unwrap();
    people.wait_until_all_hear_the_others(&[0; 2], PATIENCE).unwrap();
    let exporter = binary("palabre-exporter").unwrap();
    let page = || {
        let output =
            Command::new(&exporter).arg("--print").arg("--run").arg(people.suite.dir().join("run")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let of_p01 = |metric: &str| format!("palabre_participant_{metric}{{room=\"main\",name=\"p01\"}}");
    let wanted = [
        "palabre_mixer_tick_lateness_seconds_count".to_owned(),
        of_p01("talk_seconds_total"),
        of_p01("sent_bytes_total"),
        of_p01("received_bytes_total"),
        of_p01("connections"),
        of_p01("streams"),
        of_p01("resident_memory_bytes"),
    ];
    // Mixer and listeners tell every few seconds.
    let all_there =
        || wanted.iter().all(|metric| value(&page(), metric).is_some_and(|value| value > 0.0)).then_some(());
    wait_for("every metric", PATIENCE, all_there).map_err(|error| format!("{error}\n{}", page())).unwrap();
    assert_eq!(value(&page(), "palabre_up"), Some(1.0));
    people.suite.stop().unwrap();
}
