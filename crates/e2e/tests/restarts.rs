//! Planned restarts and upgrades while participants talk: new processes serve, and all hear all others again.
#![allow(clippy::unwrap_used, missing_docs)]

use palabre_e2e::client::{Answer, Recording};
use palabre_e2e::people::People;
use palabre_e2e::suite::{Link, Suite, TIMEOUT, install, signal};
use palabre_e2e::wait_for;
use std::io::Read as _;
use std::path::Path;

const PEOPLE: usize = 3;
const NAMES: [&str; PEOPLE] = ["p01", "p02", "p03"];

fn reconnections(people: &People) -> Vec<usize> {
    people.recordings.iter().map(Recording::reconnections).collect()
}

fn listeners(people: &People) -> [u32; PEOPLE] {
    NAMES.map(|name| people.suite.process("palabre-listener", name).unwrap())
}

/// Returns the longest silence after `since` in ms, in windows of 10 ms below -60 dBFS.
fn longest_silence_ms(recording: &Recording, since: usize) -> u64 {
    let window = recording.rate_hz as usize / 100;
    let quiet = |piece: &[i16]| piece.iter().all(|&sample| sample.unsigned_abs() < 33);
    let (mut longest, mut now) = (0, 0);
    for piece in recording.from(since).chunks_exact(window) {
        now = if quiet(piece) { now + 10 } else { 0 };
        longest = longest.max(now);
    }
    longest
}

/// Runs `work` and prints the longest silence in each participant's recording meanwhile.
fn heard_meanwhile(people: &People, what: &str, work: impl FnOnce()) {
    let since = people.now();
    work();
    people.wait_until_all_hear_the_others(&people.now(), TIMEOUT).unwrap();
    let silences: Vec<u64> =
        people.recordings.iter().zip(&since).map(|(recording, &since)| longest_silence_ms(recording, since)).collect();
    println!("{what}: longest silence that each participant heard: {silences:?} ms");
}

