//! The mixer's program is replaced in its process, on request and by SIGHUP; a second mixer is refused.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use palabre_host::restart::{self, RestartError};
use palabre_room::{MIXER_SOCKET, MIXER_USER};
use support::*;

const TIMEOUT: Duration = Duration::from_secs(60);

fn run(program: &Path, rooms: &Path) -> Child {
    Command::new(program).arg("--rooms").arg(rooms).spawn().unwrap()
}

fn end(mut mixer: Child) {
    mixer.kill().unwrap();
    mixer.wait().unwrap();
}

/// Checks again and again, without a pause, until the mixer's socket file exists.
fn wait_for_file(path: &Path) {
    while fs::symlink_metadata(path).is_err() {}
}

fn wait_for_socket(path: &Path) {
    wait_until("the mixer's socket", || fs::symlink_metadata(path).ok().filter(|file| file.file_type().is_socket()));
}

#[test]
fn request_is_answered_when_the_new_program_serves_in_the_same_process() {
    let mut mixer = Mixer::start();
    let (pid, socket) = (mixer.child.id(), mixer.dir.path().join(MIXER_SOCKET));
    wait_for_socket(&socket);
    let mut restart = || {
        assert_eq!(restart::request(&socket, MIXER_USER, TIMEOUT).unwrap(), pid);
        mixer.wait_for_log("replacing this process by");
    };
    let descriptors = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    restart();
    // The smallest of several counts is the number of descriptors that stay open.
    let most = (0..20).map(|_| descriptors()).min().unwrap();
    for _ in 0..2 {
        restart();
        wait_until("no more descriptors than before the restart", || (descriptors() <= most).then_some(()));
    }
    assert!(mixer.child.try_wait().unwrap().is_none());
}

#[test]
fn sandbox_stays_over_twenty_restarts_without_a_further_filter_and_sound_goes_on() {
    let mut mixer = Mixer::start();
    let room = mixer.room("main");
    let (mut alice, mut bob) = (room.join("alice"), room.join("bob"));
    let (pid, rooms) = (mixer.child.id(), mixer.dir.path().to_owned());
    let enforced = || palabre_room::MixerReport::read(&rooms).unwrap().map(|report| report.sandbox);
    let first = wait_until("the mixer's report", enforced);
    let status = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let is_of_sandbox = |line: &&str| line.starts_with("Seccomp") || line.starts_with("NoNewPrivs");
        status.lines().filter(is_of_sandbox).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = status();
    assert!(first.contains("seccomp") && before.contains(&"Seccomp:\t2".to_owned()), "{first}: {before:?}");
    // SIGHUP is not limited to one restart per second.
    for _ in 0..20 {
        fs::remove_file(rooms.join(".mixer-counts")).unwrap();
        mixer.signal("HUP");
        assert_eq!(wait_until("the next program", enforced), first);
        assert_eq!(status(), before);
    }
    alice.say(440.0);
    bob.hear(BURST);
    assert!(bob.hears(440.0));
    for _ in 0..20 {
        mixer.wait_for_log("replacing this process by");
    }
    assert!(!mixer.logged.iter().any(|line| line.contains("warning: ")), "{:?}", mixer.logged);
}

#[test]
fn hangup_replaces_the_program_and_keeps_the_socket() {
    let mut mixer = Mixer::start();
    let (pid, socket) = (mixer.child.id(), mixer.dir.path().join(MIXER_SOCKET));
    wait_for_socket(&socket);
    mixer.signal("HUP");
    mixer.wait_for_log("replacing this process by");
    assert_eq!(restart::request(&socket, MIXER_USER, TIMEOUT).unwrap(), pid);
}

#[test]
fn restart_right_after_the_start_does_not_end_the_mixer() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join(MIXER_SOCKET);
    for _ in 0..20 {
        let _ = fs::remove_file(&socket);
        let mixer = run(Path::new(env!("CARGO_BIN_EXE_palabre-mixer")), dir.path());
        wait_for_file(&socket);
        // When the socket's file exists, the mixer must already handle SIGHUP, which is signal 1. SigCgt: proc_pid_status(5).
        let status = fs::read_to_string(format!("/proc/{}/status", mixer.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        assert_eq!(u64::from_str_radix(caught, 16).unwrap() & 1, 1, "a SIGHUP would end the mixer");
        wait_for_socket(&socket);
        assert_eq!(restart::request(&socket, MIXER_USER, TIMEOUT).unwrap(), mixer.id());
        end(mixer);
    }
}

#[test]
fn mixer_whose_program_is_gone_says_why_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (program, rooms) = (dir.path().join("palabre-mixer"), dir.path().join("rooms"));
    fs::create_dir(&rooms).unwrap();
    // Use a symbolic link instead of a copy: a file that was just written can't be executed while a child of another test has it open.
    symlink(env!("CARGO_BIN_EXE_palabre-mixer"), &program).unwrap();
    let mixer = run(&program, &rooms);
    let socket = rooms.join(MIXER_SOCKET);
    wait_for_socket(&socket);
    fs::remove_file(&program).unwrap();
    let Err(RestartError::Failed(why)) = restart::request(&socket, MIXER_USER, TIMEOUT) else {
        panic!("it was restarted")
    };
    assert!(why.starts_with("unable to execute '") && why.contains("No such file or directory"), "{why}");
    // The sandbox permits only programs in the mixer's directory, so the target of this link is refused.
    symlink("/bin/true", &program).unwrap();
    let Err(RestartError::Failed(why)) = restart::request(&socket, MIXER_USER, TIMEOUT) else {
        panic!("it was restarted")
    };
    assert!(why.contains("Permission denied"), "{why}");
    fs::remove_file(&program).unwrap();
    // A copy in the mixer's directory is permitted. It ends at once, so the client gets no answer. cp(1) makes the copy, because a file that this process
    // has open for writing can't be executed.
    assert!(Command::new("cp").arg("/bin/true").arg(&program).status().unwrap().success());
    assert!(matches!(restart::request(&socket, MIXER_USER, TIMEOUT), Err(RestartError::Ended)));
    end(mixer);
}

#[test]
fn second_mixer_in_the_same_directory_is_refused() {
    let mixer = Mixer::start();
    wait_for_socket(&mixer.dir.path().join(MIXER_SOCKET));
    let mut second = run(Path::new(env!("CARGO_BIN_EXE_palabre-mixer")), mixer.dir.path());
    assert_eq!(second.wait().unwrap().code(), Some(1));
}

#[test]
fn symbolic_link_in_the_place_of_the_socket_is_never_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (rooms, target) = (dir.path().join("rooms"), dir.path().join("target"));
    fs::create_dir(&rooms).unwrap();
    fs::write(&target, "somebody else's").unwrap();
    symlink(&target, rooms.join(MIXER_SOCKET)).unwrap();
    let mixer = run(Path::new(env!("CARGO_BIN_EXE_palabre-mixer")), &rooms);
    wait_for_socket(&rooms.join(MIXER_SOCKET));
    assert_eq!(fs::read_to_string(&target).unwrap(), "somebody else's");
    end(mixer);
}
