//! Tests of `palabre export` and `palabre import`, without a supervisor.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};

use palabre_config::Exported;

use super::{TestConfig, key};
use crate::common::{palabre, stderr, stdout};

/// Parses a document of `palabre export`.
fn parsed(document: &str) -> Vec<Exported> {
    Exported::parse(Path::new("-"), document.as_bytes()).unwrap()
}

impl TestConfig {
    /// Invites alice and bob, with some settings. Returns the document with both.
    fn with_people(&self) -> String {
        let link =
            stdout(&self.palabre(&["invite", "alice", "--display-name", "Zoë ✓", "--room", "den", "--listen-only"]));
        stdout(&self.palabre(&["invite", "bob", "--expires", "2999-12-31T18:00:00Z"]));
        stdout(&self.palabre(&["gain", "bob", "-6.1"]));
        stdout(&self.palabre(&["suspend", "bob"]));
        let document = stdout(&self.palabre(&["export", "bob", "alice", "bob"]));
        assert!(!document.contains(key(&link)), "a document has no key");
        document
    }
}

#[test]
fn document_has_the_participants_that_the_command_line_selects() {
    let config = TestConfig::new();
    let document = config.with_people();
    let exported: Vec<_> = parsed(&document).into_iter().map(|one| one.participant).collect();
    assert_eq!(exported, [config.load("alice"), config.load("bob")]);
    assert_eq!(stdout(&config.palabre(&["export", "--all"])), document);
    let of_room = parsed(&stdout(&config.palabre(&["export", "--room", "den"])));
    assert_eq!(of_room.into_iter().map(|one| one.participant).collect::<Vec<_>>(), [config.load("alice")]);
    let quiet = config.palabre(&["export", "alice"]);
    assert_eq!(String::from_utf8(quiet.stderr).unwrap(), "");
}

#[test]
fn only_its_owner_may_read_the_file_of_a_document() {
    let config = TestConfig::new();
    let document = config.with_people();
    let file = config.directory.path().join("people.toml");
    let out = file.to_str().unwrap();
    for _ in 0..2 {
        let output = config.palabre(&["export", "--all", "--out", out]);
        assert_eq!(stdout(&output), "");
        let printed = String::from_utf8(output.stderr).unwrap();
        assert_eq!(printed, format!("palabre: wrote 2 participants to '{out}', which only its owner may read\n"));
        assert_eq!(fs::read_to_string(&file).unwrap(), document);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&file, "old").unwrap();
    }
    for bad in ["/dev/null", "/nowhere/people.toml", config.directory.path().to_str().unwrap()] {
        let printed = stderr(&config.palabre(&["export", "--all", "--out", bad]), 111);
        assert!(printed.contains(&format!("unable to write '{bad}': ")), "{printed}");
    }
}

#[test]
fn participants_who_cannot_be_exported_are_named_and_nothing_is_written() {
    let config = TestConfig::new();
    config.with_people();
    stdout(&config.palabre(&["invite", "carol", "--once"]));
    fs::write(config.file("dave"), "prot = 1\n").unwrap();
    let out = config.directory.path().join("people.toml");
    for (arguments, code, why) in [
        (&["zoe"][..], 1, "unable to export 'zoe': no such participant; see 'palabre list'"),
        (&["alice", "zoe"], 1, "1 of 2 failed: zoe"),
        (
            &["carol"],
            1,
            "unable to export 'carol': only the supervisor knows whether the one-time link was used; start",
        ),
        (&["dave"], 78, "dave.toml', line 1: unknown field `prot`"),
        (&["--all"], 78, "dave.toml', line 1: unknown field `prot`"),
        (&["--all", "--room", "den"], 2, "cannot be used with"),
        (&["--all", "alice"], 2, "cannot be used with"),
        (&[], 2, "required"),
    ] {
        let arguments = [&["export", "--out", out.to_str().unwrap()], arguments].concat();
        let output = config.palabre(&arguments);
        assert!(output.stdout.is_empty() && !out.exists(), "{arguments:?}");
        let printed = stderr(&output, code);
        assert!(printed.contains(why), "{arguments:?}: {printed}");
    }
    fs::remove_file(config.file("dave")).unwrap();
    let printed = stderr(&config.palabre(&["export", "--room", "nowhere"]), 1);
    assert!(printed.contains("room 'nowhere' has no participants; see 'palabre list'"), "{printed}");
}

