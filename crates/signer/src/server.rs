//! The main loop: waits for the supervisor's orders, the listeners' requests and signals. It serves one request of each listener in turn.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::Level;
use palabre_config::signing::{self, MAX_REPORT_BYTES, Order, SignerReport};
use palabre_host::log_limit::LogLimit;
use palabre_host::packet::Packet;
use palabre_host::rate_limit::RateLimit;
use palabre_host::sandbox::Enforced;
use palabre_host::signals::{SIGHUP, SIGINT, SIGTERM, Signals};
use palabre_host::wait::Set;

use crate::client::{Client, Outcome};
use crate::link;
use crate::pair::KeyFiles;

/// Number by which the set of polled descriptors identifies the signals.
const SIGNALS: u64 = 0;
/// Number by which the set of polled descriptors identifies the connection to the supervisor.
const LINK: u64 = 1;
/// Minimum interval between reports of the counters.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// First and longest interval between attempts to connect to the supervisor.
const CONNECT_INTERVALS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// The signer.
pub(crate) struct Signer {
    set: Set,
    signals: Signals,
    files: KeyFiles,
    run: PathBuf,
    link: Option<Packet>,
    /// Whether the supervisor has started this process. If so, the signer ends when its connection to the supervisor is closed.
    is_child: bool,
    connect_at: Option<Instant>,
    connect_interval: Duration,
    /// The error of the last attempt to connect.
    connect_error: Option<String>,
    clients: HashMap<u64, Client>,
    /// The limit of signatures for all listeners together.
    limit_of_all: RateLimit,
    next_number: u64,
    report: SignerReport,
    reported: SignerReport,
    has_reported: bool,
    report_at: Instant,
    refusals: LogLimit,
}

impl Signer {
    /// Creates a signer. `link` is the connection to the supervisor if the supervisor has started this process.
    pub(crate) fn new(
        files: KeyFiles,
        signals: Signals,
        run: &Path,
        link: Option<Packet>,
        enforced: Enforced,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let mut signer = Self {
            set: Set::new()?,
            signals,
            files,
            run: run.to_owned(),
            is_child: link.is_some(),
            link: None,
            connect_at: link.is_none().then_some(now),
            connect_interval: CONNECT_INTERVALS[0],
            connect_error: None,
            clients: HashMap::new(),
            limit_of_all: Client::limit_of_all(),
            next_number: LINK + 1,
            report: SignerReport { sandbox: enforced.to_string(), ..SignerReport::default() },
            reported: SignerReport::default(),
            has_reported: false,
            report_at: now,
            refusals: LogLimit::new(0.1, 1.0),
        };
        signer.set.add(&signer.signals, SIGNALS)?;
        link.map_or(Ok(()), |link| signer.linked(link))?;
        Ok(signer)
    }

    /// Serves until a signal ends the signer, or the supervisor that started it has ended.
    pub(crate) fn serve(&mut self) -> io::Result<()> {
        loop {
            let deadline = self.tick(Instant::now())?;
            let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let ready = self.set.wait(timeout)?;
            let now = Instant::now();
            while let Some(signal) = self.signals.try_next() {
                match signal {
                    SIGTERM | SIGINT => return Ok(()),
                    SIGHUP => self.files.read(now),
                    _ => {}
                }
            }
            // Execute the supervisor's orders first: it orders a read before it tells the listeners to ask for the chain.
            if !self.obey(now) && self.is_child {
                return Ok(());
            }
            for number in ready.into_iter().filter(|number| *number > LINK) {
                self.serve_client(number, now);
            }
        }
    }

    /// Does everything whose time has come. Returns the time at which to call this function again.
    fn tick(&mut self, now: Instant) -> io::Result<Option<Instant>> {
        if self.connect_at.is_some_and(|at| at <= now) {
            self.connect(now)?;
        }
        self.report.fault = self.files.fault().unwrap_or_default().to_owned();
        self.report.has_certificate = self.files.current().is_some();
        let urgent = |report: &SignerReport| (report.fault.clone(), report.orders);
        let is_urgent = !self.has_reported || urgent(&self.report) != urgent(&self.reported);
        if self.link.is_some() && (is_urgent || (self.report != self.reported && self.report_at <= now)) {
            self.send_report(now);
        }
        let has_news = self.link.is_some() && self.report != self.reported;
        let report_at = has_news.then_some(self.report_at);
        Ok([report_at, self.files.tick(now), self.connect_at].into_iter().flatten().min())
    }

    fn send_report(&mut self, now: Instant) {
        let sent = self.link.as_ref().map(|link| link.send(&signing::encode(&self.report)));
        // If the send fails because the supervisor doesn't read, send the report after the interval.
        self.report_at = now + REPORT_INTERVAL;
        if matches!(sent, Some(Ok(()))) {
            (self.reported, self.has_reported) = (self.report.clone(), true);
        }
    }

    fn connect(&mut self, now: Instant) -> io::Result<()> {
        match link::connect(&self.run) {
            Ok(link) => {
                log::info!(
                    "connected to the supervisor of '{}', to sign TLS handshakes for its listeners",
                    self.run.display()
                );
                (self.connect_at, self.connect_error) = (None, None);
                self.linked(link)
            }
            Err(error) => {
                if self.connect_error.as_ref() != Some(&error) {
                    log::warn!("unable to connect to the supervisor: {error}; trying again");
                    self.connect_error = Some(error);
                }
                self.connect_later(now);
                Ok(())
            }
        }
    }