#[test]
fn restart_of_mixer_and_supervisor_keeps_processes_and_connections_and_revoke_ends_a_listener() {
    let people = People::talking(PEOPLE).unwrap();
    people.wait_until_all_hear_the_others(&[0; PEOPLE], TIMEOUT).unwrap();
    let old = listeners(&people);
    for (name, program) in [("mixer", "palabre-mixer"), ("supervisor", "palabre-supervisor")] {
        let pid = people.suite.process(program, "").unwrap();
        for _ in 0..2 {
            heard_meanwhile(&people, &format!("restart {name}"), || {
                let said = people.suite.palabre(&["restart", name]).unwrap();
                assert_eq!(
                    said,
                    format!("{name}: process {pid} has executed the program that is installed now, and is ready\n")
                );
            });
        }
        assert_eq!(people.suite.process(program, ""), Some(pid));
    }
    assert_eq!(listeners(&people), old);
    assert_eq!(reconnections(&people), [0; PEOPLE]);

    let asked = std::time::Instant::now();
    people.suite.palabre(&["revoke", "p01"]).unwrap();
    wait_for("the end of the listener of p01", TIMEOUT, || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", old[0])).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    })
    .unwrap();
    println!("revoke: the listener ended {} ms after the command began", asked.elapsed().as_millis());
    people.suite.stop().unwrap();
}

#[test]
fn restart_all_replaces_one_listener_at_a_time_and_stops_at_a_failure() {
    let people = People::talking(PEOPLE).unwrap();
    people.wait_until_all_hear_the_others(&[0; PEOPLE], TIMEOUT).unwrap();
    let old = listeners(&people);

    let said = people.suite.palabre(&["restart", "--all"]).unwrap();
    let expected: Vec<String> =
        (1..=PEOPLE).map(|nth| format!("p{nth:02}: a new listener process is ready ({nth} of {PEOPLE})")).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    let new = listeners(&people);
    assert!(old.iter().zip(&new).all(|(old, new)| old != new), "{old:?} {new:?}");
    people.wait_until_all_hear_the_others(&people.now(), TIMEOUT).unwrap();
    assert_eq!(reconnections(&people), [1; PEOPLE], "a plain client reconnects once");

    people.suite.palabre(&["stop", "p01"]).unwrap();
    let certificate = people.suite.dir().join("etc/tls/cert.pem");
    std::fs::write(&certificate, "this is no certificate\n").unwrap();
    // The running signer still has the previous certificate, with which listeners would start. Kill it, because the next signer finds only the
    // invalid file.
    people.suite.kill("palabre-signer", "").unwrap();
    let refused = people.suite.palabre(&["restart", "--all", "--json"]).unwrap_err().to_string();
    assert!(
        refused.contains("unable to restart 'p02'") && refused.contains("2 of 2 listeners were not restarted"),
        "{refused}"
    );
    assert_eq!(
        NAMES[1..].iter().map(|name| people.suite.process("palabre-listener", name)).collect::<Vec<_>>(),
        new[1..].iter().map(|&pid| Some(pid)).collect::<Vec<_>>()
    );
    people.suite.stop().unwrap();
}

/// An injected stream. Reads only kind and SEQ of its records.
struct Stream {
    answer: Answer,
    text: String,
}

impl Stream {
    fn open(people: &People, name: &str, query: &str) -> Self {
        let link = people.suite.link(name);
        let open =
            || people.suite.client.get(link, &format!("/listen{query}")).ok().filter(|answer| answer.status == 200);
        Self { answer: wait_for("a stream", TIMEOUT, open).unwrap(), text: String::new() }
    }

    /// Returns the kind and the SEQ of the stream's next record, or `None` at the end of the stream.
    fn record(&mut self) -> Option<(u8, u64)> {
        loop {
            while let Some((record, rest)) = self.text.split_once("</script>") {
                let data = record.rsplit_once("<b>").and_then(|(_, data)| Some(data.split_once("</b>")?.0));
                let fields = data.map(|data| data.split(',').collect::<Vec<_>>());
                let seen =
                    fields.and_then(|fields| Some((fields.first()?.parse().ok()?, fields.get(1)?.parse().ok()?)));
                self.text = rest.to_owned();
                if seen.is_some() {
                    return seen;
                }
            }
            let mut piece = [0; 4096];
            let got = self.answer.read(&mut piece).ok().filter(|&got| got > 0)?;
            self.text.push_str(std::str::from_utf8(&piece[..got]).unwrap());
        }
    }

    /// Returns the SEQ of the next sound record. Returns `None` at the end of the stream, or if a record says that the listener's next process
    /// takes over.
    fn sound(&mut self) -> Option<u64> {
        loop {
            match self.record()? {
                (1, seq) => return Some(seq),
                (5, _) => return None,
                _ => {}
            }
        }
    }
}

#[test]
fn streams_continue_through_an_upgrade_of_every_program() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["palabre", "palabre-mixer", "palabre-supervisor", "palabre-signer", "palabre-listener"] {
        install(dir.path(), name).unwrap();
    }
    let people = People::talking_in(Suite::start_from(dir.path(), PEOPLE).unwrap()).unwrap();
    people.wait_until_all_hear_the_others(&[0; PEOPLE], TIMEOUT).unwrap();
    let (pid, old) = (people.suite.process("palabre-supervisor", "").unwrap(), listeners(&people));
    for name in ["palabre-supervisor", "palabre-listener"] {
        install(dir.path(), name).unwrap();
    }
    let mut stream = Stream::open(&people, "p01", "");
    let mut sounds: Vec<u64> = (0..10).map(|_| stream.sound().unwrap()).collect();
    heard_meanwhile(&people, "upgrade of supervisor and listeners", || {
        signal(pid, "HUP").unwrap();
        sounds.extend(std::iter::from_fn(|| stream.sound()));
        let last = *sounds.last().unwrap();
        let mut next = Stream::open(&people, "p01", &format!("?from={last}"));
        sounds.extend(std::iter::from_fn(|| stream.sound()));
        sounds.extend((0..10).map(|_| next.sound().unwrap()));
        let holes = sounds.windows(2).map(|pair| pair[1].checked_sub(pair[0]).unwrap());
        println!("upgrade: longest time between two chunks of 40 ms in one stream: {} ms", holes.max().unwrap());
        assert!(sounds.windows(2).all(|pair| pair[0] < pair[1]), "{sounds:?}");
        wait_for("new listeners and the end of the old ones", TIMEOUT, || {
            let new = NAMES.map(|name| people.suite.process("palabre-listener", name));
            let all_new = new.iter().zip(&old).all(|(new, &old)| new.is_some_and(|new| new != old));
            let none_old = old.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists());
            (all_new && none_old).then_some(())
        })
        .unwrap();
    });
    assert_eq!(people.suite.process("palabre-supervisor", ""), Some(pid));
    assert_eq!(reconnections(&people), [1; PEOPLE], "a plain client reconnects once");
    people.suite.stop().unwrap();
}

/// Opens an invitation link, and returns the form of its page: the link's key, and the key that becomes the browser's own.
fn invitation_form(suite: &Suite, link: &Link) -> String {
    let answer = suite.client.request(link, "GET", &format!("/?key={}", link.key), &[], b"").unwrap();
    assert_eq!((answer.status, answer.header("set-cookie")), (200, None));
    assert_eq!(answer.header("referrer-policy"), Some("strict-origin"), "without it browsers send 'Origin: null'");
    let html = answer.text().unwrap();
    let value = |name: &str| html.split(&format!("name={name} value=")).nth(1).unwrap()[..32].to_owned();
    assert!(html.contains("<form method=post action=enter>") && html.contains("Entrer") && html.contains("Enter"));
    format!("link={}&key={}", value("link"), value("key"))
}

