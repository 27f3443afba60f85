//! The main thread: waits in poll(2) for connections and signals, and sends reports to the supervisor. Each connection gets a thread.

use crate::api::Api;
use crate::connection::{After, Connection, HeadError};
use crate::handover::Reason;
use crate::http::Response;
use crate::mic::Uplink;
use crate::pending::{Arrived, Pending};
use crate::sandbox::Permitted;
use crate::slots::{Busy, Idle, Slot, Slots};
use crate::state::Listener;
use crate::status::LastReport;
use crate::{routes, tls, traffic};
use anyhow::{Context as _, Result};
use log::Level;
use palabre_config::control::{ListenerReport, MAX_FAULT_CHARS, Speaking};
use palabre_host::log_limit::LogLimit;
use palabre_host::sandbox::Enforced;
use palabre_host::signals::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, Signals};
use palabre_host::{notify, wait};
use std::io;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Timeout for the next request on an authenticated connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout for a request on an unauthenticated connection.
const UNAUTHENTICATED_TIMEOUT: Duration = Duration::from_secs(10);
/// Stack size of a connection's thread. Encoding and decoding Opus needs about 160 KiB; only pages that were used take memory.
const STACK_BYTES: usize = 512 * 1024;
/// Pause after accept(2) has failed, for example because no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Interval between checks whether requests in progress have ended, before the process exits.
const EXIT_INTERVAL: Duration = Duration::from_millis(10);
/// Delay after which the pages are told that the microphone is free. A page that reconnects takes the microphone back within this time.
const FREE_AFTER: Duration = Duration::from_secs(3);

/// The server: the listening socket and the objects that serve its connections.
pub(crate) struct Server {
    socket: TcpListener,
    listener: Arc<Listener>,
    pending: Pending,
    slots: Arc<Slots>,
    log_limits: Arc<LogLimits>,
    signals: Signals,
    /// The parts of the listener's sandbox that the kernel enforces.
    sandbox: Enforced,
    /// A page or a program has the microphone, or had it less than [`FREE_AFTER`] ago.
    is_microphone_used: bool,
    microphone_free_at: Option<Instant>,
}

/// Rate limits for log lines that any client can cause: each line at most once in 10 s.
#[derive(Debug)]
struct LogLimits {
    full: LogLimit,
    accept: LogLimit,
    tls: LogLimit,
}

impl LogLimits {
    fn new() -> Self {
        let limit = || LogLimit::new(0.1, 1.0);
        Self { full: limit(), accept: limit(), tls: limit() }
    }
}

impl Server {
    /// Creates a server that serves at most `connections` connections at a time.
    pub(crate) fn new(socket: TcpListener, listener: Arc<Listener>, connections: usize) -> Result<Self> {
        // The next process shares this socket. It may accept a connection that poll(2) has reported here, and accept(2) must not block.
        socket.set_nonblocking(true).context("unable to make the listening socket non-blocking")?;
        let signals = Signals::new(&[SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])
            .context("unable to set up the handling of signals")?;
        let slots = Slots::new(connections, Arc::clone(&listener.handover));
        let log_limits = Arc::new(LogLimits::new());
        let (is_microphone_used, microphone_free_at) = (false, None);
        let sandbox = Enforced::default();
        Ok(Self {
            socket,
            listener,
            pending: Pending::new(),
            slots,
            log_limits,
            signals,
            sandbox,
            is_microphone_used,
            microphone_free_at,
        })
    }

