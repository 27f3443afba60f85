//! Tests the findings of `palabre check`: level, text and remedy. Also runs each remedy that needs no decision of the operator,
//! and checks that it removes the fault.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use palabre_testing::not_shown;
use serde_json::Value;

use super::{check, config, invite};
use crate::common::{palabre, sibling, start, stdout, wait_for};

mod table;

use table::{DAEMONS, all, mode, room, theirs_at, tls};

/// Returns a port on which no program listens.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Returns the finding whose text contains `text`, with the exit status.
fn found(directory: &Path, area: &str, text: &str) -> Option<(Value, Option<i32>)> {
    let output = check(directory, &["--json"]);
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = all["checks"].as_array().unwrap();
    let is_it = |one: &&Value| one["area"] == area && one["text"].as_str().unwrap().contains(text);
    checks.iter().find(is_it).map(|one| (one.clone(), output.status.code()))
}

/// Runs a remedy in a shell.
fn run_remedy(remedy: &str) {
    let programs = sibling("palabre").parent().unwrap().to_owned();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh").args(["-c", remedy]).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{remedy}: {output:?}");
}

#[test]
fn every_fault_is_found_and_its_remedy_works() {
    let is_root = config().path().metadata().unwrap().uid() == 0;
    match is_root {
        true => not_shown("faults in files that this user can't read", "root can read all files"),
        false => not_shown("faults in files of the daemons' user", "only root can change the owner of files"),
    }
    for fault in all(is_root) {
        let config = config();
        let at = config.path();
        (fault.make)(at);
        let fill = |text: &str| {
            let palabre = format!("palabre --config {0} --run {0}/run", at.display());
            text.replace("PALABRE", &palabre).replace("DIR", &at.display().to_string())
        };
        let (text, remedy) = (fill(fault.text), fill(fault.remedy));
        let (finding, code) = found(at, fault.area, &text).unwrap_or_else(|| panic!("not found: {text}"));
        assert_eq!(
            (finding["level"].as_str(), finding["mend"].as_str()),
            (Some(fault.level), Some(&*remedy)),
            "{text}"
        );
        assert_eq!(code == Some(78), fault.level == "fault" || finding["level"] == "fault", "{text}");
        if fault.runnable {
            run_remedy(&remedy);
            assert_eq!(found(at, fault.area, &text), None, "{remedy}");
        }
    }
}

/// Returns the levels and texts of the findings for a user without any permission; `None` if this user can't be tested.
fn as_other_user(directory: &Path) -> Option<Vec<(String, String, String)>> {
    let mut command = palabre();
    command.arg("--config").arg(directory).arg("--run").arg(directory.join("run")).args(["check", "--json"]);
    let output = match command.uid(DAEMONS).gid(DAEMONS).output() {
        Ok(output) => output,
        Err(error) => {
            not_shown("what check says to a user without permissions", &format!("unable to change the user: {error}"));
            return None;
        }
    };
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checks = all["checks"].as_array().unwrap().iter();
    Some(checks.map(|one| (text(&one["level"]), text(&one["text"]), text(&one["mend"]))).collect())
}