/// Runs `palabre import` with this document.
fn import(config: &TestConfig, document: impl AsRef<[u8]>, arguments: &[&str]) -> Output {
    let directory = config.directory.path();
    let mut command = palabre();
    command.arg("--config").arg(directory).arg("--run").arg(directory.join("run")).arg("import").args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // An error is ignored here: the command doesn't read the rest of a document that is too long.
    let _ = child.stdin.take().unwrap().write_all(document.as_ref());
    child.wait_with_output().unwrap()
}

/// Two machines whose ports overlap, and the document of the first machine with alice and bob.
fn machines() -> (TestConfig, TestConfig, String) {
    let (old, new) = (TestConfig::new(), TestConfig::new());
    let document = old.with_people();
    let file = new.directory.path().join("palabre.toml");
    let text = fs::read_to_string(&file).unwrap();
    let (first, last) = (old.first_port, new.first_port + 99);
    let ports = text.replace(&format!("ports = \"{}-", new.first_port), &format!("ports = \"{first}-"));
    assert!(first < last && ports != text);
    fs::write(&file, ports.replace("voice.example", "new.example")).unwrap();
    (old, new, document)
}

#[test]
fn imported_participant_has_the_same_settings_and_key() {
    let (old, new, document) = machines();
    let output = import(&new, &document, &[]);
    let printed = stdout(&output);
    let (alice, bob) = (old.load("alice"), old.load("bob"));
    let expected = format!(
        "alice: imported: room 'den', port {0}\n\
         alice: the key stays the same: the link is https://new.example:{0}/?key=KEY, where KEY is the key in the participant's link on the machine that made the export\n\
         bob: imported: room 'main', port {1}\n\
         bob: the key stays the same: the link is https://new.example:{1}/?key=KEY, where KEY is the key in the participant's link on the machine that made the export\n\
         bob: suspended; 'palabre resume bob' lifts the suspension\n",
        alice.port, bob.port
    );
    assert_eq!(printed, expected);
    assert_eq!((new.load("alice"), new.load("bob")), (alice, bob));
    assert_eq!(fs::metadata(new.file("alice")).unwrap().permissions().mode() & 0o777, 0o640);
    let said = String::from_utf8(output.stderr).unwrap();
    let hint = "as soon as the new links work, run 'palabre revoke alice bob' on the other machine, which makes the old links invalid";
    assert!(said.contains(hint) && said.contains("no supervisor runs"), "{said}");
    assert!(!format!("{said}{printed}").contains(&old.load("alice").key_sha256.to_string()), "{said}");
    assert_eq!(stdout(&new.palabre(&["export", "--all"])), document, "the new machine exports the same document");
}

