//! How a service keeps its process and its socket when the supervisor is upgraded, and its socket when the supervisor has crashed.

use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use palabre_config::Participant;
use palabre_config::control::{ListenerReport, State};
use palabre_host::inherit::Inherited;
use palabre_host::notify;
use palabre_host::packet::Packet;
use palabre_host::stamp::FileStamp;

use super::gain::GainFile;
use super::{START_TIMEOUT, Service};
use crate::config::Config;
use crate::process::{Process, StartOptions};
use crate::saved::SavedService;

impl Service {
    /// Whether no start, stop or handover is in progress, so that the supervisor's program can be replaced.
    pub(crate) fn is_idle(&self) -> bool {
        self.successor.is_none() && self.leaving.is_empty() && self.pending.is_none() && self.state != State::Draining
    }

    /// Returns the listening socket, if it is open.
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Returns the process id of the listener, and the signer's end of the connection between the listener and the signer.
    pub(crate) fn signer_end(&self) -> Option<(u32, &Packet)> {
        let process = self.current.as_ref()?;
        Some((process.pid(), process.signer.as_ref()?.socket()))
    }

    /// Returns the state of the service for the supervisor's next program. The service must be idle.
    pub(crate) fn save(&self, config: &Config, now: Instant) -> SavedService {
        SavedService {
            name: self.participant.name.to_string(),
            file: self.participant.to_toml(),
            port: self.port,
            state: self.state,
            since_ms: self.status(now).since_ms,
            process: self.current.as_ref().map(|process| process.save(now)),
            is_current: self.current.as_ref().is_none_or(|process| process.generation == self.wanted)
                && !self.is_behind(config),
            is_stopped: self.is_stopped,
            is_gain_written: Some(self.gain.is_written(&self.participant)),
            restarts: self.restarts,
            last_exit: self.last_exit.clone(),
            report: self.report.clone(),
            hand_ms: self
                .hand_since()
                .map(|since| u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX)),
            note: self.note.clone(),
        }
    }

    /// Takes over a service of the supervisor's previous program. If the service has no process, starts one, unless an operator has stopped
    /// the service.
    pub(crate) fn restore(
        config: &Config,
        participant: Participant,
        saved: SavedService,
        inherited: &mut Inherited,
        now: Instant,
    ) -> Self {
        let socket = inherited.tcp(participant.name.as_str());
        let mut service = Self::empty(participant, State::Starting, now);
        (service.port, service.is_stopped, service.restarts, service.last_exit) =
            (saved.port, saved.is_stopped, saved.restarts, saved.last_exit);
        service.plan_expiry(now);
        service.load_entrance(config);
        let options =
            StartOptions { generation: service.wanted, now, timeout: START_TIMEOUT, entrance: service.entrance };
        let is_gain_written = saved.is_gain_written.unwrap_or(saved.process.is_some());
        service.gain = GainFile::restored(&service.participant, is_gain_written);
        let settings = saved.is_current.then_some(config.settings);
        service.current =
            saved.process.and_then(|process| Process::restore(config, &process, inherited, settings, options));
        service.socket = socket;
        if service.is_stopped {
            service.state = State::Stopped;
        } else if service.current.is_some() && service.socket.is_some() {
            service.state = saved.state;
            service.since = now.checked_sub(Duration::from_millis(saved.since_ms)).unwrap_or(now);
            // If the write of `gain` fails, `tick` repeats it later.
            let _ = service.write_gain(config, now);
            // An earlier release saved the listener's report as text in the field `note`.
            let words = || saved.note.as_deref().and_then(|note| ListenerReport::parse(note).ok());
            service.report = saved.report.or_else(words);
            if let Some(report) = &service.report {
                let raised_for = Duration::from_millis(saved.hand_ms.unwrap_or(0));
                service.presence.update(report, now.checked_sub(raised_for).unwrap_or(now));
            }
        } else {
            service.leaving.extend(service.current.take());
            service.leaving.iter_mut().for_each(Process::kill);
            service.start(config, now);
        }
        service
    }

    /// Whether the listener's program is another file now than when the process was started.
    pub(crate) fn is_of_an_older_program(&self, config: &Config) -> bool {
        let program = FileStamp::of(&config.listener);
        program.is_some() && self.current.as_ref().is_some_and(|process| process.program != program)
    }

    /// Returns the listening socket that systemd has stored for a participant, if it has the configured address and port. Otherwise removes it
    /// from systemd's store.
    pub(crate) fn fitting(stored: TcpListener, participant: &Participant, config: &Config) -> Option<TcpListener> {
        let fits = |address: std::net::SocketAddr| {
            (participant.port == 0 || address.port() == participant.port)
                && palabre_host::sockets::is_on(address, config.server.bind)
        };
        let name = &participant.name;
        match stored.local_addr() {
            Ok(address) if fits(address) => {
                log::info!(PALABRE_INSTANCE:% = name; "using port {} of '{name}', which systemd kept open", address.port());
                Some(stored)
            }
            _ => {
                notify::unstore(name.as_str());
                None
            }
        }
    }

    /// Uses a listening socket that is already open, and stores it in systemd.
    pub(super) fn take_socket(&mut self, socket: TcpListener) {
        self.port = socket.local_addr().map_or(self.port, |address| address.port());
        notify::store(self.participant.name.as_str(), &socket);
        self.socket = Some(socket);
    }

    /// Returns the listening socket, for the next service of the participant, and removes it from systemd's store.
    pub(crate) fn give_socket(&mut self) -> Option<TcpListener> {
        notify::unstore(self.participant.name.as_str());
        self.socket.take()
    }

    /// Closes the listening socket, also in processes of the service, and removes it from systemd's store.
    pub(super) fn close_port(&mut self) {
        if let Some(socket) = self.socket.take() {
            palabre_host::sockets::close(socket);
            notify::unstore(self.participant.name.as_str());
        }
    }
}
