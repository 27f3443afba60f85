use super::*;
use crate::Key;
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;

/// Writes participants' files into a new directory. Appends the line `key-sha256` to each file.
fn roster(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(PARTICIPANTS_DIR)).unwrap();
    for (name, text) in files {
        let text = format!("{text}\nkey-sha256 = \"{}\"\n", hash());
        fs::write(dir.path().join(PARTICIPANTS_DIR).join(name), text).unwrap();
    }
    dir
}

pub(super) fn is_toml(text: &str) -> bool {
    toml::from_str::<toml::Table>(text).is_ok()
}

fn hash() -> KeyHash {
    Key::parse("000102030405060708090a0b0c0d0e0f").unwrap().hash()
}

fn names_and_errors(dir: &tempfile::TempDir) -> (Vec<String>, Vec<String>) {
    let (participants, errors) = Participant::load_all(dir.path());
    let names = participants.iter().map(|participant| participant.name.to_string()).collect();
    (names, errors.iter().map(ToString::to_string).collect())
}

#[test]
fn only_port_and_key_are_required() {
    let dir = roster(&[("alice.toml", "port = 9001")]);
    let alice = Participant::load(dir.path(), &"alice".parse().unwrap()).unwrap();
    assert_eq!(alice, Participant::new("alice".parse().unwrap(), 9001, hash()));
    assert_eq!((alice.display(), alice.room.as_str()), ("alice", "main"));
}

#[test]
fn a_file_without_a_key_is_refused_with_the_remedy() {
    let dir = roster(&[]);
    let alice = "alice".parse().unwrap();
    fs::write(Participant::path(dir.path(), &alice), "port = 9001\nroom = \"den\"\n").unwrap();
    let error = Participant::load(dir.path(), &alice).unwrap_err().to_string();
    let says = "alice.toml': key-sha256 is missing; run 'palabre invite alice --new-key'";
    assert!(error.ends_with(says), "{error}");
    assert_eq!(names_and_errors(&dir), (Vec::new(), vec![error]));
}

#[test]
fn a_written_file_is_read_back() {
    let dir = roster(&[]);
    let written = Participant {
        room: "den".parse().unwrap(),
        display_name: Some("李小龍 \"Bruce\" <b>".into()),
        gain_db: Some(-6.1),
        muted: true,
        key_once: true,
        key_expires: Some("2026-12-31T18:00:00Z".parse().unwrap()),
        join_muted: true,
        listen_only: true,
        ..Participant::new("bruce".parse().unwrap(), 9002, Key::generate().unwrap().hash())
    };
    written.write(dir.path()).unwrap();
    written.write(dir.path()).unwrap();
    assert_eq!(Participant::load(dir.path(), &written.name).unwrap(), written);
    let path = Participant::path(dir.path(), &written.name);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(fs::read_to_string(&path).unwrap().contains("gain-db = -6.1\n"));
    Participant::remove(dir.path(), &written.name).unwrap();
    assert!(Participant::remove(dir.path(), &written.name).unwrap_err().is_missing());
}

#[test]
fn an_invalid_file_is_reported_and_the_others_are_read() {
    let dir = roster(&[
        ("alice.toml", "port = 9001\n"),
        ("bob.toml", "port = 9002\nprot = 9003\n"),
        ("carol.toml", "port = 9003\n"),
        ("Dave.toml", "port = 9004\n"),
        (".eve.toml.12", "port ="),
        ("README", "not a participant"),
    ]);
    let (names, errors) = names_and_errors(&dir);
    assert_eq!(names, ["alice", "carol"]);
    assert_eq!(errors.len(), 2);
    assert!(errors[0].contains("Dave.toml': 'Dave' is not a valid name"), "{}", errors[0]);
    assert!(errors[1].contains("bob.toml', line 2: unknown field `prot`, expected one of `port`"), "{}", errors[1]);
}

#[test]
fn an_invalid_port_is_reported_with_the_allowed_range() {
    for port in ["\"x\"", "65536", "-1", "9001.5"] {
        let dir = roster(&[("alice.toml", &format!("port = {port}\n"))]);
        let (_, errors) = names_and_errors(&dir);
        let says = format!("alice.toml', line 1: {port} is not a port; use 1 to 65535, or 0 for any free port");
        assert!(errors[0].ends_with(&says), "{}", errors[0]);
    }
}