    /// Serves until SIGTERM, SIGINT, SIGUSR1 or SIGUSR2. For the end of open connections see [`crate::handover`].
    pub(crate) fn run(mut self, sandbox: Enforced, permitted: Option<&Permitted>) -> Result<()> {
        self.sandbox = sandbox;
        notify::ready();
        let mut last = LastReport::default();
        let mut due = self.report(&mut last);
        while self.listener.handover.is_serving() {
            let due_at = due.into_iter().chain(self.pending.due()).min();
            let timeout = due_at.map(|due| due.saturating_duration_since(Instant::now()));
            let own = [self.socket.as_fd(), self.signals.as_fd(), self.listener.main_thread.as_fd()];
            let fds: Vec<_> = own.into_iter().chain(self.pending.fds()).collect();
            let ready =
                wait::readable(&fds, timeout).context("unable to wait for connections and signals with poll(2)")?;
            let arrived = self.pending.look(&ready[own.len()..], Instant::now());
            arrived.into_iter().for_each(|arrived| self.arrived(arrived));
            while let Some(signal) = self.signals.try_next() {
                self.on_signal(signal);
            }
            // Check the directory only while serving: the supervisor removes the directory of a listener that it has told to leave.
            if self.listener.handover.is_serving() {
                permitted.map_or(Ok(()), Permitted::check)?;
            }
            if ready[0] && self.listener.handover.is_serving() {
                self.accept();
            }
            self.listener.main_thread.clear();
            let now = Instant::now();
            let lowers = self.listener.handover.lower_forgotten_hand(&self.listener.ear.pages(), now);
            due = [lowers, self.report(&mut last), self.watch_microphone(now), self.listener.access.tick(now)]
                .into_iter()
                .flatten()
                .min();
        }
        let arrived = self.pending.take();
        arrived.into_iter().for_each(|arrived| self.arrived(arrived));
        self.wait_for_requests();
        self.listener.access.end(Instant::now());
        Ok(())
    }

    fn on_signal(&mut self, signal: i32) {
        match signal {
            SIGHUP => self.listener.read_certificate(),
            SIGUSR1 => self.leave(Reason::Replacement),
            SIGUSR2 => self.leave(Reason::Removal),
            _ => self.leave(Reason::Stop),
        }
    }

    fn leave(&self, reason: Reason) {
        notify::stopping();
        self.listener.handover.begin(reason, Instant::now());
        // Close idle connections before a stream gets `moved`. Otherwise the page could send its next request to this process.
        self.slots.close_idle();
        self.listener.ear.announce_handover();
    }

    /// Tells the pages whether the microphone is used or free, so that a page that has lost it knows when it can have it back. Returns the time at
    /// which to call this function again.
    fn watch_microphone(&mut self, now: Instant) -> Option<Instant> {
        if self.listener.microphone.as_ref()?.uplink().is_some() {
            (self.is_microphone_used, self.microphone_free_at) = (true, None);
            self.listener.ear.show_microphone(true);
            return None;
        }
        if !self.is_microphone_used {
            return None;
        }
        let at = *self.microphone_free_at.get_or_insert(now + FREE_AFTER);
        if now < at {
            return Some(at);
        }
        self.is_microphone_used = false;
        self.listener.ear.show_microphone(false);
        None
    }

    /// Sends the supervisor a report if one is due. Returns the time at which to call this function again, or `None` to wait for a change.
    fn report(&self, last: &mut LastReport) -> Option<Instant> {
        let microphone = self.listener.microphone.as_ref();
        let speaking = match microphone.and_then(|microphone| microphone.uplink()) {
            Some(Uplink::WebSocket) => Speaking::Ws,
            Some(Uplink::PageQueue) => Speaking::Queue,
            Some(Uplink::Program) => Speaking::Post,
            None => Speaking::No,
        };
        let codecs = self.listener.ear.codecs();
        let streams = codecs.len();
        let api = self.listener.api.as_ref();
        if let (0, Some(api)) = (streams, api) {
            api.forget();
        }
        let presence = self.listener.handover.presence();
        let certificate = &self.listener.certificate;
        let fault = certificate.fault();
        let report = ListenerReport {
            streams: u32::try_from(streams).unwrap_or(u32::MAX),
            speaking,
            down: codecs.last().copied(),
            codecs: codecs.iter().copied().collect(),
            up: microphone.and_then(|microphone| microphone.codec()),
            hand: presence.hand,
            microphone: presence.voice,
            weak: presence.weak,
            page: api.and_then(Api::page_report),
            certificate_refused: fault.is_some(),
            certificate_fault: fault.unwrap_or_default().chars().take(MAX_FAULT_CHARS).collect(),
            certificate_reads: certificate.reads(),
            sandbox: self.sandbox.to_string(),
            traffic: traffic::now(),
        };
        last.update(report, Instant::now(), |report| notify::status(&report.encode()))
    }

