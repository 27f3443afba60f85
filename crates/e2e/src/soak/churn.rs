//! Participants who come and go, restarts of listeners, and renewals of the certificate.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use crate::client::{Answer, Client};
use crate::link::Link;
use crate::suite::{Suite, binary};

use super::options::Options;

/// Interval between two joins. After a join, a guest leaves if more than [`GUESTS`] guests are in the room.
const JOIN_EVERY: Duration = Duration::from_secs(1);
/// Number of guests who are in the room at the same time.
const GUESTS: usize = 5;
/// Names of the events, in the order of [`Churn::counts`].
const EVENTS: [&str; 5] = ["join", "leave", "restart", "renewal", "failed join"];
/// Index of a failed join in [`EVENTS`].
const FAILED: usize = 4;

/// Returns whether the listener of the participant with this number is restarted. Other listeners, such as those of the talkers, are never restarted.
pub(super) fn is_restarted(number: usize) -> bool {
    number >= 4 && number.is_multiple_of(2)
}

/// A guest's name, and the thread that reads the guest's stream.
type Guest = (String, JoinHandle<()>);

/// Makes the guests join and leave, restarts listeners and renews the certificate, and writes down what it did.
pub(super) struct Churn<'a> {
    suite: &'a Suite,
    client: Client,
    /// Directory of a second configuration, with whose certificate and key those of the suite are exchanged at each renewal.
    other: tempfile::TempDir,
    /// Participants whose listeners are restarted.
    restarted: Vec<String>,
    guests: VecDeque<Guest>,
    /// Intervals of joins, restarts and renewals. `next` has the times of the next ones.
    every: [Duration; 3],
    next: [Duration; 3],
    /// Time, index in [`EVENTS`], and object of each event.
    events: Vec<(Duration, usize, String)>,
}

impl<'a> Churn<'a> {
    pub(super) fn new(suite: &'a Suite, options: &Options) -> Result<Self> {
        let other = tempfile::Builder::new().prefix("palabre-soak-").tempdir()?;
        let etc = suite.dir().join("etc");
        fs::create_dir(other.path().join("tls"))?;
        fs::copy(etc.join("palabre.toml"), other.path().join("palabre.toml"))?;
        let signed = Command::new(binary("palabre")?).arg("--config").arg(other.path()).arg("self-sign").output()?;
        ensure!(signed.status.success(), "palabre self-sign: {}", String::from_utf8_lossy(&signed.stderr));
        let both = [fs::read(etc.join("tls/cert.pem"))?, fs::read(other.path().join("tls/cert.pem"))?].concat();
        fs::write(other.path().join("both.pem"), both)?;
        let numbered = |name: &str| name.strip_prefix('p').and_then(|number| number.parse().ok());
        let names = suite.links.iter().map(|link| link.name.clone());
        Ok(Self {
            suite,
            client: Client::trusting(&other.path().join("both.pem"))?,
            other,
            restarted: names.filter(|name| numbered(name).is_some_and(is_restarted)).collect(),
            guests: VecDeque::new(),
            every: [JOIN_EVERY, options.restart_every, options.renew_every],
            next: [Duration::ZERO, options.restart_every, options.renew_every],
            events: Vec::new(),
        })
    }

    /// Returns the path of a file with both certificates that the listeners use in turn.
    pub(super) fn certificates(&self) -> PathBuf {
        self.other.path().join("both.pem")
    }

    /// Returns the time of the next event.
    pub(super) fn next(&self) -> Duration {
        self.next.into_iter().min().unwrap_or_default()
    }

    /// Performs the events that are due.
    pub(super) fn step(&mut self, now: Duration) -> Result<()> {
        let due = self.next.map(|next| now >= next);
        for ((next, every), _) in self.next.iter_mut().zip(self.every).zip(due).filter(|(_, due)| *due) {
            *next = now + every;
        }
        let [join, restart, renew] = due;
        if join {
            self.join(now)?;
            if self.guests.len() > GUESTS {
                self.leave(now)?;
            }
        }
        if restart && !self.restarted.is_empty() {
            self.restart(now)?;
        }
        if renew {
            self.renew(now)?;
        }
        Ok(())
    }

