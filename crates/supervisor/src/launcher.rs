//! The connection to palabre-launcher, which starts the listeners with a user of their own. Without `--await-launcher`, the supervisor starts the
//! listeners itself.
//!
//! The main thread waits for the answer to an order to start a listener. A thread receives all reports, so that no report fills the connection while
//! the main thread waits.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use palabre_config::control::{Request, Response};
use palabre_host::inherit::Inherited;
use palabre_host::packet::Packet;
use palabre_host::{usage, wait};
use palabre_launcher::{MAX_MESSAGE_BYTES, Order, Report, Signal, Start, encode, parse};

use crate::event::{self, Event};
use crate::saved::{self, SavedLauncher};

/// Timeout for a launcher to connect when the supervisor starts. Later launchers may connect at any time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout for the answer to an order to start a listener.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Status of a listener whose end was not reported, because its launcher has ended: the kernel has killed the listener.
const KILLED: i32 = 9;

/// Starts listeners by orders to palabre-launcher. Clones share the connection.
#[derive(Debug, Clone)]
pub(crate) struct Launcher(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    link: Option<Link>,
    last_order: u64,
    /// Process id of the last launcher that has ended.
    lost: Option<u32>,
    events: SyncSender<Event>,
}

/// The connection to a launcher.
#[derive(Debug)]
struct Link {
    socket: Packet,
    pid: u32,
    /// Answers to orders to start a listener.
    answers: Receiver<Report>,
    /// Listeners that have ended. The sender is dropped when the launcher's connection is closed.
    ended: Receiver<(u32, ExitStatus)>,
    /// Whether an answer is missing.
    is_late: bool,
}

/// What has happened to the listeners of the launcher.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Listeners that have ended.
    pub(crate) ended: Vec<(u32, ExitStatus)>,
    /// Whether the launcher has ended, and with it all of its listeners.
    pub(crate) is_lost: bool,
}

impl Launcher {
    /// Creates the launcher's state without a connection. Each report of a launcher will cause an event.
    pub(crate) fn new(events: SyncSender<Event>) -> Self {
        Self(Arc::new(Mutex::new(State { link: None, last_order: 0, lost: None, events })))
    }

    /// Takes over the connection of the supervisor's previous program.
    pub(crate) fn restore(&self, saved: Option<SavedLauncher>, inherited: &mut Inherited) -> io::Result<()> {
        let connection = saved.zip(inherited.packet(saved::LAUNCHER));
        let Some((saved, socket)) = connection else { return Ok(()) };
        self.state().last_order = saved.last_order;
        self.follow(socket, saved.pid)
    }

    /// Returns the state for the supervisor's next program, and the connection.
    pub(crate) fn save(&self) -> io::Result<Option<(SavedLauncher, Packet)>> {
        let state = self.state();
        let Some(link) = &state.link else { return Ok(None) };
        Ok(Some((SavedLauncher { pid: link.pid, last_order: state.last_order }, link.socket.try_clone()?)))
    }

    /// Returns why the process `pid` can't become the launcher: another one is connected, or the process is a listener of
    /// the launcher that has just ended. The kernel first closes the connection of an ending launcher, and then kills the launcher's listeners.
    /// Until it has killed them, they are children of this launcher.
    fn refusal(&self, pid: u32) -> Option<String> {
        let state = self.state();
        match (&state.link, state.lost) {
            (Some(link), _) => {
                Some(format!("palabre-launcher already runs as process {}; end one of the two launchers", link.pid))
            }
            (None, Some(lost)) if usage::parent(pid) == Some(lost) => Some("it is a listener".to_owned()),
            (None, _) => None,
        }
    }

    /// Returns the answer to the process `pid`, which asks to become the launcher.
    pub(crate) fn answer(launcher: Option<&Self>, pid: u32) -> Response {
        let refusal = match launcher {
            Some(launcher) => launcher.refusal(pid),
            None => Some(
                "the supervisor starts the listeners itself; to change this, start it with --await-launcher".into(),
            ),
        };
        refusal.map_or(Response::Ok, |why| Response::Refused { why })
    }

