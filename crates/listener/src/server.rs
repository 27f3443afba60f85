//! The main thread: waits for connections, signals and news for the supervisor, all in one `poll(2)`; each connection gets
//! a thread of its own.

use crate::connection::{After, Connection, HeadError};
use crate::desk::Desk;
use crate::ear::HAND_OVER;
use crate::gate::{Gate, Idle, Place};
use crate::http::Response;
use crate::mic::Uplink;
use crate::renewal::Renewal;
use crate::state::Listener;
use crate::status::LastReport;
use crate::{routes, tls, traffic};
use anyhow::{Context as _, Result};
use log::Level;
use palabre_config::control::{ListenerReport, Speaking};
use palabre_host::log_limit::LogLimit;
use palabre_host::signals::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, Signals};
use palabre_host::{notify, wait};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the next request of a kept connection may be away, for the participant and for strangers.
const IDLE: Duration = Duration::from_secs(30);
const IDLE_STRANGER: Duration = Duration::from_secs(10);
/// How long the planned leave may last, and how much longer when another process takes over.
const LEAVE: Duration = Duration::from_millis(1400);
/// Stack of a connection's thread.
const STACK_BYTES: usize = 128 * 1024;
/// How long to wait when the system has no room for another connection.
const FULL: Duration = Duration::from_millis(50);

/// A listener with its socket.
pub struct Server {
    socket: TcpListener,
    listener: Arc<Listener>,
    gate: Arc<Gate>,
    log_limits: Arc<LogLimits>,
    signals: Signals,
    /// The certificate's files; none where it was made at the start.
    renewal: Option<Renewal>,
}

