//! Tests `palabre export` and `palabre import` between two machines. Each machine is a supervisor with its listeners, in its own directories; no mixer runs.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use palabre_config::{PARTICIPANTS_DIR, Participant, certificate};
use palabre_e2e::client::Client;
use palabre_e2e::suite::{Link, TIMEOUT, binary};
use palabre_e2e::wait_for;

/// First port of the next machine that a test starts. The ports are below the kernel's range of client ports.
static PORTS: AtomicU16 = AtomicU16::new(26_000);

/// A machine: a supervisor with its listeners, without a mixer. Dropping this value ends the supervisor.
struct Machine {
    directory: tempfile::TempDir,
    supervisor: Child,
    client: Client,
}

impl Machine {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let first = PORTS.fetch_add(100, Ordering::Relaxed);
        let ports = format!("ports = \"{first}-{}\"", first + 99);
        let text = format!("bind = \"127.0.0.1\"\n{ports}\n[room]\nown-display-names = true\n");
        fs::write(path.join("palabre.toml"), text).unwrap();
        fs::create_dir(path.join(PARTICIPANTS_DIR)).unwrap();
        fs::create_dir(path.join("tls")).unwrap();
        certificate::self_signed(&["localhost".into()]).unwrap().write(&path.join("tls")).unwrap();
        let mut command = Command::new(binary("palabre-supervisor").unwrap());
        command.arg("--config").arg(path).arg("--run").arg(path.join("run"));
        command.arg("--links").arg(path.join("links")).arg("--names").arg(path.join("names"));
        command.arg("--listener").arg(binary("palabre-listener").unwrap());
        command.arg("--parent-pid").arg(std::process::id().to_string());
        let supervisor = command.stderr(fs::File::create(path.join("log")).unwrap()).spawn().unwrap();
        let client = Client::trusting(&path.join("tls/cert.pem")).unwrap();
        let machine = Self { directory, supervisor, client };
        wait_for("the supervisor", TIMEOUT, || machine.run(&["status"]).status.success().then_some(())).unwrap();
        machine
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("palabre").unwrap());
        command.arg("--config").arg(self.directory.path()).arg("--run").arg(self.directory.path().join("run"));
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn palabre(&self, arguments: &[&str]) -> String {
        text(self.run(arguments))
    }

    /// Invites a participant, and returns the link.
    fn invite(&self, arguments: &[&str]) -> Link {
        let link = self.palabre(&[&["invite"], arguments].concat());
        Link::parse(&format!("{} {}", arguments[0], link.trim())).unwrap()
    }

    fn load(&self, name: &str) -> Participant {
        Participant::load(self.directory.path(), &name.parse().unwrap()).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// Runs `palabre export … | palabre import …` to move participants from this machine to the machine `new`.
    fn export_to(&self, new: &Self, names: &[&str], arguments: &[&str]) -> String {
        let mut export = self.command(&[&["export"], names].concat()).stdout(Stdio::piped()).spawn().unwrap();
        let mut import = new.command(&[&["import"], arguments].concat());
        let output = import.stdin(export.stdout.take().unwrap()).output().unwrap();
        assert!(export.wait().unwrap().success());
        text(output)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = (self.supervisor.kill(), self.supervisor.wait());
    }
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Opens the link. Returns the status of the response, and the cookie that the response sets.
fn open(client: &Client, link: &Link) -> (u16, Option<String>) {
    let answer = client.request(link, "GET", &format!("/?key={}", link.key), &[], b"").unwrap();
    let cookie = answer.header("set-cookie").map(|cookie| cookie.split(';').next().unwrap().to_owned());
    (answer.status, cookie)
}

/// Opens the one-time link, and presses the button on its page.
fn use_up(machine: &Machine, link: &Link) {
    let page = machine.client.request(link, "GET", &format!("/?key={}", link.key), &[], b"").unwrap().text().unwrap();
    let value = |name: &str| page.split(&format!("name={name} value=")).nth(1).unwrap()[..32].to_owned();
    let form = format!("link={}&key={}", value("link"), value("key"));
    let lines = [format!("Content-Length: {}", form.len()), format!("Origin: https://localhost:{}", link.port)];
    let lines = lines.each_ref().map(String::as_str);
    assert_eq!(machine.client.request(link, "POST", "/enter", &lines, form.as_bytes()).unwrap().status, 303);
}

/// Chooses a display name on the participant's page.
fn choose_name(machine: &Machine, link: &Link, name: &str) {
    let lines = [format!("Authorization: Bearer {}", link.key), format!("Content-Length: {}", name.len())];
    let lines = lines.each_ref().map(String::as_str);
    assert_eq!(machine.client.request(link, "POST", "/name", &lines, name.as_bytes()).unwrap().status, 204);
}

/// Checks that the machine's log doesn't contain the hash of the participant's key.
fn logs_no_hash(machine: &Machine, name: &str) {
    let hash = machine.load(name).key_sha256.to_string();
    assert!(!machine.log().contains(&hash), "{}", machine.log());
}

#[test]
fn previous_key_opens_the_page_on_the_new_machine() {
    let (old, new) = (Machine::start(), Machine::start());
    let link = old.invite(&["alice", "--display-name", "Alice", "--room", "den"]);
    choose_name(&old, &link, "Ali");
    let planned = old.export_to(&new, &["alice"], &["--dry-run"]);
    assert!(planned.starts_with("alice: would be imported: room 'den', port "), "{planned}");
    assert_eq!(new.palabre(&["list", "--json"]).matches("\"name\"").count(), 0, "a dry run changes nothing");

    let printed = old.export_to(&new, &["alice"], &[]);
    let port = new.load("alice").port;
    // The port ranges of the two machines differ, so the participant has another port on the new machine.
    assert!(
        printed.contains(&format!("alice: the port is {port} instead of {}, because port", link.port)),
        "{printed}"
    );
    assert!(
        printed.contains(&format!("alice: the key stays the same: the link is https://localhost:{port}/?key=KEY")),
        "{printed}"
    );
    assert!(printed.contains("alice: the display name is 'Ali', which the participant has chosen"), "{printed}");
    let moved = Link { port, ..link.clone() };
    let (status, cookie) = open(&new.client, &moved);
    assert_eq!(status, 303);
    let page = new.client.request(&moved, "GET", "/", &[&format!("Cookie: {}", cookie.unwrap())], b"").unwrap();
    assert_eq!(page.status, 200);
    let me = new.client.get(&moved, "/me").unwrap().text().unwrap();
    assert!(me.contains("\"display\":\"Ali\""), "{me}");

    assert_eq!(open(&old.client, &link).0, 303, "the old link works until the participant is revoked");
    old.palabre(&["revoke", "alice"]);
    assert!(old.client.request(&link, "GET", "/", &[], b"").is_err(), "the port is closed");
    assert_eq!(open(&new.client, &moved).0, 303);
    logs_no_hash(&new, "alice");
    let log = new.log();
    assert!(log.contains("alice: invited by user ") && !log.contains(&link.key), "{log}");
}

#[test]
fn one_time_link_opens_on_the_new_machine_only_if_it_was_not_used() {
    let (old, new) = (Machine::start(), Machine::start());
    let [used, unused] = ["bob", "carol"].map(|name| old.invite(&[name, "--once"]));
    use_up(&old, &used);
    let printed = old.export_to(&new, &["bob", "carol"], &[]);
    assert!(
        printed.contains("bob: the one-time link was used on the machine that made the export, so it is invalid here"),
        "{printed}"
    );
    let on_new = |link: &Link| Link { port: new.load(&link.name).port, ..link.clone() };
    let (used, unused) = (on_new(&used), on_new(&unused));
    assert_eq!(open(&new.client, &used), (401, None));
    assert_eq!(open(&new.client, &unused), (200, None), "the page with the button");
    use_up(&new, &unused);
    assert_eq!(open(&new.client, &unused), (401, None));
    let again = new.invite(&["bob", "--new-key"]);
    use_up(&new, &again);
    ["bob", "carol"].iter().for_each(|name| logs_no_hash(&new, name));
}

#[test]
fn one_time_link_whose_use_is_unknown_is_not_exported() {
    let old = Machine::start();
    let links = old.directory.path().join("links");
    fs::create_dir_all(&links).unwrap();
    fs::write(links.join("dave.toml"), "invalid").unwrap();
    old.invite(&["dave", "--once"]);
    let output = old.run(&["export", "dave"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let why = "unable to export 'dave': the supervisor doesn't know whether the one-time link was used";
    assert!(said.contains(why), "{said}");
    // A link must not seem unused if it may have been used.
    let list = old.palabre(&["list"]);
    assert!(list.contains("once") && !list.contains("once, unused"), "{list}");
}

#[test]
fn replaced_participant_loses_the_access_that_the_previous_one_had() {
    let (old, new) = (Machine::start(), Machine::start());
    let (link, replaced) = (old.invite(&["alice"]), new.invite(&["alice"]));
    choose_name(&new, &replaced, "Somebody else");
    let refused = new.command(&["import"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert_eq!(open(&new.client, &replaced).0, 303);
    let printed = old.export_to(&new, &["--all"], &["--replace"]);
    assert!(printed.starts_with("alice: replaced by the imported participant: "), "{printed}");
    // The port in the document isn't in the port range of the new machine, so the participant keeps the port that it had on the new machine.
    assert_eq!(new.load("alice").port, replaced.port);
    assert_eq!(
        (open(&new.client, &replaced).0, open(&new.client, &Link { port: replaced.port, ..link.clone() }).0),
        (401, 303)
    );
    let list = new.palabre(&["list"]);
    assert!(!list.contains("Somebody else"), "{list}");
    let moved = Link { port: replaced.port, ..link };
    wait_for("the name on the page", TIMEOUT, || {
        let me = new.client.get(&moved, "/me").ok()?.text().ok()?;
        me.contains("\"display\":\"alice\"").then_some(())
    })
    .unwrap();
}

#[test]
fn document_in_a_file_is_imported_without_a_supervisor_and_works_when_one_starts() {
    let (old, mut new) = (Machine::start(), Machine::start());
    let link = old.invite(&["alice"]);
    let file = old.directory.path().join("people.toml");
    old.palabre(&["export", "--all", "--out", file.to_str().unwrap()]);
    new.supervisor.kill().unwrap();
    new.supervisor.wait().unwrap();
    let output = new.run(&["import", file.to_str().unwrap()]);
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(output.status.success() && said.contains("the change takes effect when a supervisor starts"), "{output:?}");
    let mut command = Command::new(binary("palabre-supervisor").unwrap());
    let path = new.directory.path();
    command.arg("--config").arg(path).arg("--run").arg(path.join("run")).arg("--links").arg(path.join("links"));
    command.arg("--listener").arg(binary("palabre-listener").unwrap());
    new.supervisor = command.arg("--parent-pid").arg(std::process::id().to_string()).spawn().unwrap();
    let moved = Link { port: new.load("alice").port, ..link };
    let opens = || new.client.request(&moved, "GET", &format!("/?key={}", moved.key), &[], b"").ok();
    let answer = wait_for("the listener on the new machine", TIMEOUT, opens).unwrap();
    assert_eq!(answer.status, 303);
    assert!(Path::new(&file).exists());
}
