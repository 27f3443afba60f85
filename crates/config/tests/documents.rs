//! Compares the configuration examples in `docs/operations.md`, the installed `palabre.toml` and the manual page with the parsers.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;

use palabre_config::{Key, PARTICIPANTS_DIR, Participant, SERVER_FILE, Server};
use tempfile::TempDir;

const DOCUMENT: &str = include_str!("../../../docs/operations.md");

/// The file that the package installs as `/etc/palabre/palabre.toml`.
const INSTALLED: &str = include_str!("../palabre.toml");

/// Returns the manual page without troff escapes.
fn manual() -> String {
    include_str!("../../../docs/man/palabre.toml.5").replace("\\-", "-").replace("\\(dq", "\"")
}

/// The configuration directory in the examples of `docs/operations.md`.
const CONFIG: &str = "/etc/palabre";

/// Returns the content of the fenced block with the tag `tag` in `docs/operations.md`.
fn example(tag: &str) -> &'static str {
    let (_, rest) = DOCUMENT.split_once(&format!("```{tag}\n")).unwrap_or_else(|| panic!("no example '{tag}'"));
    rest.split_once("```").unwrap().0
}

fn configuration(server: &str, alice: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(PARTICIPANTS_DIR)).unwrap();
    fs::write(dir.path().join(SERVER_FILE), server).unwrap();
    fs::write(dir.path().join(PARTICIPANTS_DIR).join("alice.toml"), alice).unwrap();
    dir
}

/// Returns the fields that a parser accepts, from its error for an unknown field.
fn fields(error: &str) -> Vec<&str> {
    let (_, expected) = error.split_once(", expected ").unwrap_or_else(|| panic!("{error}"));
    let fields: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    assert!(!fields.is_empty(), "no field in: {error}");
    fields
}

#[test]
fn the_example_of_the_server_shows_every_field_with_its_default() {
    let dir = configuration(example("toml palabre"), "");
    let default = Server::default();
    let expected = Server {
        certificate: Path::new(CONFIG).join(&default.certificate),
        private_key: Path::new(CONFIG).join(&default.private_key),
        ..default
    };
    assert_eq!(Server::load(dir.path()).unwrap(), expected);
    for section in
        ["", "[room]\n", "[stream]\n", "[limits]\n", "[recordings]\n", "[proxy]\n", "[bridge]\n", "[security]\n"]
    {
        let dir = configuration(&format!("{section}x = 1\n"), "");
        for field in fields(&Server::load(dir.path()).unwrap_err().to_string()) {
            let says = |line: &str| line.starts_with(&format!("{field} = ")) || line == format!("[{field}]");
            assert!(example("toml palabre").lines().any(says), "{section}{field}");
        }
    }
}

/// In the installed `palabre.toml`, each line `#key = value` shows the default of `key`, and no line sets a key.
#[test]
fn the_installed_file_shows_every_key_with_its_default() {
    let shown: String = INSTALLED
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let (as_shown, as_installed) = (configuration(&shown, ""), configuration(INSTALLED, ""));
    for (dir, what) in [(&as_shown, "shown"), (&as_installed, "installed")] {
        let default = Server::default();
        let expected = Server {
            certificate: dir.path().join(&default.certificate),
            private_key: dir.path().join(&default.private_key),
            ..default
        };
        assert_eq!(Server::load(dir.path()).unwrap(), expected, "{what}");
    }
    let settings = |text: &str| text.lines().filter(|line| line.contains(" = ") && !line.starts_with("# ")).count();
    assert_eq!(settings(INSTALLED), settings(example("toml palabre")));
    for section in
        ["", "[room]\n", "[stream]\n", "[limits]\n", "[recordings]\n", "[proxy]\n", "[bridge]\n", "[security]\n"]
    {
        let dir = configuration(&format!("{section}x = 1\n"), "");
        for field in fields(&Server::load(dir.path()).unwrap_err().to_string()) {
            let says = |line: &str| line.starts_with(&format!("#{field} = ")) || line == format!("[{field}]");
            assert!(INSTALLED.lines().any(says), "{section}{field}");
        }
    }
}

#[test]
fn the_manual_page_has_every_key_and_the_defaults() {
    let manual = manual();
    for setting in INSTALLED.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with(' ')) {
        assert!(setting.is_empty() || manual.lines().any(|line| line == format!(".B {setting}")), "{setting}");
    }
    let dir = configuration("", "x = 1\n");
    for field in fields(&Participant::load(dir.path(), &"alice".parse().unwrap()).unwrap_err().to_string()) {
        assert!(manual.lines().any(|line| line.starts_with(&format!(".BI \"{field} = \""))), "{field}");
    }
}

#[test]
fn the_example_of_a_participant_is_valid_and_every_field_is_documented() {
    let dir = configuration("", example("toml participant"));
    let alice = Participant::load(dir.path(), &"alice".parse().unwrap()).unwrap();
    let default = Participant::new(alice.name.clone(), 9001, alice.key_sha256);
    assert_eq!(alice, Participant { display_name: Some("Alice".into()), gain_db: Some(0.0), ..default });
    let dir = configuration("", "x = 1\n");
    for field in fields(&Participant::load(dir.path(), &alice.name).unwrap_err().to_string()) {
        assert!(DOCUMENT.contains(&format!("{field} = ")), "{field}");
    }
}

/// The key in the example must not be usable, since operators may copy the example.
#[test]
fn the_key_of_the_example_opens_nothing() {
    let dir = configuration("", example("toml participant"));
    let alice = Participant::load(dir.path(), &"alice".parse().unwrap()).unwrap();
    // printf '' | sha256sum
    let of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(alice.key_sha256.to_string(), of_nothing);
    assert!(Key::parse("").is_err() && !alice.key_sha256.matches(""));
}