#[test]
fn link_in_a_room_gets_no_remedy_that_opens_its_target() {
    let config = config();
    let at = config.path();
    if at.metadata().unwrap().uid() != 0 {
        return not_shown("a link in a room to a file of root", "only root can change the owner of files");
    }
    theirs_at(at);
    let secret = at.join("secret");
    fs::write(&secret, "").unwrap();
    mode(&secret, 0o600);
    for link in ["main/alice/mic", "main/zoe", "den"] {
        let link = at.join("run/rooms").join(link);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&secret, &link).unwrap();
    }
    let output = check(at, &["--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("secret"), "{text}");
    let all: Value = serde_json::from_str(&text).unwrap();
    let remedies: Vec<&str> =
        all["checks"].as_array().unwrap().iter().filter_map(|one| one["remedy"].as_str()).collect();
    let inside = at.join("run/rooms/").display().to_string();
    assert!(
        remedies.iter().all(|remedy| !(remedy.contains("ch") && remedy.contains(&inside)) || remedy.starts_with("mv ")),
        "{remedies:?}"
    );
}

#[test]
fn user_who_may_not_see_a_file_is_told_so_and_gets_no_other_remedy() {
    let config = config();
    let at = config.path();
    room(at);
    let hide: [(&dyn Fn(), &[&str]); 3] = [
        (&|| {}, &["palabre.toml' as this user", "participants.d' as this user", "run' as this user"]),
        (
            &|| {
                for path in [at.to_owned(), at.join("palabre.toml"), at.join("participants.d"), at.join("run")] {
                    mode(&path, 0o755);
                }
            },
            &["alice.toml' as this user", "cert.pem' as this user", "run/rooms' as this user"],
        ),
        (&|| mode(&at.join("tls"), 0o755), &["key.pem' as this user", "what the daemons (user root) can read"]),
    ];
    for (show_more, texts) in hide {
        show_more();
        let Some(findings) = as_other_user(at) else { return };
        let sudo = format!("sudo palabre --config {0} --run {0}/run check", at.display());
        for text in texts {
            let finding = findings.iter().find(|(_, found, _)| found.contains(text));
            let (level, _, remedy) = finding.unwrap_or_else(|| panic!("no '{text}': {findings:?}"));
            assert_eq!((level.as_str(), remedy), ("warning", &sudo));
        }
        assert!(findings.iter().all(|(level, ..)| level != "fault"), "{findings:?}");
        assert!(!findings.iter().any(|(_, text, _)| text == "there are no participants"), "{findings:?}");
    }
}

#[test]
fn user_without_access_to_the_supervisor_gets_no_false_fault() {
    let config = config();
    let at = config.path();
    let port = free_port();
    invite(at, "bob", port);
    let _supervisor = start(at);
    wait_for("both ports to be served", || found(at, "ports", "ports with a listener: 2;"));
    for path in [at.to_owned(), at.join("palabre.toml"), at.join("run")] {
        mode(&path, 0o755);
    }
    mode(&at.join("participants.d"), 0o755);
    for file in fs::read_dir(at.join("participants.d")).unwrap() {
        mode(&file.unwrap().path(), 0o644);
    }
    let Some(findings) = as_other_user(at) else { return };
    assert!(findings.iter().any(|(_, text, _)| text.contains("can't see the supervisor as this user")), "{findings:?}");
    assert!(
        findings.iter().all(|(level, text, _)| level != "fault" && !text.contains("another program")),
        "{findings:?}"
    );
}

/// Without a supervisor: `palabre-listener@.service`.
#[test]
fn port_of_a_listener_without_a_supervisor_is_served() {
    let config = config();
    let at = config.path();
    room(at);
    invite(at, "bob", free_port());
    let mut command = Command::new(sibling("palabre-listener"));
    command.args(["bob", "--make-room", "--config"]).arg(at).arg("--run").arg(at.join("run"));
    command.arg("--links").arg(at.join("links"));
    let _listener = crate::common::Process(command.spawn().unwrap());
    wait_for("bob's port to be served", || found(at, "ports", "ports with a listener: 1;"));
    assert_eq!(found(at, "ports", "another program"), None);
}

#[test]
fn participants_with_only_an_ear_or_a_mic_are_no_fault() {
    let config = config();
    let at = config.path();
    let room = room(at);
    let directory = |name: &str| {
        let directory = room.participant(&name.parse().unwrap()).path().to_owned();
        fs::create_dir(&directory).unwrap();
        mode(&directory, 0o2770);
        directory
    };
    fs::write(directory("recorder").join("ear"), "").unwrap();
    fs::write(directory("radio").join("mic"), "").unwrap();
    fs::write(at.join("disk.wav"), "").unwrap();
    std::os::unix::fs::symlink(at.join("disk.wav"), directory("archive").join("ear")).unwrap();
    directory("nobody");
    let (finding, _) = found(at, "rooms", "").unwrap();
    assert_eq!(finding["level"], "ok", "{finding}");
}

#[test]
fn remedies_work_while_the_daemons_run() {
    let config = config();
    let at = config.path();
    let _supervisor = start(at);
    let is_up = || {
        let status = palabre().arg("--run").arg(at.join("run")).args(["status", "--json"]).output().unwrap();
        String::from_utf8(status.stdout).unwrap().contains("\"state\": \"ready\"").then_some(())
    };
    wait_for("alice to be ready", is_up);
    for area in ["directories", "rooms"] {
        assert_eq!(found(at, area, "").unwrap().0["level"], "ok");
    }
    let alice = at.join("run/rooms/main/alice");
    let mic_is_a_directory = || {
        fs::remove_file(alice.join("mic")).unwrap();
        fs::create_dir(alice.join("mic")).unwrap();
    };
    let stop = |pid: &Value| run_remedy(&format!("kill -STOP {pid}"));
    let status = || -> Value {
        let status = palabre().arg("--run").arg(at.join("run")).args(["status", "--json"]).output().unwrap();
        serde_json::from_slice(&status.stdout).unwrap()
    };
    let faults: [(&dyn Fn(), &str, &str); 5] = [
        (&|| stop(&status()["participants"][0]["pid"]), "daemons", "the listener of 'alice' is stopped"),
        (&|| stop(&status()["supervisor"]["pid"]), "supervisor", "unable to reach the supervisor: its process "),
        (&mic_is_a_directory, "rooms", "mic' is neither a pipe nor a file"),
        (&|| fs::remove_dir_all(&alice).unwrap(), "rooms", "alice/ear' is missing, so alice hears nothing"),
        (&|| mode(&at.join("run/control.sock"), 0o666), "directories", "all users can connect to '"),
    ];
    for (make, area, text) in faults {
        make();
        let (finding, _) = found(at, area, text).unwrap();
        assert_eq!(finding["level"], "fault", "{finding}");
        run_remedy(finding["mend"].as_str().unwrap());
        assert_eq!(found(at, area, text), None);
        wait_for("alice to be ready again", is_up);
    }
    // The listener gets the state failed if there is neither a certificate file nor a running signer that still has the certificate.
    fs::remove_file(tls(at, "cert.pem")).unwrap();
    run_remedy(&format!("kill -KILL {}", status()["signer"]["pid"]));
    let again = |verb| palabre().arg("--run").arg(at.join("run")).args([verb, "alice"]).output().unwrap();
    stdout(&again("stop"));
    assert!(!again("start").status.success());
    let (finding, _) = wait_for("alice's listener to fail", || {
        found(at, "supervisor", "failed listeners: alice; cause for alice: exit")
    });
    assert_eq!(finding["level"], "fault");
    run_remedy(found(at, "certificate", "cert.pem': No such file").unwrap().0["mend"].as_str().unwrap());
    run_remedy(finding["mend"].as_str().unwrap());
    wait_for("alice to be ready in the end", is_up);
}
