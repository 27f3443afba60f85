//! Metrics and status of a real suite in which participants talk.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;
use std::time::{Duration, SystemTime};

use palabre_config::Moment;
use palabre_e2e::people::People;
use palabre_e2e::suite::{Link, Suite, TIMEOUT, binary, signal};
use palabre_e2e::wait_for;
use serde_json::Value;

/// Time for which the guest's access key is valid: sufficient for the start of the guest's listener and for three requests.
const VISIT: Duration = Duration::from_secs(10);

/// Returns the value of a metric.
fn value(page: &str, metric: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn metrics_and_status_show_talkers_and_lost_sound() {
    let people = People::talking(2).unwrap();
    people.wait_until_all_hear_the_others(&[0; 2], TIMEOUT).unwrap();
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
    // Mixer and listeners write their counters every few seconds, so wait for the metrics.
    let all_there =
        || wanted.iter().all(|metric| value(&page(), metric).is_some_and(|value| value > 0.0)).then_some(());
    wait_for("every metric", TIMEOUT, all_there).map_err(|error| format!("{error}\n{}", page())).unwrap();
    assert_eq!(value(&page(), "palabre_up"), Some(1.0));
    // Run both checks at the same time, because both wait most of the time.
    std::thread::scope(|scope| {
        scope.spawn(|| a_guest_hears_until_their_key_ends(&people.suite));
        the_operator_sees_talkers_and_lost_sound(&people.suite);
    });
    people.suite.stop().unwrap();
}

/// Returns a participant of `palabre status --json`.
fn status(suite: &Suite, name: &str) -> Value {
    let status: Value = serde_json::from_str(&suite.palabre(&["status", "--json"]).unwrap()).unwrap();
    status["participants"].as_array().unwrap().iter().find(|one| one["name"] == name).cloned().unwrap_or_default()
}

fn the_operator_sees_talkers_and_lost_sound(suite: &Suite) {
    let one = status(suite, "p01");
    assert_eq!((one["talk"].as_str(), one["state"].as_str()), (Some("talking"), Some("serving")), "{one}");
    let dbfs = one["level_dbfs"].as_f64().unwrap();
    assert!((-55.0..-35.0).contains(&dbfs) && one["connections"].as_u64() > Some(0), "{one}");
    let table = suite.palabre(&["status"]).unwrap();
    assert!(table.lines().any(|line| line.contains(" p01 ") && line.contains("  talking  ")), "{table}");
    // A stopped listener doesn't read its ear, and the mixer counts the frames that it drops.
    let pid = u32::try_from(status(suite, "p02")["pid"].as_u64().unwrap()).unwrap();
    signal(pid, "STOP").unwrap();
    let lost = || status(suite, "p02")["dropped_frames"].as_u64().filter(|frames| *frames > 0);
    let lost = wait_for("dropped frames", TIMEOUT, lost);
    signal(pid, "CONT").unwrap();
    let lost = lost.unwrap();
    assert!(status(suite, "p02")["dropped_frames"].as_u64() >= Some(lost));
}

/// Checks that a guest who can only listen hears the room until the guest's access key expires.
fn a_guest_hears_until_their_key_ends(suite: &Suite) {
    let end = Moment::after(SystemTime::now(), VISIT).unwrap().to_string();
    let printed = suite.palabre(&["invite", "guest", "--listen-only", "--expires", &end]).unwrap();
    let (address, key) = printed.trim().split_once("/?key=").unwrap();
    let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
    let link = Link { name: "guest".into(), url: printed.trim().into(), port, key: key.into() };
    let mut stream = wait_for("the guest's listener", TIMEOUT, || suite.client.get(&link, "/listen.wav").ok()).unwrap();
    assert_eq!(stream.status, 200);
    assert!(suite.client.get(&link, "/me").unwrap().text().unwrap().contains("\"listen_only\":true"));
    assert_eq!(suite.client.get(&link, "/speak").unwrap().status, 404);
    // Ignore the error: the connection breaks when the listener of the expired guest is killed.
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
    let closed = || suite.client.get(&link, "/me").ok().filter(|me| me.status == 401);
    wait_for("the expired access key to be refused", TIMEOUT, closed).unwrap();
    assert!(suite.palabre(&["list"]).unwrap().contains("expired"));
}