#[test]
fn an_invalid_file_keeps_its_port() {
    let dir = roster(&[
        ("alice.toml", "port = 9001\n"),
        ("bob.toml", "prot = 1\n port=9002# his\n"),
        ("carol.toml", "room = [\nport = 9003 # hers\n"),
        ("dave.toml", "port = 9001\n"),
        ("eve.toml", "port = 0\n"),
    ]);
    let claimed = Participant::claimed_ports(dir.path());
    let claimed: Vec<_> = claimed.iter().map(|(port, name)| (*port, name.as_str())).collect();
    assert_eq!(claimed, [(9001, "alice"), (9002, "bob"), (9003, "carol")]);
}

#[test]
fn of_two_files_with_the_same_port_the_second_by_name_is_invalid() {
    let dir = roster(&[("bob.toml", "port = 9001\n"), ("alice.toml", "port = 9001\n"), ("zoe.toml", "port = 9003\n")]);
    let (names, errors) = names_and_errors(&dir);
    assert_eq!(names, ["alice", "zoe"]);
    assert!(errors[0].contains("bob.toml': port 9001 already belongs to participant 'alice'"), "{}", errors[0]);
}

#[test]
fn several_participants_may_have_port_0() {
    let dir = roster(&[("bob.toml", "port = 0\n"), ("alice.toml", "port = 0\n")]);
    assert_eq!(names_and_errors(&dir).0, ["alice", "bob"]);
}

#[test]
fn without_the_directory_there_are_no_participants() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Participant::load_all(dir.path()), (Vec::new(), Vec::new()));
}

#[test]
fn invalid_values_are_refused() {
    let long = format!("port = 1\ndisplay-name = \"{}\"", "x".repeat(65));
    for bad in [
        "",
        "port = 65536",
        "port = -1",
        "port = \"9001\"",
        "port = 1\nroom = \"../etc\"",
        "port = 1\ndisplay-name = \"\"",
        "port = 1\ndisplay-name = \"a\\tb\"",
        &long,
        "port = 1\ngain-db = nan",
        "port = 1\ngain-db = inf",
        "port = 1\ngain-db = 20.5",
        "port = 1\ngain-db = -61",
        "port = 1\nmuted = 1",
        "port = 1\nkey-expires = 2026-12-31",
        "port = 1\nkey-expires = 2026-12-31T18:00:00",
        "port = 1\nkey-expires = \"never\"",
        "[port]",
        "port = 1\nport = 2",
    ] {
        let dir = roster(&[("bad.toml", bad)]);
        assert!(Participant::load(dir.path(), &"bad".parse().unwrap()).is_err(), "{bad}");
    }
}

#[test]
fn an_invalid_hash_is_refused() {
    let (dir, bad) = (roster(&[]), "bad".parse().unwrap());
    for hash in ["\"\"", "\"abc\"", "0", &format!("\"{}g\"", "0".repeat(63)), &format!("\"{}\"", "0".repeat(65))] {
        fs::write(Participant::path(dir.path(), &bad), format!("port = 1\nkey-sha256 = {hash}\n")).unwrap();
        let error = Participant::load(dir.path(), &bad).unwrap_err();
        assert_eq!(error.line(), Some(2), "{error}");
    }
}

/// Pattern for the random lines of a test: some of the known fields with valid and invalid values, or lines of any characters.
const ANY_LINE: &str = "(port|room|display-name|gain-db|muted|join-muted) = \
                        (0|9001|-1|nan|true|\"\"|\"main\"|\"\\PC{0,8}\"|\\[\\]|\\{\\})|\\PC{0,12}";

proptest! {
    #[test]
    fn any_text_gives_a_participant_or_an_error_in_one_line(lines in proptest::collection::vec(ANY_LINE, 0..6)) {
        let dir = roster(&[("alice.toml", &lines.join("\n"))]);
        match Participant::load(dir.path(), &"alice".parse().unwrap()) {
            Ok(participant) => prop_assert!(participant.display().chars().count() <= 64),
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }

    #[test]
    fn any_participant_is_written_and_read_back(port: u16, display in "\\PC{1,64}", gain in -60.0_f32..20.0, muted: bool) {
        prop_assume!(palabre_room::display_name_is_valid(&display));
        let dir = roster(&[]);
        let new = Participant::new("alice".parse().unwrap(), port, hash());
        let written = Participant { display_name: Some(display), gain_db: Some(gain), muted, ..new };
        written.write(dir.path()).unwrap();
        prop_assert_eq!(Participant::load(dir.path(), &written.name).unwrap(), written);
    }
}
