//! What Prometheus and the operator are told of a real suite in which people talk.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;
use std::time::{Duration, SystemTime};

use palabre_config::Moment;
use palabre_e2e::people::People;
use palabre_e2e::suite::{Link, PATIENCE, Suite, binary, signal};
use palabre_e2e::wait_for;
use serde_json::Value;

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
    // Both wait: for an end, and for counts that are told now and then.
    std::thread::scope(|scope| {
        scope.spawn(|| a_guest_hears_until_their_key_ends(&people.suite));
        the_operator_sees_who_talks_and_what_is_lost(&people.suite);
    });
    people.suite.stop().unwrap();
}

/// One participant of `palabre status --json`.
fn status(suite: &Suite, name: &str) -> Value {
    let status: Value = serde_json::from_str(&suite.palabre(&["status", "--json"]).unwrap()).unwrap();
    status["participants"].as_array().unwrap().iter().find(|one| one["name"] == name).cloned().unwrap_or_default()
}

fn the_operator_sees_who_talks_and_what_is_lost(suite: &Suite) {
    let one = status(suite, "p01");
    assert_eq!((one["talk"].as_str(), one["state"].as_str()), (Some("talking"), Some("serving")), "{one}");
    let dbfs = one["level_dbfs"].as_f64().unwrap();
    assert!((-55.0..-35.0).contains(&dbfs) && one["connections"].as_u64() > Some(0), "{one}");
    let table = suite.palabre(&["status"]).unwrap();
    assert!(table.lines().any(|line| line.contains(" p01 ") && line.contains("  talking  ")), "{table}");
    // A listener that stands still is too slow for its frames, and the mixer says how many it has left out.
    let pid = u32::try_from(status(suite, "p02")["pid"].as_u64().unwrap()).unwrap();
    signal(pid, "STOP").unwrap();
    let lost = || status(suite, "p02")["dropped_frames"].as_u64().filter(|frames| *frames > 0);
    let lost = wait_for("frames that were left out", PATIENCE, lost);
    signal(pid, "CONT").unwrap();
    let lost = lost.unwrap();
    assert!(status(suite, "p02")["dropped_frames"].as_u64() >= Some(lost));
}

/// Somebody who only hears, and not for long. On a machine that is very busy their key may end before they are there: then they are invited
/// for longer.
fn a_guest_hears_until_their_key_ends(suite: &Suite) {
    let invite = |seconds: u64, flag: &str| {
        let end = Moment::after(SystemTime::now(), Duration::from_secs(seconds)).unwrap().to_string();
        let printed = suite.palabre(&["invite", "guest", flag, "--expires", &end]).unwrap();
        let (address, key) = printed.trim().split_once("/?key=").unwrap();
        let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
        Link { name: "guest".into(), url: printed.trim().into(), port, key: key.into() }
    };
    let hear = |link: &Link| {
        let stream = wait_for("the guest's listener", PATIENCE, || suite.client.get(link, "/listen.wav").ok()).unwrap();
        (stream.status == 200).then_some(stream)
    };
    let mut link = invite(4, "--listen-only");
    let (me, speak) = (suite.client.get(&link, "/me"), suite.client.get(&link, "/speak"));
    let mut stream = hear(&link);
    if stream.is_none() {
        link = invite(30, "--new-key");
        stream = hear(&link);
    } else {
        assert!(me.unwrap().text().unwrap().contains("\"listen_only\":true"));
        assert_eq!(speak.unwrap().status, 404);
    }
    // Its end is a broken connection: the process is killed.
    let _ = std::io::copy(&mut stream.unwrap(), &mut std::io::sink());
    let closed = || suite.client.get(&link, "/me").ok().filter(|me| me.status == 401);
    wait_for("a key that opens no longer", PATIENCE, closed).unwrap();
    assert!(suite.palabre(&["list"]).unwrap().contains("expired"));
}