    fn accept(&mut self) {
        match self.socket.accept() {
            Ok((tcp, client)) => {
                let added = self.pending.add(tcp, client.ip(), &self.listener.access.proxy, Instant::now());
                if let Err(error) = added {
                    log::debug!("unable to make a connection non-blocking: {error}");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // The supervisor has shut the listening socket down, and will end this process by a signal.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => std::thread::sleep(ACCEPT_PAUSE),
            Err(error) => {
                self.log_limits.accept.log(
                    Level::Info,
                    Instant::now(),
                    format_args!("unable to accept a connection: {error}"),
                );
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }

    fn arrived(&self, arrived: Arrived) {
        match arrived {
            Arrived::Hello(tcp, network) => self.admit(tcp, network),
            Arrived::Invalid(error) => log_failure(&self.log_limits, &error),
        }
    }

    fn admit(&self, tcp: TcpStream, network: IpAddr) {
        match self.slots.take(&tcp, network, Instant::now()) {
            Some(slot) => self.spawn(tcp, slot),
            // No slot is free, so the client is refused. Dropping `tcp` closes the connection, so the client doesn't wait.
            None => self.log_limits.full.log(
                Level::Info,
                Instant::now(),
                "refused a connection: this listener has too many connections; see 'connections' in palabre.toml",
            ),
        }
    }

    fn spawn(&self, tcp: TcpStream, slot: Slot) {
        let (listener, log_limits) = (Arc::clone(&self.listener), Arc::clone(&self.log_limits));
        let handshake = slot.busy();
        let work = move || serve(tcp, slot, handshake, &listener, &log_limits);
        let spawned = std::thread::Builder::new().name("connection".into()).stack_size(STACK_BYTES).spawn(work);
        if let Err(error) = spawned {
            self.log_limits.accept.log(
                Level::Info,
                Instant::now(),
                format_args!("unable to start a thread for a connection: {error}"),
            );
        }
    }

    /// Waits until no request is in progress or the exit deadline has passed. A second SIGTERM or SIGINT ends the wait.
    fn wait_for_requests(&mut self) {
        let deadline = self.listener.handover.exit_deadline(Instant::now());
        while self.slots.busy() > 0 && Instant::now() < deadline {
            match self.signals.wait(Some(EXIT_INTERVAL)) {
                Ok(Some(SIGTERM | SIGINT)) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

/// Serves a connection. `handshake` makes the process wait for the handshake before it ends.
fn serve(tcp: TcpStream, mut slot: Slot, handshake: Busy, listener: &Listener, log_limits: &LogLimits) {
    // While the processors are busy, the sound of all participants has precedence over handshakes of clients without a key.
    listener.niceness.inspect(|niceness| niceness.raise());
    let stream = match tls::accept(tcp, listener.tls(), &listener.access.proxy) {
        Ok(stream) => stream,
        Err(error) => return log_failure(log_limits, &error),
    };
    let mut connection = Connection::new(stream);
    // An error means that this client has disconnected. It needs no log line.
    let _ = requests(&mut connection, &mut slot, handshake, listener);
    let _busy = slot.busy();
    connection.close();
}

/// Logs that a client has not completed its TLS handshake.
fn log_failure(log_limits: &LogLimits, error: &io::Error) {
    let (tls, now) = (&log_limits.tls, Instant::now());
    match tls::is_timeout(error) {
        true => tls.log(Level::Info, now, "a TLS handshake took more than 5 s"),
        false => tls.log(Level::Info, now, format_args!("a TLS handshake failed: {error}")),
    }
}

fn requests(connection: &mut Connection, slot: &mut Slot, handshake: Busy, listener: &Listener) -> io::Result<()> {
    // `None` if this process is being replaced or ends. Then this connection is closed after one request. The process waits for this request.
    let mut idle = slot.idle();
    let mut first = idle.is_none().then_some(handshake);
    loop {
        let timeout = if slot.is_authenticated() { IDLE_TIMEOUT } else { UNAUTHENTICATED_TIMEOUT };
        let head = match connection.read_head(timeout) {
            Ok(head) => head,
            Err(HeadError::Closed) => return Ok(()),
            Err(HeadError::Refused(refusal)) => {
                return Response::from(refusal).write(&mut connection.stream, false, false);
            }
        };
        let busy = first.take().unwrap_or_else(|| slot.busy());
        if idle.take().is_some_and(|idle: Idle| !idle.end()) {
            return Ok(());
        }
        let authenticated = || {
            if slot.authenticated() {
                listener.niceness.inspect(|niceness| niceness.restore());
            }
        };
        let after = routes::answer(connection, &head, listener, authenticated)?;
        drop(busy);
        idle = slot.idle();
        if after == After::Close || idle.is_none() {
            return Ok(());
        }
    }
}
