//! A seat that passes from one program of the supervisor to the next, with its process and its socket.

use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use palabre_config::Participant;
use palabre_config::control::{ListenerReport, State};
use palabre_host::notify;
use palabre_host::stamp::FileStamp;

use super::{START_PATIENCE, Seat};
use crate::estate::SeatEstate;
use crate::process::{Plan, Process};
use crate::site::Site;

impl Seat {
    /// Whether nothing is going on that only this program could finish.
    pub fn is_at_rest(&self) -> bool {
        self.successor.is_none() && self.leaving.is_empty() && self.waiting.is_none() && self.state != State::Draining
    }

    /// The listening socket, where there is one.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// What the program after us must know. Only at rest.
    pub fn leave_behind(&self, now: Instant) -> SeatEstate {
        SeatEstate {
            name: self.participant.name.to_string(),
            file: self.participant.to_toml(),
            port: self.port,
            state: self.state,
            since_ms: self.status(now).since_ms,
            process: self.current.as_ref().map(|process| process.leave_behind(now)),
            is_current: self.current.as_ref().is_none_or(|process| process.generation == self.wanted),
            is_parked: self.is_parked,
            restarts: self.restarts,
            last_exit: self.last_exit.clone(),
            report: self.report.clone(),
            note: self.note.clone(),
        }
    }

    /// The seat that the program before us has left. What had no process is tried again at once, unless it was stopped.
    pub fn inherit(
        site: &Site,
        participant: Participant,
        left: SeatEstate,
        socket: Option<TcpListener>,
        now: Instant,
    ) -> Self {
        let mut seat = Self::empty(participant, State::Starting, now);
        (seat.port, seat.is_parked, seat.restarts, seat.last_exit) =
            (left.port, left.is_parked, left.restarts, left.last_exit);
        seat.plan_expiry(now);
        seat.recall(site);
        let plan = Plan { generation: seat.wanted, now, patience: START_PATIENCE, entrance: seat.entrance };
        seat.current = left.process.and_then(|process| Process::adopt(&process, plan));
        seat.socket = socket;
        if seat.is_parked {
            seat.state = State::Stopped;
        } else if seat.current.is_some() && seat.socket.is_some() {
            seat.state = left.state;
            seat.since = now.checked_sub(Duration::from_millis(left.since_ms)).unwrap_or(now);
            seat.gain = super::gain(&seat.participant);
            // An earlier release has left the listener's words in the note.
            let words = || left.note.as_deref().and_then(|note| ListenerReport::parse(note).ok());
            seat.report = left.report.or_else(words);
            if let Some(report) = &seat.report {
                seat.presence.update(report, now);
            }
            if !left.is_current {
                seat.renew();
            }
        } else {
            seat.leaving.extend(seat.current.take());
            seat.leaving.iter_mut().for_each(Process::kill);
            seat.start(site, now);
        }
        seat
    }

    /// The listener's program is another file than the one with which the process was started.
    pub fn is_of_an_older_program(&self, site: &Site) -> bool {
        let program = FileStamp::of(&site.listener);
        program.is_some() && self.current.as_ref().is_some_and(|process| process.program != program)
    }

    /// The successor that was wanted last could not be started.
    pub fn is_refused(&self) -> bool {
        self.refused == Some(self.wanted)
    }

    /// The listener says that it could not use the certificate that it was to read, and serves the one before.
    pub fn refuses_the_certificate(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.certificate_refused)
    }

    /// Takes a socket that was stored for this seat, if it is of its port.
    pub(super) fn take_stored(&mut self, socket: Option<TcpListener>, site: &Site) {
        let Some(socket) = socket else { return };
        let fits = |address: std::net::SocketAddr| {
            (self.port == 0 || address.port() == self.port) && palabre_host::sockets::is_on(address, site.server.bind)
        };
        match socket.local_addr() {
            Ok(address) if fits(address) => {
                log::info!("port {} of '{}' was kept open", address.port(), self.participant.name);
                self.port = address.port();
                notify::store(self.participant.name.as_str(), &socket);
                self.socket = Some(socket);
            }
            _ => notify::unstore(self.participant.name.as_str()),
        }
    }

    /// Closes the port, here and where it is stored.
    pub(super) fn close_port(&mut self) {
        if self.socket.take().is_some() {
            notify::unstore(self.participant.name.as_str());
        }
    }
}
