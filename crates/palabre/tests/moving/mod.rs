//! Tests of `palabre export`, without a supervisor.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use palabre_config::Exported;

use super::{TestConfig, key};
use crate::common::{stderr, stdout};

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
    assert!(printed.contains("there is no such participant; see 'palabre list'"), "{printed}");
}