/// Log lines that any client can cause: each at most once in 10 s.
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
    /// A server on this socket, for at most `connections` connections.
    ///
    /// # Errors
    /// Those of sigaction(2) and fcntl(2).
    pub fn new(
        socket: TcpListener,
        listener: Arc<Listener>,
        connections: usize,
        renewal: Option<Renewal>,
    ) -> Result<Self> {
        // Shared with a process that replaces this one: a connection may be gone when we come to accept it.
        socket.set_nonblocking(true).context("unable to prepare the socket")?;
        let signals = Signals::new(&[SIGTERM, SIGINT, SIGHUP, SIGUSR1]).context("unable to receive signals")?;
        Ok(Self {
            socket,
            listener,
            gate: Gate::new(connections),
            log_limits: Arc::new(LogLimits::new()),
            signals,
            renewal,
        })
    }

    /// Serves until SIGTERM, and then leaves as planned; a second SIGTERM ends it at once. SIGUSR1 is the same where another
    /// process serves the socket too: that one takes the pipes when its first page has come.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn run(mut self) -> Result<()> {
        notify::ready();
        let mut last = LastReport::default();
        let mut due = self.report(&mut last);
        while self.listener.keeps() {
            let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
            let mut fds = vec![self.socket.as_fd(), self.signals.as_fd(), self.listener.status.as_fd()];
            fds.extend(self.listener.desk.as_ref().and_then(Desk::inbox_fd));
            let ready = wait::readable(&fds, timeout).context("unable to wait for connections")?;
            while let Some(signal) = self.signals.try_next() {
                self.signal(signal);
            }
            if ready[0] && self.listener.keeps() {
                self.accept();
            }
            self.listener.status.clear();
            if ready.get(3) == Some(&true) {
                self.pass_messages_on();
            }
            due = self.report(&mut last);
        }
        self.wait_for_the_rest();
        Ok(())
    }

    fn signal(&mut self, signal: i32) {
        match signal {
            SIGHUP => {
                if let Some(tls) = self.renewal.as_mut().and_then(Renewal::read) {
                    self.listener.set_tls(tls);
                }
            }
            _ => {
                notify::stopping();
                self.listener.keep_no_more();
                self.gate.close_idle();
                match signal {
                    SIGUSR1 => self.listener.hand_over(),
                    _ => self.listener.leave(),
                }
            }
        }
    }

    /// Sends the supervisor a report if one is due. Returns when the next one may be.
    fn report(&self, last: &mut LastReport) -> Option<Instant> {
        let speaking = match self.listener.microphone.as_ref().and_then(|microphone| microphone.uplink()) {
            Some(Uplink::WebSocket) => Speaking::Ws,
            Some(Uplink::PageQueue) => Speaking::Queue,
            Some(Uplink::Program) => Speaking::Post,
            None => Speaking::No,
        };
        let mut report = ListenerReport {
            streams: u32::try_from(self.listener.ear.streams()).unwrap_or(u32::MAX),
            speaking,
            certificate_refused: self.renewal.as_ref().is_some_and(Renewal::is_refused),
            traffic: traffic::now(),
            ..ListenerReport::default()
        };
        if let Some(desk) = &self.listener.desk {
            if report.streams == 0 {
                desk.forget();
            }
            desk.add_to(&mut report);
        }
        last.update(report, Instant::now(), |report| notify::status(&report.encode()))
    }

    fn pass_messages_on(&self) {
        for message in self.listener.desk.iter().flat_map(Desk::messages) {
            self.listener.ear.pass_on(&message);
        }
    }

    fn accept(&mut self) {
        match self.socket.accept() {
            Ok((tcp, _)) => {
                if let Some(tls) = self.renewal.as_mut().and_then(|renewal| renewal.look(Instant::now())) {
                    self.listener.set_tls(tls);
                }
                self.admit(tcp);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                self.log_limits.accept.log(
                    Level::Info,
                    Instant::now(),
                    format_args!("unable to accept a connection: {error}"),
                );
                std::thread::sleep(FULL);
            }
        }
    }

    fn admit(&self, tcp: TcpStream) {
        match self.gate.enter(&tcp, Instant::now()) {
            Some(place) => self.spawn(tcp, place),
            // Closed at once: whoever it is sees that without waiting.
            None => {
                self.log_limits.full.log(Level::Info, Instant::now(), "a connection was refused: there are too many");
            }
        }
    }

    fn spawn(&self, tcp: TcpStream, place: Place) {
        let (listener, log_limits) = (Arc::clone(&self.listener), Arc::clone(&self.log_limits));
        let work = move || serve(tcp, place, &listener, &log_limits);
        let spawned = std::thread::Builder::new().name("connection".into()).stack_size(STACK_BYTES).spawn(work);
        if let Err(error) = spawned {
            self.log_limits.accept.log(Level::Info, Instant::now(), format_args!("unable to start a thread: {error}"));
        }
    }

    /// Requests in progress may end; connections that only wait are closed by leaving.
    fn wait_for_the_rest(&mut self) {
        let end = Instant::now() + if self.listener.is_over() { LEAVE } else { HAND_OVER + LEAVE };
        while self.gate.busy() > 0 && Instant::now() < end {
            match self.signals.wait(Some(Duration::from_millis(10))) {
                Ok(Some(SIGTERM | SIGINT)) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

fn serve(tcp: TcpStream, mut place: Place, listener: &Listener, log_limits: &LogLimits) {
    // Linux gives the accepted socket no O_NONBLOCK of the listening one: accept(2).
    let stream = match tls::accept(tcp, listener.tls()) {
        Ok(stream) => stream,
        Err(error) => {
            let (tls, now) = (&log_limits.tls, Instant::now());
            match tls::is_timeout(&error) {
                true => tls.log(Level::Info, now, "a TLS handshake took too long"),
                false => tls.log(Level::Info, now, format_args!("a TLS handshake failed: {error}")),
            }
            return;
        }
    };
    let mut connection = Connection::new(stream);
    // Errors of a connection concern its client, who is gone.
    let _ = requests(&mut connection, &mut place, listener);
    let _busy = place.busy();
    connection.close();
}

fn requests(connection: &mut Connection, place: &mut Place, listener: &Listener) -> io::Result<()> {
    // None while we leave: whoever comes in the middle of it may ask once.
    let mut idle = place.idle();
    loop {
        let patience = if place.is_stranger() { IDLE_STRANGER } else { IDLE };
        let head = match connection.read_head(patience) {
            Ok(head) => head,
            Err(HeadError::Closed) => return Ok(()),
            Err(HeadError::Refused(refusal)) => {
                return Response::from(refusal).write(&mut connection.stream, false, false);
            }
        };
        let busy = place.busy();
        if idle.take().is_some_and(|idle: Idle| !idle.over()) {
            return Ok(());
        }
        let after = routes::answer(connection, &head, listener, || place.proven())?;
        drop(busy);
        idle = place.idle();
        if after == After::Close || idle.is_none() {
            return Ok(());
        }
    }
}