#[test]
fn used_port_is_replaced_by_a_free_one_which_is_printed() {
    let (old, new, document) = machines();
    let (alice, bob) = (old.load("alice").port, old.load("bob").port);
    stdout(&new.palabre(&["invite", "carol", "--port", &alice.to_string()]));
    let printed = stderr(&import(&new, &document, &["--port", "9001"]), 1);
    assert!(printed.contains("'--port' is for one participant, and the document has 2; leave it out"), "{printed}");
    let only_alice = stdout(&old.palabre(&["export", "alice"]));
    let printed = stderr(&import(&new, &only_alice, &["--port", &alice.to_string()]), 1);
    let used = format!("port {alice} is used by participant 'carol'");
    assert!(printed.contains(&format!("unable to import 'alice': {used}; choose another port")), "{printed}");
    let wanted = (new.first_port + 50).to_string();
    let printed = stdout(&import(&new, &only_alice, &["--port", &wanted, "--dry-run", "--room", "choir"]));
    assert!(printed.starts_with(&format!("alice: would be imported: room 'choir', port {wanted}\n")), "{printed}");
    assert!(printed.contains("alice: the room is 'choir' instead of 'den', because of --room\n"), "{printed}");

    let printed = stdout(&import(&new, &document, &[]));
    let port = new.load("alice").port;
    assert!(![alice, bob].contains(&port) && new.load("bob").port == bob);
    assert!(printed.contains(&format!("alice: the port is {port} instead of {alice}, because {used}\n")), "{printed}");
    assert!(
        printed.contains(&format!("alice: the key stays the same: the link is https://new.example:{port}/?key=KEY")),
        "{printed}"
    );
    let zero =
        only_alice.replace(&format!("port = {alice}"), "port = 0").replace("participants.alice", "participants.zoe");
    let printed = stdout(&import(&new, zero, &[]));
    assert!(
        printed.contains("instead of 0, because port 0 is no fixed port\n") && new.load("zoe").port > 0,
        "{printed}"
    );
}

#[test]
fn existing_participant_is_replaced_only_on_request() {
    let (old, new, document) = machines();
    stdout(&new.palabre(&["invite", "alice", "--port", &(new.first_port + 50).to_string()]));
    let before = new.files();
    let printed = stderr(&import(&new, &document, &[]), 1);
    let path = new.file("alice");
    let why = format!("unable to import 'alice': '{}' exists; use --replace to replace", path.display());
    let end = "nothing was changed; faults: 1\n";
    assert!(printed.contains(&why) && printed.ends_with(end), "{printed}");
    assert_eq!(new.files(), before);
    let planned = stdout(&import(&new, &document, &["--replace", "--dry-run"]));
    assert!(
        planned.starts_with("alice: would be replaced by the imported participant: room 'den', port "),
        "{planned}"
    );
    assert_eq!(new.files(), before);
    let printed = stdout(&import(&new, &document, &["--replace"]));
    assert!(printed.starts_with("alice: replaced by the imported participant: room 'den', port "), "{printed}");
    assert_eq!((new.load("alice"), new.load("bob")), (old.load("alice"), old.load("bob")));
    // A second import of the same document changes nothing.
    let before = new.files();
    stdout(&import(&new, &document, &["--replace"]));
    assert_eq!(new.files(), before);
}

#[test]
fn bad_document_changes_nothing() {
    let (_old, new, document) = machines();
    stdout(&new.palabre(&["invite", "carol"]));
    let before = new.files();
    let alice = "[participants.alice";
    for (bad, why) in [
        (String::new(), "unable to use 'standard input': the document is empty"),
        (document[..document.len() / 2].to_owned(), "unable to use 'standard input'"),
        (document.replace("\n[end]\nparticipants = 2\n", ""), "missing field `end`"),
        (document.replace("palabre-export = 1", "palabre-export = 7"), "version 7, and this program reads version 1"),
        (document.replace(alice, "[participants.\"a/b\""), "'a/b' is not a valid name"),
        (document.replace(alice, "[participants.\"\\u0000\""), "is not a valid name"),
        (document.replace(alice, "[participants.mixer"), "unable to import 'mixer': the name is reserved"),
        (document.replace("\"Zoë ✓\"", "\"Zoë\u{0}\""), "unable to use 'standard input', line "),
        (document.replace("\"Zoë ✓\"", "\"Zoë\\u0000\""), "the display name is invalid"),
        (document.replace("\"Zoë ✓\"", &format!("\"{}\"", "x".repeat(10 << 20))), "is longer than 4194304 bytes"),
        ("x".repeat(10 << 20), "unable to read standard input: the document is longer than 4194304 bytes"),
        ("[".repeat(1 << 20), "unable to use 'standard input'"),
        ("a = { b = ".repeat(100_000), "unable to use 'standard input'"),
    ] {
        let printed = stderr(&import(&new, &bad, &[]), 1);
        assert!(printed.contains(why) && printed.contains("nothing was changed"), "{why}: {printed}");
        assert!(printed.len() < 1000, "{}", printed.len());
        assert_eq!(new.files(), before, "{why}");
    }
    let printed = stderr(&import(&new, b"\xff\xfe", &[]), 1);
    assert!(printed.contains("the document is not UTF-8 text; nothing was changed"), "{printed}");
    let printed = stderr(&new.palabre(&["import", "/nowhere/people.toml"]), 1);
    assert!(printed.contains("unable to read '/nowhere/people.toml': No such file"), "{printed}");
    fs::write(new.directory.path().join("palabre.toml"), "hots = 1\n").unwrap();
    assert!(stderr(&import(&new, &document, &[]), 78).contains("palabre.toml', line 1"));
    assert_eq!(new.files(), before);
}