fn submit(suite: &Suite, link: &Link, form: &str, origin: &str) -> Answer {
    let (length, origin) = (format!("Content-Length: {}", form.len()), format!("Origin: https://{origin}"));
    suite.client.request(link, "POST", "/enter", &[&length, &origin], form.as_bytes()).unwrap()
}

/// Checks that the response says, in two languages, that the invitation link was already used.
fn is_refused_as_used(answer: Answer) {
    assert_eq!((answer.status, answer.header("set-cookie")), (401, None));
    let html = answer.text().unwrap();
    assert!(html.contains("Ce lien a déjà servi") && html.contains("This link has been used"), "{html}");
}

#[test]
fn invitation_link_admits_one_browser_permanently_and_a_preview_does_not_use_it() {
    let suite = Suite::start(1).unwrap();
    let own = format!("localhost:{}", suite.links[0].port);
    let printed = suite.palabre(&["invite", "p01", "--new-key", "--once"]).unwrap();
    let link = Link { key: printed.trim().split_once("?key=").unwrap().1.to_owned(), ..suite.links[0].clone() };
    let listed = |word: &str| {
        let list = suite.palabre(&["list"]).unwrap();
        assert!(list.contains(&format!("once, {word}")), "{list}");
        let status = suite.palabre(&["status"]).unwrap();
        assert!(status.contains(&format!("link={word}")), "{status}");
    };
    let status = |line: &str| suite.client.request(&link, "GET", "/me", &[line], b"").map(|answer| answer.status);
    wait_for("the listener with the new key", TIMEOUT, || {
        (suite.client.request(&link, "GET", &format!("/?key={}", link.key), &[], b"").ok()?.status == 200).then_some(())
    })
    .unwrap();

    let forms: [String; 4] = std::array::from_fn(|_| invitation_form(&suite, &link));
    listed("unused");
    assert_eq!(status(&format!("Authorization: Bearer {}", link.key)).unwrap(), 401, "the link's key is no access key");
    assert_eq!(submit(&suite, &link, &forms[0], "elsewhere.example").status, 403);
    let wrong = forms[0].replace(&link.key, &"0".repeat(32));
    assert_eq!(submit(&suite, &link, &wrong, &own).status, 401);
    listed("unused");

    let answers = std::thread::scope(|scope| {
        let submitted = forms.each_ref().map(|form| scope.spawn(|| submit(&suite, &link, form, &own)));
        submitted.map(|thread| thread.join().unwrap())
    });
    let winners: Vec<usize> = (0..forms.len()).filter(|&n| answers[n].status == 303).collect();
    assert_eq!(winners.len(), 1);
    let cookie = answers[winners[0]].header("set-cookie").unwrap().to_owned();
    for word in ["__Host-palabre-p01=", "; Path=/;", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    assert_eq!(answers[winners[0]].header("location"), Some("./"));
    answers.into_iter().filter(|answer| answer.status != 303).for_each(is_refused_as_used);
    listed("used");
    // The browser that has used the link, but lost the response, can submit the form again.
    assert!(submit(&suite, &link, &forms[winners[0]], &own).header("set-cookie").is_some());

    let cookie = format!("Cookie: {}", cookie.split_once(';').unwrap().0);
    let other = forms[(winners[0] + 1) % forms.len()].split_once("&key=").unwrap().1;
    let keeps_access = |after: &str| {
        let is_in = || (status(&cookie).ok()? == 200).then_some(());
        wait_for(&format!("access after {after}"), TIMEOUT, is_in).unwrap();
        assert_eq!(status(&format!("Cookie: __Host-palabre-p01={other}")).unwrap(), 401, "{after}");
        is_refused_as_used(submit(&suite, &link, &forms[(winners[0] + 1) % forms.len()], &own));
        // The browser that has the cookie can open the link again; a client without the cookie can't.
        let again =
            |lines: &[&str]| suite.client.request(&link, "GET", &format!("/?key={}", link.key), lines, b"").unwrap();
        let inside = again(&[&cookie]);
        assert_eq!((inside.status, inside.header("set-cookie")), (303, None), "{after}");
        is_refused_as_used(again(&[]));
    };
    keeps_access("submitting the form");
    suite.palabre(&["restart", "p01"]).unwrap();
    keeps_access("a restart");
    suite.palabre(&["reload"]).unwrap();
    suite.palabre(&["restart", "supervisor"]).unwrap();
    keeps_access("an upgrade");
    for program in ["palabre-listener", "palabre-supervisor"] {
        let old = suite.process("palabre-listener", "p01");
        suite.kill(program, "").unwrap();
        let new =
            || suite.process("palabre-listener", "p01").filter(|_| suite.process("palabre-listener", "p01") != old);
        wait_for("a new listener", TIMEOUT, new).unwrap();
        keeps_access(&format!("SIGKILL of {program}"));
    }
    listed("used");
    suite.stop().unwrap();
}