    /// Makes all guests leave.
    pub(super) fn end(&mut self) -> Result<()> {
        while !self.guests.is_empty() {
            self.leave(self.next())?;
        }
        Ok(())
    }

    /// Returns the numbers of joins, leaves, restarts and renewals.
    pub(super) fn counts(&self) -> [usize; 4] {
        std::array::from_fn(|kind| self.events.iter().filter(|event| event.1 == kind).count())
    }

    pub(super) fn csv(&self) -> String {
        let mut text = "seconds,event,object\n".to_owned();
        for (at, kind, object) in &self.events {
            let _ = writeln!(text, "{:.2},{},{object}", at.as_secs_f64(), EVENTS[*kind]);
        }
        text
    }

    /// Invites a guest, who opens a stream, sends a text message and raises a hand.
    fn join(&mut self, now: Duration) -> Result<()> {
        let name = format!("g{}", self.events.len());
        let Ok(link) = self.suite.palabre(&["invite", &name, "--no-qr"]) else {
            // Another program of this machine may have opened the guest's port, so that the guest's listener doesn't start. `palabre invite` has
            // written the guest's file nevertheless, so remove it.
            self.suite.palabre(&["revoke", &name])?;
            self.events.push((now, FAILED, name));
            return Ok(());
        };
        let link = Link::parse(&format!("{name} {}", link.trim()))?;
        let stream = self.client.get(&link, "/listen")?;
        ensure!(stream.status == 200, "GET /listen of '{name}': {}", stream.status);
        self.post(&link, "/say", b"hello")?;
        self.post(&link, "/show", br#"{"hand":true,"microphone":"none","weak":false}"#)?;
        self.guests.push_back((name.clone(), std::thread::spawn(move || read_to_end(stream))));
        self.events.push((now, 0, name));
        Ok(())
    }

    fn post(&self, link: &Link, path: &str, body: &[u8]) -> Result<()> {
        let lines = [format!("Authorization: Bearer {}", link.key), format!("Content-Length: {}", body.len())];
        let answer = self.client.request(link, "POST", path, &lines.each_ref().map(String::as_str), body)?;
        ensure!(answer.status == 204, "POST {path} of '{}': {}", link.name, answer.status);
        Ok(())
    }

    /// Revokes the guest who came first, which ends the guest's stream.
    fn leave(&mut self, now: Duration) -> Result<()> {
        let Some((name, reader)) = self.guests.pop_front() else { return Ok(()) };
        self.suite.palabre(&["revoke", &name])?;
        reader.join().map_err(|_| anyhow!("the thread that reads the stream of '{name}' panicked"))?;
        self.events.push((now, 1, name));
        Ok(())
    }

    fn restart(&mut self, now: Duration) -> Result<()> {
        // A multiplicative hash, so that the order of the listeners looks random.
        let number = self.counts()[2].wrapping_mul(0x9e37_79b9) >> 8;
        let name = self.restarted[number % self.restarted.len()].clone();
        self.suite.palabre(&["restart", &name])?;
        self.events.push((now, 2, name));
        Ok(())
    }

    /// Exchanges the certificate and key for those of the second configuration, and reloads.
    fn renew(&mut self, now: Duration) -> Result<()> {
        let (etc, other) = (self.suite.dir().join("etc/tls"), self.other.path().join("tls"));
        for file in ["key.pem", "cert.pem"] {
            exchange(&etc.join(file), &other.join(file))?;
        }
        self.suite.palabre(&["reload"])?;
        self.events.push((now, 3, "certificate".to_owned()));
        Ok(())
    }
}

/// Exchanges the contents of two files. Replaces `one` atomically, because a listener may read it.
fn exchange(one: &Path, other: &Path) -> Result<()> {
    let aside = one.with_extension("aside");
    fs::copy(other, &aside)?;
    fs::copy(one, other)?;
    Ok(fs::rename(aside, one)?)
}

fn read_to_end(mut stream: Answer) {
    let mut bytes = [0; 16_384];
    while stream.read(&mut bytes).is_ok_and(|got| got > 0) {}
}
