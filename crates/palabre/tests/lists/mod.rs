//! Tests of `palabre invite --from`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::{Output, Stdio};

use palabre_config::PARTICIPANTS_DIR;

use super::{TestConfig, key};
use crate::common::{palabre, stderr, stdout};

impl TestConfig {
    /// Runs `palabre invite --from -` with this list.
    fn invite_list(&self, list: &str, arguments: &[&str]) -> Output {
        let directory = self.directory.path();
        let mut command = palabre();
        command.arg("--config").arg(directory).arg("--run").arg(directory.join("run"));
        command.args(["invite", "--from", "-"]).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Returns name and content of all participants' files.
    pub(super) fn files(&self) -> BTreeMap<String, String> {
        let entries = fs::read_dir(self.directory.path().join(PARTICIPANTS_DIR)).into_iter().flatten().flatten();
        entries
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
            .collect()
    }
}

#[test]
fn list_is_invited_once_and_a_second_run_changes_nothing() {
    let config = TestConfig::new();
    let port = config.first_port + 7;
    let list = format!(
        "\u{feff}name,display-name,port,expires,listen-only,room\n# the choir\nalice,\"Alice, soprano\",,7d,,den\n\nbob,,{port},never,yes\n\
         carol , , , 2999-12-31T18:00:00Z , no,\n"
    );
    let printed = stdout(&config.invite_list(&list, &["--room", "choir"]));
    let row = |name: &str| printed.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("bob").contains(&format!("invited  choir  {port}  https://voice.example:{port}/?key=")), "{printed}");
    let (alice, bob, carol) = (config.load("alice"), config.load("bob"), config.load("carol"));
    assert!(alice.key_sha256.matches(key(&row("alice"))) && carol.key_sha256.matches(key(&row("carol"))));
    assert_eq!((alice.display(), alice.room.as_str(), alice.listen_only), ("Alice, soprano", "den", false));
    assert_eq!((bob.port, bob.room.as_str(), bob.key_expires, bob.listen_only), (port, "choir", None, true));
    assert_eq!(carol.key_expires.unwrap().to_string(), "2999-12-31T18:00:00Z");
    let before = config.files();
    let again = config.invite_list(&list, &["--room", "choir", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&stdout(&again)).unwrap();
    let outcomes: Vec<_> = json["participants"].as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
    assert_eq!(outcomes, ["unchanged"; 3]);
    assert_eq!(String::from_utf8(again.stderr).unwrap(), "palabre: 3 unchanged\n");
    assert_eq!(config.files(), before);
}

#[test]
fn list_that_differs_from_existing_participants_is_refused_or_updates_them() {
    let config = TestConfig::new();
    stdout(&config.invite_list("alice\nbob\n", &[]));
    let before = config.files();
    let list = "alice,den,Zoë,,30d,yes\nbob\ncarol\n";
    let printed = stderr(&config.invite_list(list, &[]), 1);
    let why = "standard input, line 1: unable to invite 'alice': the participant exists with another room, display-name, listen-only, expires; \
               use --update to change it";
    assert!(printed.contains(why) && printed.ends_with("nothing was changed; faults in the list: 1\n"), "{printed}");
    assert_eq!(config.files(), before);
    let alice = config.load("alice");
    let printed = stdout(&config.invite_list(list, &["--update", "--csv"]));
    let rows: Vec<&str> = printed.lines().collect();
    assert_eq!(rows[..2], ["name,outcome,room,port,link", &format!("alice,updated,den,{},", alice.port)]);
    assert!(rows[2].starts_with("bob,unchanged,") && rows[3].starts_with("carol,invited,"), "{printed}");
    let after = config.load("alice");
    assert_eq!((after.display(), after.room.as_str(), after.listen_only), ("Zoë", "den", true));
    assert_eq!((after.key_sha256, after.port), (alice.key_sha256, alice.port));
    let before = config.files();
    stdout(&config.invite_list(list, &["--update"]));
    assert_eq!(config.files(), before);
    let printed = stderr(&config.invite_list(&format!("alice,,,{}\n", config.first_port + 50), &["--update"]), 1);
    assert!(printed.contains("the port of an existing participant doesn't change"), "{printed}");
}

#[test]
fn list_with_faults_writes_nothing_and_names_each_line() {
    let config = TestConfig::new();
    let port = config.first_port;
    let list = format!(
        "good\nBob\ngood\nx;den\nmixer\nb,../etc\nc,,\"a\tb\"\n\
         d,,,80\ne,,,{port}\nf,,,{port}\ng,,,0\nh,,,,tomorrow\n\
         i,,,,2026-01-01T00:00:00Z\nj,,,,,maybe\nk,,,,,,\n,den\n"
    );
    let printed = stderr(&config.invite_list(&list, &[]), 1);
    for (line, why) in [
        (2, "is not a valid name"),
        (4, "separate the fields by commas"),
        (6, "is not a valid name"),
        (11, "'0' is not a port"),
        (12, "invalid 'expires': use 30min"),
        (14, "use yes or no"),
        (15, "the line has 7 fields, but there are 6 columns"),
        (16, "the field 'name' is empty"),
    ] {
        assert!(
            printed.lines().any(|text| text.contains(&format!(" line {line}: ")) && text.contains(why)),
            "{why}: {printed}"
        );
    }
    let list: String = list
        .lines()
        .filter(|line| !["Bob", "x;den"].contains(line) && !line.starts_with(['b', 'g', 'h', 'j', 'k', ',']))
        .map(|line| format!("{line}\n"))
        .collect();
    let printed = stderr(&config.invite_list(&format!("good\ngood\n{list}"), &[]), 1);
    for (line, why) in [
        (2, "the login name 'good' is in line 1 too"),
        (3, "the name is reserved"),
        (4, "a display name has 1 to 64 characters"),
        (5, "port 80 is not in the range"),
        (7, "is used by participant 'e'"),
        (8, "has passed; use a time in the future"),
    ] {
        assert!(
            printed.lines().any(|text| text.contains(&format!(" line {line}: ")) && text.contains(why)),
            "{why}: {printed}"
        );
    }
    let printed = stderr(&config.invite_list("name,prot\n", &[]), 1);
    assert!(printed.contains("line 1: unknown column 'prot'"), "{printed}");
    assert!(stderr(&config.invite_list("# nobody\n", &[]), 1).contains("the list has no participants"));
    assert!(config.files().is_empty());
}
