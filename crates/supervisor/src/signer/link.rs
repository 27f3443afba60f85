//! The connection to one signer: its process, the orders that it has, and its reports.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use palabre_config::signing::{self, MAX_REPORT_BYTES, Order, SignerReport};
use palabre_host::packet::Packet;
use palabre_host::process::OurChild;
use palabre_host::stamp::FileStamp;
use palabre_host::{usage, wait};
use palabre_room::Name;

use crate::end::End;
use crate::event::{self, Event};

/// Timeout for a signer's first report, and for its report about an order.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The connection to a signer, and its process.
#[derive(Debug)]
pub(super) struct Link {
    /// Number of the link, from 1 on.
    pub(super) number: u64,
    pub(super) socket: Packet,
    pub(super) pid: u32,
    /// The signer's user, if it isn't a child of the supervisor.
    pub(super) user: Option<String>,
    pub(super) child: Option<OurChild>,
    /// Stamp of the program file when the child was started.
    pub(super) program: Option<FileStamp>,
    pub(super) since: Instant,
    pub(super) report: Option<SignerReport>,
    /// Number of orders other than [`Order::Serve`] that were sent over this link.
    pub(super) orders: u64,
    /// The last status text of a child, which says why the child ends.
    pub(super) last_words: Option<String>,
    /// Number of the last [`Order::Read`] if its result is not known yet.
    read: Option<u64>,
    /// Time since which the first report or the report about an order is missing; `None` if none is missing.
    awaited_since: Option<Instant>,
    /// Whether the supervisor has logged that the signer doesn't answer.
    is_late_logged: bool,
}

impl Link {
    /// Creates a link to a signer that has sent no report yet.
    pub(super) fn new(number: u64, socket: Packet, pid: u32, now: Instant) -> Self {
        let (user, child, program, report, last_words, read) = (None, None, None, None, None, None);
        let (since, awaited_since, orders, is_late_logged) = (now, Some(now), 0, false);
        Self {
            number,
            socket,
            pid,
            user,
            child,
            program,
            since,
            report,
            orders,
            last_words,
            read,
            awaited_since,
            is_late_logged,
        }
    }

    /// Starts the thread that receives reports over the link and sends an event for each of them.
    pub(super) fn follow(&self, events: SyncSender<Event>) -> io::Result<()> {
        let (number, socket) = (self.number, self.socket.try_clone()?);
        event::named("signer", move || {
            while let Some(report) = next_report(&socket) {
                if events.send(Event::SignerReport { link: number, report: Some(report) }).is_err() {
                    return;
                }
            }
            let _ = events.send(Event::SignerReport { link: number, report: None });
        })
    }

    /// Sends an order. Returns the number of the order, or `None` if it can't be sent.
    pub(super) fn order(&mut self, order: &Order, now: Instant) -> Option<u64> {
        self.socket.send(&signing::encode(order)).ok()?;
        self.orders += 1;
        self.awaited_since.get_or_insert(now);
        if *order == Order::Read {
            self.read = Some(self.orders);
        }
        Some(self.orders)
    }

    /// Stores a report. Returns whether it has the result of the last [`Order::Read`].
    pub(super) fn reported(&mut self, report: SignerReport, now: Instant) -> bool {
        if self.report.as_ref().is_none_or(|last| last.orders < report.orders) {
            self.awaited_since = (report.orders < self.orders).then_some(now);
            if std::mem::take(&mut self.is_late_logged) {
                log::info!("palabre-signer (process {}) answers again", self.pid);
            }
        }
        let has_read = self.read.take_if(|number| *number <= report.orders).is_some();
        self.report = Some(report);
        has_read
    }

    /// Returns whether the signer has executed the order with this number.
    pub(super) fn has_done(&self, order: u64) -> bool {
        self.report.as_ref().is_some_and(|report| report.orders >= order)
    }

    /// Returns why the signer can't use the certificate with its key; `None` if it can, or while this is unknown.
    pub(super) fn fault(&self) -> Option<&str> {
        Some(self.report.as_ref()?.fault.as_str()).filter(|fault| !fault.is_empty())
    }

