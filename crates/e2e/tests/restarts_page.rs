//! Hand, mute and messages across restarts, upgrades, reloads and killed processes, in a real Chromium.
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use palabre_e2e::browser::Browser;
use palabre_e2e::client::{Client, Recording, Talker};
use palabre_e2e::suite::{Link, Suite, TIMEOUT, binary, install, signal};
use palabre_e2e::wait_for;
use palabre_room::{Message, RoomDir};
use serde_json::{Value, json};

/// Interval between two messages, within a listener's rate limit for received messages, 20 per second.
const INTERVAL: Duration = Duration::from_millis(60);
const PROGRAMS: [&str; 5] = ["palabre", "palabre-mixer", "palabre-supervisor", "palabre-signer", "palabre-listener"];

/// True if the page shows p01 with a raised hand and muted.
const SHOWN: &str = "document.querySelector('#people [data-name=\"p01\"].hand.silenced') !== null";

/// A suite in which p01 has raised a hand and is muted. p02 watches, and p03 is connected by a plain client.
struct Room {
    programs: tempfile::TempDir,
    suite: Suite,
    page: Browser,
    watcher: Browser,
    _p03: Recording,
}

fn join(link: &Link) -> Browser {
    let voice: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("speech/english-man-16000Hz-mono.wav");
    let browser = Browser::start(Some(&voice), "en").unwrap();
    browser.open(&link.url).unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live' && palabreState.uplink === 'open'").unwrap();
    browser
}

impl Room {
    fn open() -> Self {
        let programs = tempfile::tempdir().unwrap();
        for name in PROGRAMS {
            install(programs.path(), name).unwrap();
        }
        let suite = Suite::start_from(programs.path(), 3).unwrap();
        let (page, watcher) = (join(&suite.links[0]), join(&suite.links[1]));
        // Collect the texts of all messages, because the page keeps only the last 100.
        page.run(
            "window.texts = [];
             new MutationObserver((changes) => {
               for (const { addedNodes } of changes)
                 for (const node of addedNodes) texts.push(...[...node.querySelectorAll('.message-text')].map((text) => text.textContent));
             }).observe(document.getElementById('message-list'), { childList: true });",
        )
        .unwrap();
        let p03 = suite.client.record(&suite.links[2]).unwrap();
        page.click("#hand-button").unwrap();
        page.click("#mute").unwrap();
        watcher.wait_until(SHOWN).unwrap();
        watcher
            .run(&format!(
                "window.losses = 0;
                 new MutationObserver(() => {{ if (!({SHOWN})) losses++; }})
                   .observe(document.getElementById('people'), {{ subtree: true, childList: true, attributes: true }});"
            ))
            .unwrap();
        Self { programs, suite, page, watcher, _p03: p03 }
    }

    fn listener(&self) -> u32 {
        wait_for("a listener of p01", TIMEOUT, || self.suite.process("palabre-listener", "p01")).unwrap()
    }

    /// Waits until the page has its stream and its microphone connection from the listener that `status` shows, and until the watcher has seen
    /// the presence that this listener reported.
    fn settle(&self) {
        self.page.wait_until("palabreState.connection === 'live' && palabreState.uplink === 'open'").unwrap();
        let reported = || {
            let status: Value = serde_json::from_str(&self.suite.palabre(&["status", "--json"]).ok()?).ok()?;
            let p01 = status["participants"].as_array()?.iter().find(|one| one["name"] == "p01")?.clone();
            let has_streams = p01["counters"]["streams"].as_str().is_some_and(|count| count != "0");
            (p01["pid"] == self.listener() && has_streams).then_some(())
        };
        wait_for("the report of the listener", TIMEOUT, reported).unwrap();
        // Let p03 raise and lower a hand: this presence takes the same path to the watcher as p01's presence, and arrives after it.
        for hand in [true, false] {
            let show = json!({ "hand": hand, "microphone": "open" }).to_string();
            let shown =
                || post(&self.suite.client, &self.suite.links[2], "/show", &show).filter(|&status| status == 204);
            wait_for("what p03 shows to be accepted", TIMEOUT, shown).unwrap();
            self.watcher
                .wait_until(&format!("Boolean(document.querySelector('#people [data-name=\"p03\"].hand')) === {hand}"))
                .unwrap();
        }
    }