    /// Waits until a launcher has connected, at most for [`CONNECT_TIMEOUT`]. Returns other events that arrived meanwhile.
    pub(crate) fn wait(&self, events: &Receiver<Event>, now: Instant) -> Vec<Event> {
        let mut others = Vec::new();
        while !self.is_connected() {
            match event::next(events, Some(now + CONNECT_TIMEOUT)) {
                Some(Event::LauncherConnected { socket, pid }) => self.connected(socket, pid),
                Some(Event::Asked { request: Request::Launch, pid, client }) => {
                    client.answer(Self::answer(Some(self), pid));
                }
                Some(event) => others.push(event),
                None => {
                    log::error!(
                        "palabre-launcher has not connected within {} s, so no listener can start; run 'systemctl start palabre-launcher'",
                        CONNECT_TIMEOUT.as_secs()
                    );
                    break;
                }
            }
        }
        others
    }

    /// Uses a launcher that has connected. If another launcher is connected already, closes the new connection.
    pub(crate) fn connected(&self, socket: Packet, pid: u32) {
        if self.is_connected() {
            return socket.close();
        }
        match self.follow(socket, pid) {
            Ok(()) => log::info!("palabre-launcher has connected as process {pid}"),
            Err(error) => log::error!("unable to receive reports of palabre-launcher, so it is not used: {error}"),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.state().link.is_some()
    }

    /// Starts a listener and returns its process id. Fails with `NotConnected` if no launcher answers: then try again later.
    pub(crate) fn start(&self, start: &Start<'_>) -> io::Result<u32> {
        let mut state = self.state();
        state.last_order += 1;
        let number = state.last_order;
        let lost = state.lost;
        let Some(link) = &mut state.link else { return Err(unavailable(missing(lost))) };
        link.drop_late_answers();
        if link.is_late {
            return Err(unavailable(link.silence()));
        }
        let order = Order::Start { number, name: start.name.to_string(), entered: start.entered };
        let sent = link.socket.send_with_all(&encode(&order), &start.given.fds());
        sent.map_err(|error| unavailable(format!("unable to send an order to palabre-launcher: {error}")))?;
        link.answer(number)
    }

    /// Sends a signal to a listener.
    fn signal(&self, pid: u32, signal: Signal) -> io::Result<()> {
        match &self.state().link {
            Some(link) => link.socket.send(&encode(&Order::Signal { pid, signal })),
            // The launcher has ended, so the kernel has killed its listeners.
            None => Ok(()),
        }
    }

    /// Returns what has happened to the launcher and its listeners since the last call.
    pub(crate) fn news(&self) -> News {
        let mut state = self.state();
        let Some(link) = &state.link else { return News::default() };
        let (mut ended, pid) = (Vec::new(), link.pid);
        let is_lost = loop {
            match link.ended.try_recv() {
                Ok(end) => ended.push(end),
                Err(error) => break error == TryRecvError::Disconnected,
            }
        };
        if is_lost {
            log::error!(
                "palabre-launcher (process {pid}) has ended, and with it all listeners; they start again when another launcher has connected"
            );
            (state.link, state.lost) = (None, Some(pid));
        }
        News { ended, is_lost }
    }

    /// Returns the message for `palabre status` if no launcher can start listeners.
    pub(crate) fn alarm(&self) -> Option<String> {
        let state = self.state();
        match &state.link {
            None => Some(missing(state.lost)),
            Some(link) => (link.is_late || usage::is_stopped(link.pid)).then(|| link.silence()),
        }
    }

    /// Starts the thread that receives reports, and keeps the connection.
    fn follow(&self, socket: Packet, pid: u32) -> io::Result<()> {
        let mut state = self.state();
        let ((answer, answers), (end, ended)) = (channel(), channel());
        let reports =
            Reports { socket: socket.try_clone()?, answers: answer, ended: end, events: state.events.clone() };
        event::named("launcher", move || reports.receive())?;
        state.link = Some(Link { socket, pid, answers, ended, is_late: false });
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Waits for the answer to the order with this number. Returns the process id of the listener.
    fn answer(&mut self, number: u64) -> io::Result<u32> {
        let until = Instant::now() + ANSWER_TIMEOUT;
        loop {
            match self.answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Report::Started { number: of, pid }) if of == number => return Ok(pid),
                Ok(Report::NotStarted { number: of, errno, why }) if of == number => {
                    return Err(errno.map_or_else(|| io::Error::other(why), io::Error::from_raw_os_error));
                }
                Ok(late) => self.drop_answer(&late),
                Err(RecvTimeoutError::Disconnected) => return Err(unavailable(missing(Some(self.pid)))),
                Err(RecvTimeoutError::Timeout) => {
                    self.is_late = true;
                    return Err(unavailable(self.silence()));
                }
            }
        }
    }