    fn connect_later(&mut self, now: Instant) {
        self.connect_at = Some(now + self.connect_interval);
        self.connect_interval = (self.connect_interval * 2).min(CONNECT_INTERVALS[1]);
    }

    fn linked(&mut self, link: Packet) -> io::Result<()> {
        self.set.add(&link, LINK)?;
        self.link = Some(link);
        // Count from 0 again: the supervisor counts the orders of each connection separately.
        (self.report.orders, self.report.checked, self.has_reported) = (0, String::new(), false);
        Ok(())
    }

    /// Executes the supervisor's orders. Returns false if the connection to the supervisor is closed.
    fn obey(&mut self, now: Instant) -> bool {
        let mut buffer = [0; MAX_REPORT_BYTES];
        while let Some(link) = &self.link {
            match link.recv_with(&mut buffer) {
                Ok(Some((length, fd))) => {
                    // Reset the interval only after an order: a supervisor that is ending accepts the connection, but closes it without an order.
                    self.connect_interval = CONNECT_INTERVALS[0];
                    let order = signing::parse(buffer.get(..length).unwrap_or_default());
                    match (order, fd) {
                        (Ok(Order::Serve { name }), Some(fd)) => self.add(name, fd.into()),
                        (Ok(order @ (Order::Read | Order::Check | Order::Refresh)), _) => self.execute(&order, now),
                        (other, _) => log::warn!(
                            "unable to understand an order of the supervisor: {other:?}; use programs of one release"
                        ),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Other => {
                    log::error!("unable to sign for one more listener: {error}; raise LimitNOFILE= of palabre-signer");
                }
                Ok(None) | Err(_) => return self.unlinked(now),
            }
        }
        true
    }

    fn execute(&mut self, order: &Order, now: Instant) {
        match order {
            Order::Read => self.files.read(now),
            Order::Check => self.report.checked = self.files.fault_of_files().unwrap_or_default(),
            Order::Refresh => drop(self.files.check(now)),
            Order::Serve { .. } => {}
        }
        self.report.orders += 1;
    }

    fn unlinked(&mut self, now: Instant) -> bool {
        if let Some(link) = self.link.take()
            && let Err(error) = self.set.remove(&link)
        {
            log::debug!("unable to remove a connection from epoll: {error}");
        }
        self.connect_later(now);
        false
    }

    fn add(&mut self, name: String, socket: Packet) {
        let number = self.next_number;
        self.next_number += 1;
        match self.set.add(&socket, number) {
            Ok(()) => drop(self.clients.insert(number, Client::new(name, socket))),
            Err(error) => log::error!("unable to sign for the listener of '{name}': {error}"),
        }
    }

    fn serve_client(&mut self, number: u64, now: Instant) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let why = match client.serve(&mut self.files, &mut self.limit_of_all, now) {
            Outcome::None | Outcome::Chain => return,
            Outcome::Signed => {
                self.report.signatures += 1;
                return;
            }
            Outcome::Closed => return self.remove(number),
            Outcome::Refused(why) => why.to_string(),
            Outcome::Malformed => "the listener's message isn't a signing request of this release".to_owned(),
        };
        self.report.refused += 1;
        let name = &client.name;
        self.refusals.log(Level::Warn, now, format_args!("refused to sign for the listener of '{name}': {why}"));
    }

    fn remove(&mut self, number: u64) {
        if let Some(client) = self.clients.remove(&number)
            && let Err(error) = self.set.remove(client.socket())
        {
            log::debug!("unable to remove a connection from epoll: {error}");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_host::sandbox::{Sandbox, Strictness};

    /// Sends an order over a new connection, and returns the reports before and after it.
    fn reports(signer: &mut Signer, order: &Order) -> [SignerReport; 2] {
        let (ours, theirs) = Packet::pair().unwrap();
        signer.linked(theirs).unwrap();
        let mut report = || {
            signer.obey(Instant::now());
            signer.tick(Instant::now()).unwrap();
            let mut buffer = [0; MAX_REPORT_BYTES];
            let length = ours.recv(&mut buffer).unwrap().unwrap();
            signing::parse(&buffer[..length]).unwrap()
        };
        let before = report();
        ours.send(&signing::encode(order)).unwrap();
        let reports = [before, report()];
        drop(ours);
        signer.obey(Instant::now());
        reports
    }

    #[test]
    fn orders_are_counted_anew_for_each_supervisor() {
        let directory = tempfile::tempdir().unwrap();
        let (files, signals) = (KeyFiles::load(directory.path(), Instant::now()), Signals::new(&[]).unwrap());
        let enforced = Sandbox::default().enter(Strictness::Off).unwrap();
        let mut signer = Signer::new(files, signals, directory.path(), None, enforced).unwrap();
        for order in [Order::Check, Order::Read, Order::Refresh] {
            let [before, after] = reports(&mut signer, &order);
            assert_eq!((before.orders, before.checked.as_str()), (0, ""));
            assert_eq!((after.orders, after.checked.is_empty()), (1, order != Order::Check));
        }
    }
}