    /// Returns the time at which the signer counts as late; `None` if no report is awaited, or if the lateness was logged.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.awaited_since.map(|since| since + ANSWER_TIMEOUT).filter(|_| !self.is_late_logged)
    }

    /// Logs once that the signer is late.
    pub(super) fn check(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.is_late_logged = true;
            log::error!("{}", self.silence());
        }
    }

    /// Returns the message for `palabre status` if the signer is stopped or late.
    pub(super) fn alarm(&self) -> Option<String> {
        let pid = self.pid;
        match usage::is_stopped(pid) {
            true => Some(format!(
                "palabre-signer (process {pid}) is stopped, so new browsers can't connect; run 'kill -CONT {pid}' to continue it"
            )),
            false => self.is_late_logged.then(|| self.silence()),
        }
    }

    fn silence(&self) -> String {
        format!(
            "palabre-signer (process {0}) did not answer within {1} s, so new browsers can't connect; run 'kill -KILL {0}' to have another one started",
            self.pid,
            ANSWER_TIMEOUT.as_secs()
        )
    }

    /// Passes the end of a listener's connection to the signer. Returns false if the signer has too many unread orders.
    pub(super) fn pass_on(&self, name: &Name, end: &mut End) -> bool {
        let order = signing::encode(&Order::Serve { name: name.to_string() });
        match self.socket.send_with(&order, end.socket()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            // The link is closed. An event reports this later, and the next signer gets this end.
            Err(error) => {
                log::debug!("unable to pass on the connection of the listener of '{name}' to palabre-signer: {error}");
            }
            Ok(()) => {}
        }
        end.link = self.number;
        true
    }
}

/// Waits for the next report. Returns `None` if the link is closed. A report that can't be parsed is ignored, so that programs of two releases work
/// together.
fn next_report(socket: &Packet) -> Option<SignerReport> {
    let (mut buffer, mut is_warned) = ([0; MAX_REPORT_BYTES], false);
    loop {
        wait::readable(&[socket.as_fd()], None).ok()?;
        match socket.recv(&mut buffer) {
            Ok(length) => match signing::parse(buffer.get(..length?).unwrap_or_default()) {
                Ok(report) => return Some(report),
                Err(error) if !std::mem::replace(&mut is_warned, true) => {
                    log::warn!("unable to understand a report of palabre-signer: {error}; use programs of one release");
                }
                Err(_) => {}
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn report_that_cannot_be_parsed_does_not_end_the_link() {
        let (ours, theirs) = Packet::pair().unwrap();
        let report = SignerReport { signatures: 7, ..SignerReport::default() };
        for message in [b"?".to_vec(), vec![0xff; 100], signing::encode(&report)] {
            theirs.send(&message).unwrap();
        }
        assert_eq!(next_report(&ours), Some(report));
        drop(theirs);
        assert_eq!(next_report(&ours), None);
    }

    #[test]
    fn signer_that_does_not_execute_an_order_is_late_until_its_report() {
        let (ours, _theirs) = Packet::pair().unwrap();
        let start = Instant::now();
        let mut link = Link::new(1, ours, std::process::id(), start);
        let report = |orders| SignerReport { orders, ..SignerReport::default() };
        assert!(!link.reported(report(0), start) && link.deadline().is_none());
        assert_eq!(link.order(&Order::Refresh, start), Some(1));
        assert_eq!(link.order(&Order::Read, start + ANSWER_TIMEOUT / 2), Some(2));
        assert_eq!(link.deadline(), Some(start + ANSWER_TIMEOUT));
        assert!(!link.reported(report(1), start + ANSWER_TIMEOUT / 2), "the report has not the result of the read");
        let late = start + ANSWER_TIMEOUT * 3 / 2;
        link.check(late - Duration::from_millis(1));
        assert_eq!(link.alarm(), None);
        link.check(late);
        assert!(
            link.alarm()
                .unwrap()
                .contains("did not answer within 5 s, so new browsers can't connect; run 'kill -KILL ")
        );
        assert_eq!(link.deadline(), None, "the line is logged once");
        assert!(link.reported(report(2), late) && link.alarm().is_none() && link.deadline().is_none());
    }
}