    /// Receives answers that came after their timeout, and kills the listeners that were started.
    fn drop_late_answers(&mut self) {
        while let Ok(answer) = self.answers.try_recv() {
            self.drop_answer(&answer);
            self.is_late = false;
        }
    }

    /// Kills the listener if the answer says that it was started: the order has failed already by its timeout.
    fn drop_answer(&self, answer: &Report) {
        if let Report::Started { pid, .. } = answer {
            let _ = self.socket.send(&encode(&Order::Signal { pid: *pid, signal: Signal::Kill }));
        }
    }

    fn silence(&self) -> String {
        let pid = self.pid;
        match usage::is_stopped(pid) {
            true => format!(
                "palabre-launcher (process {pid}) is stopped, so no listener can start; run 'kill -CONT {pid}' to continue it"
            ),
            false => format!(
                "palabre-launcher (process {pid}) did not answer within {} s, so no listener can start; 'systemctl restart palabre-launcher' starts \
                 another one, and restarts all listeners",
                ANSWER_TIMEOUT.as_secs()
            ),
        }
    }
}

fn missing(lost: Option<u32>) -> String {
    let since = lost.map_or("has not connected".to_owned(), |pid| format!("(process {pid}) has ended"));
    format!("palabre-launcher {since}, so no listener can start; run 'systemctl start palabre-launcher'")
}

fn unavailable(why: String) -> io::Error {
    io::Error::new(ErrorKind::NotConnected, why)
}

/// The thread that receives reports.
struct Reports {
    socket: Packet,
    answers: Sender<Report>,
    ended: Sender<(u32, ExitStatus)>,
    events: SyncSender<Event>,
}

impl Reports {
    /// Receives reports until the connection is closed. A report that can't be parsed is ignored, so that programs of two releases work together.
    fn receive(self) {
        let (mut buffer, mut is_warned) = ([0; MAX_MESSAGE_BYTES], false);
        while let Some(message) = self.next(&mut buffer) {
            match parse(message) {
                Ok(report) => {
                    if self.pass_on(report).is_none() {
                        return;
                    }
                }
                Err(error) if !std::mem::replace(&mut is_warned, true) => {
                    log::warn!(
                        "unable to understand a report of palabre-launcher: {error}; use programs of one release"
                    );
                }
                Err(_) => {}
            }
        }
        // The main thread notices the end by the closed channel.
        drop(self.ended);
        let _ = self.events.send(Event::LauncherReport);
    }

    /// Waits for the next message; `None` if the connection is closed.
    fn next<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        loop {
            wait::readable(&[self.socket.as_fd()], None).ok()?;
            match self.socket.recv(buffer) {
                Ok(length) => return buffer.get(..length?),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }

    /// Passes a report to the main thread; `None` if the main thread uses another connection.
    fn pass_on(&self, report: Report) -> Option<()> {
        let Report::Ended { pid, status } = report else { return self.answers.send(report).ok() };
        self.ended.send((pid, ExitStatus::from_raw(status))).ok()?;
        // If the channel is full, no event is needed: after the events in it, the main thread looks for reports.
        let _ = self.events.try_send(Event::LauncherReport);
        Some(())
    }
}

/// A listener that the launcher has started.
#[derive(Debug)]
pub(crate) struct Launched {
    pid: u32,
    launcher: Launcher,
    ended: Option<ExitStatus>,
}

impl Launched {
    /// Returns the listener with process id `pid`.
    pub(crate) fn new(pid: u32, launcher: &Launcher) -> Self {
        Self { pid, launcher: launcher.clone(), ended: None }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal, unless the listener has ended.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.ended.is_some() { Ok(()) } else { self.launcher.signal(self.pid, signal) }
    }

    /// Notes how the listener has ended, if the news of its launcher say so.
    pub(crate) fn note_end(&mut self, news: &News) {
        let reported = news.ended.iter().find(|(pid, _)| *pid == self.pid).map(|(_, status)| *status);
        let killed = news.is_lost.then(|| ExitStatus::from_raw(KILLED));
        self.ended = self.ended.or(reported).or(killed);
    }

    /// Returns how the listener has ended, if it has.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        self.ended
    }
}
