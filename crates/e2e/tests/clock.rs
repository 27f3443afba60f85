//! Steps of the clock, while participants talk. The clock of this machine stays as it is: a library adds an offset to what the programs read.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use palabre_e2e::people::People;
use palabre_e2e::processes::programs;
use palabre_e2e::suite::{Link, Suite, TIMEOUT};
use palabre_e2e::wait_for;

/// Offsets of the clock in seconds from the right time, one after another: an hour ahead, an hour behind, forty days ahead, and right again.
const OFFSETS_S: [i64; 4] = [3600, -3600, 40 * 86_400, 0];

/// Compiles the library that adds the offset.
fn compile(library: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clock/offset.c");
    let status = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-Wall", "-o"]).arg(library).arg(source).status();
    assert!(status.unwrap().success());
}

/// Returns a new cookie of this participant, and the time in it, in seconds since 1970.
fn new_cookie(suite: &Suite, link: &Link) -> (String, i64) {
    let target = format!("/?key={}", link.key);
    let answer = suite.client.request(link, "GET", &target, &[], b"").unwrap();
    let set = answer
        .head
        .lines()
        .find_map(|line| line.strip_prefix("Set-Cookie: "))
        .unwrap_or_else(|| panic!("{}", answer.head));
    let cookie = set.split(';').next().unwrap().to_owned();
    let time = cookie.split_once('=').unwrap().1.split('.').next().unwrap().parse().unwrap();
    (cookie, time)
}

fn opens(suite: &Suite, link: &Link, cookie: &str) -> bool {
    let lines = [format!("Cookie: {cookie}"), "Sec-Fetch-Site: same-origin".to_owned()];
    suite.client.request(link, "GET", "/me", &lines.each_ref().map(String::as_str), b"").unwrap().status == 200
}

#[test]
fn steps_of_the_clock_cost_no_sound_no_message_and_no_access() {
    let directory = tempfile::tempdir().unwrap();
    let (library, offset) = (directory.path().join("offset.so"), directory.path().join("offset"));
    compile(&library);
    fs::write(&offset, 0_i64.to_ne_bytes()).unwrap();
    let environment = [("LD_PRELOAD", library.as_os_str()), ("PALABRE_TEST_CLOCK", offset.as_os_str())];
    let suite = Suite::start_in(3, &["--no-voices", "--no-levelling"], &environment).unwrap();
    let people = People::talking_in(suite).unwrap();
    people.wait_until_all_hear_the_others(&[0; 3], TIMEOUT).unwrap();
    let (suite, link) = (&people.suite, &people.suite.links[0]);
    let (first, began) = new_cookie(suite, link);
    let before = programs(suite.pid());
    let offset = File::options().write(true).open(&offset).unwrap();
    for offset_s in OFFSETS_S {
        offset.write_all_at(&offset_s.to_ne_bytes(), 0).unwrap();
        let (cookie, time) = new_cookie(suite, link);
        assert!((time - began - offset_s).abs() < 60, "the offset {offset_s} s has no effect: {began} s, {time} s");
        people.wait_until_all_hear_the_others(&people.now(), TIMEOUT).unwrap();
        assert!(opens(suite, link, &cookie), "{offset_s}");
        let text = format!("at {offset_s}");
        suite.post(&link.name, "/say", &text).unwrap();
        let kept = suite.room().join(".meeting/texts");
        wait_for("the message among the kept ones", TIMEOUT, || {
            fs::read_to_string(&kept).unwrap_or_default().contains(&text).then_some(())
        })
        .unwrap();
        suite.palabre(&["status"]).unwrap();
    }
    assert!(opens(suite, link, &first), "the first cookie is valid again");
    assert_eq!(programs(suite.pid()), before, "no program was started again:\n{}", suite.output());
    people.suite.stop().unwrap();
}