    /// Checks that p01's raised hand and mute never disappear from the other page during `event`, and that all messages sent meanwhile arrive.
    fn survives(&self, what: &str, event: impl FnOnce(&Self)) {
        self.watcher.run("losses = 0").unwrap();
        let sender = Sender::start(self, what);
        sender.wait_for_more();
        event(self);
        self.settle();
        sender.wait_for_more();
        self.shows_messages(what, &sender.stop());
        let losses = self.watcher.run("return losses").unwrap();
        assert_eq!((losses, self.watcher.run(&format!("return {SHOWN}")).unwrap()), (json!(0), json!(true)), "{what}");
        assert_eq!(
            self.page.run("return [palabreState.hand, palabreState.muted]").unwrap(),
            json!([true, true]),
            "{what}"
        );
    }

    /// Checks that hand and mute are shown again after a process was killed, and that messages sent afterwards arrive.
    fn recovers(&self, program: &str, argument: &str) {
        let what = format!("SIGKILL of {program} {argument}");
        let opened = self.page.run("return palabreState.opened").unwrap();
        let old = self.suite.kill(program, argument).unwrap();
        let new = || self.suite.process(program, argument).filter(|&pid| pid != old);
        wait_for("a new process", TIMEOUT, new).unwrap();
        if program != "palabre-mixer" {
            self.page.wait_until(&format!("palabreState.opened > {opened}")).unwrap();
        }
        self.settle();
        self.watcher.wait_until(SHOWN).unwrap();
        let sender = Sender::start(self, &what);
        sender.wait_for_more();
        self.shows_messages(&what, &sender.stop());
        assert_eq!(
            self.page.run("return [palabreState.hand, palabreState.muted]").unwrap(),
            json!([true, true]),
            "{what}"
        );
    }

    /// Checks that the page shows each of these messages exactly once.
    fn shows_messages(&self, what: &str, sent: &[String]) {
        let script = format!("return texts.filter((text) => text.startsWith('{what}:')).sort()");
        let shown = || serde_json::from_value::<Vec<String>>(self.page.run(&script).ok()?).ok();
        let _ = wait_for("all messages", Duration::from_secs(10), || shown().filter(|shown| *shown == sent));
        let shown = shown().unwrap();
        let missing: Vec<_> = sent.iter().filter(|text| !shown.contains(text)).collect();
        assert!(missing.is_empty() && shown.len() == sent.len(), "{what}: missing {missing:?} in {shown:?}");
    }

    /// Waits until the listener's process `old` has ended.
    fn wait_for_replacement(&self, old: u32) {
        let gone = || (!Path::new(&format!("/proc/{old}")).exists()).then_some(());
        wait_for("the end of the previous listener", TIMEOUT, gone).unwrap();
    }
}

/// A thread that sends messages of p03 to all inboxes of the room, as its listener does, but without the rate limit of a sender.
struct Sender {
    sent: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Sender {
    fn start(room: &Room, what: &str) -> Self {
        let (sent, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (dir, what) = (RoomDir::new(room.suite.room()), what.to_owned());
        let (count, stopped) = (Arc::clone(&sent), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut texts = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let text = format!("{what}: {:03}", texts.len());
                dir.tell(&Message::new("p03".parse().unwrap(), &text).unwrap()).unwrap();
                texts.push(text);
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(INTERVAL);
            }
            texts
        });
        Self { sent, stop, thread }
    }

    /// Waits until ten more messages were sent.
    fn wait_for_more(&self) {
        let before = self.sent.load(Ordering::Relaxed);
        let more = || (self.sent.load(Ordering::Relaxed) >= before + 10).then_some(());
        wait_for("more messages", TIMEOUT, more).unwrap();
    }

    fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Returns the status of a POST, if there was a response.
fn post(client: &Client, link: &Link, path: &str, body: &str) -> Option<u16> {
    let (bearer, length) = (format!("Authorization: Bearer {}", link.key), format!("Content-Length: {}", body.len()));
    Some(client.request(link, "POST", path, &[&bearer, &length], body.as_bytes()).ok()?.status)
}

/// Changes a setting that listeners read at their start.
fn change_settings(suite: &Suite) {
    let file = suite.dir().join("etc/palabre.toml");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    std::fs::write(&file, format!("{text}\n[stream]\nchunk-ms = 20\n")).unwrap();
    suite.palabre(&["reload"]).unwrap();
}

#[test]
fn hand_mute_and_messages_survive_planned_restarts_reload_and_upgrade() {
    let room = Room::open();
    let replaced = |room: &Room, event: &dyn Fn()| {
        let old = room.listener();
        event();
        room.wait_for_replacement(old);
    };
    room.survives("restart p01", |room| replaced(room, &|| drop(room.suite.palabre(&["restart", "p01"]).unwrap())));
    room.survives("restart --all", |room| replaced(room, &|| drop(room.suite.palabre(&["restart", "--all"]).unwrap())));
    room.survives("restart mixer", |room| drop(room.suite.palabre(&["restart", "mixer"]).unwrap()));
    room.survives("restart supervisor", |room| drop(room.suite.palabre(&["restart", "supervisor"]).unwrap()));
    room.survives("reload", |room| replaced(room, &|| change_settings(&room.suite)));
    room.survives("upgrade", |room| {
        replaced(room, &|| {
            for name in PROGRAMS {
                install(room.programs.path(), name).unwrap();
            }
            signal(room.suite.process("palabre-supervisor", "").unwrap(), "HUP").unwrap();
        });
    });
}

#[test]
fn hand_mute_and_messages_return_after_a_process_is_killed() {
    let room = Room::open();
    room.recovers("palabre-listener", "p01");
    room.recovers("palabre-mixer", "");
    room.recovers("palabre-supervisor", "");
    shows_the_queue_of_hands(&room);
}

/// Checks that each page lists its own participant first, then the others with raised hands in the order of time, each with its place in this
/// order. p01's hand must be raised before the call.
fn shows_the_queue_of_hands(room: &Room) {
    let shown = "[...document.querySelectorAll('#people .person.hand')].map((row) => `${row.dataset.name} ${row.querySelector('.mark').textContent.match(/hand raised, no. (\\d+)/)?.[1]}`).join()";
    let are = |page: &Browser, hands: &str| page.wait_until(&format!("{shown} === '{hands}'")).unwrap();
    room.suite.post("p03", "/show", r#"{"hand":true,"microphone":"open"}"#).unwrap();
    are(&room.watcher, "p01 1,p03 2");
    room.watcher.click("#hand-button").unwrap();
    are(&room.watcher, "p02 3,p01 1,p03 2");
    room.page.click("#hand-button").unwrap();
    are(&room.watcher, "p02 2,p03 1");
    room.page.click("#hand-button").unwrap();
    are(&room.watcher, "p02 2,p03 1,p01 3");
    are(&room.page, "p01 3,p03 1,p02 2");
}

/// Command that runs a program with the time since boot ten days ahead. A later process that runs without this command finds the clock set back,
/// as after a restart of the machine.
const AHEAD: [&str; 6] = ["unshare", "--user", "--map-root-user", "--time", "--boottime", "864000"];

#[test]
fn page_hears_the_room_and_gets_messages_after_a_restart_of_the_machine_has_set_the_clock_back() {
    if !Command::new(AHEAD[0]).args(&AHEAD[1..]).arg("true").status().is_ok_and(|status| status.success()) {
        palabre_testing::not_shown("a clock that is set back", "this machine has no time namespaces");
        return;
    }
    let programs = tempfile::tempdir().unwrap();
    for name in PROGRAMS {
        install(programs.path(), name).unwrap();
    }
    let listener = programs.path().join("palabre-listener");
    let script =
        format!("#!/bin/sh\nexec {} {} \"$@\"\n", AHEAD.join(" "), binary("palabre-listener").unwrap().display());
    std::fs::remove_file(&listener).unwrap();
    std::fs::write(&listener, script).unwrap();
    std::fs::set_permissions(&listener, PermissionsExt::from_mode(0o755)).unwrap();
    // The sandbox forbids unshare(1).
    let suite = Suite::start_unconfined_from(programs.path(), 2).unwrap();
    let _talker = Talker::tone(&suite.client, &suite.links[1], 440.0, -20.0);
    let page = join(&suite.links[0]);
    page.wait_until("palabreState.chunks > 25").unwrap();
    install(programs.path(), "palabre-listener").unwrap();
    let [opened, chunks] = ["opened", "chunks"].map(|count| page.run(&format!("return palabreState.{count}")).unwrap());
    suite.kill("palabre-listener", "p01").unwrap();
    page.wait_until(&format!("palabreState.opened > {opened} && palabreState.connection === 'live'")).unwrap();
    page.wait_until(&format!("palabreState.chunks > {chunks} + 25")).unwrap();
    let message = Message::new("p02".parse().unwrap(), "after the restart").unwrap();
    RoomDir::new(suite.room()).tell(&message).unwrap();
    page.wait_until("document.getElementById('message-list').textContent.includes('after the restart')").unwrap();
}