#[test]
fn used_link_and_chosen_name_are_valid_only_where_they_should_be() {
    let (old, new, document) = machines();
    let used = "link-used = true\nchosen-display-name = \"Ali\"\n";
    let document = document
        .replace("[participants.alice.file]", &format!("[participants.alice]\n{used}\n[participants.alice.file]"));
    let name_is_refused = |config: &TestConfig, why: &str| {
        let printed = stdout(&import(config, &document, &["--dry-run"]));
        let says = format!("alice: the display name is 'Zoë ✓' instead of 'Ali', because {why}\n");
        assert!(printed.contains(&says), "{printed}");
    };
    name_is_refused(&new, "'own-display-names' in palabre.toml is false");
    let file = new.directory.path().join("palabre.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text + "[room]\nown-display-names = true\n").unwrap();
    stdout(&new.palabre(&["invite", "carol", "--display-name", "ALI"]));
    name_is_refused(&new, "another participant has the chosen display name or a similar one");
    stdout(&new.palabre(&["revoke", "carol"]));
    let printed = stdout(&import(&new, &document, &[]));
    assert!(printed.contains("alice: the display name is 'Ali', which the participant has chosen\n"), "{printed}");
    let says = "alice: the one-time link was used on the machine that made the export, so it is invalid here; 'palabre invite alice --new-key' prints a new link\n";
    assert!(printed.contains(says) && !printed.contains(&format!(":{}/?key", new.load("alice").port)), "{printed}");
    let (before, after) = (old.load("alice"), new.load("alice"));
    assert!(after.key_sha256 != before.key_sha256 && after.display() == "Ali");
    assert_eq!(new.load("bob").key_sha256, old.load("bob").key_sha256);
}

#[test]
fn import_is_printed_as_the_json_of_the_manual() {
    let (old, new, document) = machines();
    let printed = stdout(&import(&new, &document, &["--json"]));
    let all: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let port = old.load("alice").port;
    let page = format!("https://new.example:{port}/");
    let expected = serde_json::json!({
        "name": "alice", "outcome": "imported", "display": "Zoë ✓", "room": "den", "port": port, "exported_port": port, "page": page,
        "link_used": false, "error": null,
        "notes": [format!("the key stays the same: the link is {page}?key=KEY, where KEY is the key in the participant's link on the machine that made the export")],
    });
    assert_eq!((&all["dry_run"], &all["participants"][0]), (&false.into(), &expected));
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/man/palabre.1");
    let manual = fs::read_to_string(manual).unwrap();
    let section = manual.split(".SH MOVING PARTICIPANTS\n").nth(1).unwrap().split(".SH ").next().unwrap();
    for member in expected.as_object().unwrap().keys().map(String::as_str).chain(["dry_run", "participants"]) {
        assert!(section.contains(&format!("\"{member}\": ")), "palabre(1) doesn't have the member {member}");
    }
}
