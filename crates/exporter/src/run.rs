//! The main loop: accepts connections and answers each in a thread of its own.

use std::io::{ErrorKind, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use palabre_config::control::{self, Request, Response};
use palabre_host::exit::Failure;
use palabre_host::sandbox::{Access, Sandbox, Strictness};
use palabre_host::signals::{SIGINT, SIGTERM, Signals};
use palabre_host::{logging, notify, process, wait};

use crate::cli::{Args, PROGRAM};
use crate::metrics::{self, Measurements};
use crate::{http, openmetrics};

/// Name of the supervisor's control socket.
const SOCKET: &str = "control.sock";
/// Maximum number of HTTP clients at a time.
const MAX_CLIENTS: usize = 16;
/// Timeout for the supervisor's answer. Prometheus itself waits 10 s.
const SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after accept(2) has failed. The connection stays in the kernel's queue, so poll(2) would report it again at once.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Answers scrapes until SIGTERM, or prints the metrics once.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    logging::init(PROGRAM, None, args.verbose);
    process::protect();
    if args.print {
        return std::io::stdout().write_all(page(&args.run).as_bytes()).map_err(Failure::system);
    }
    let address = args.listen;
    let socket = TcpListener::bind(address).map_err(|error| {
        Failure::System(format!("unable to listen on '{address}': {error}; choose another address with --listen"))
    })?;
    let address = socket.local_addr().map_err(Failure::system)?;
    let mut signals = Signals::new(&[SIGTERM, SIGINT]).map_err(Failure::system)?;
    // Each scrape reads the levels of all rooms, and the CPU time and memory of the daemons in /proc.
    Sandbox::default().permit(Access::Read, "/").enter(Strictness::BestEffort).map_err(Failure::system)?;
    log::info!("listening on http://{address}/metrics");
    notify::status(&format!("http://{address}/metrics"));
    notify::ready();
    serve(&socket, &mut signals, &args.run)?;
    notify::stopping();
    Ok(())
}

/// Accepts connections until a signal arrives. Each connection gets a thread, which ends at the latest after twice [`http::TIMEOUT`]
/// and once [`SUPERVISOR_TIMEOUT`]. Connections above [`MAX_CLIENTS`] are closed at once. A Palabre server has one or two Prometheus
/// servers as clients.
fn serve(socket: &TcpListener, signals: &mut Signals, run: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::System(format!("unable to wait for HTTP connections and signals: {error}"));
    socket.set_nonblocking(true).map_err(failed)?;
    // Its reference count counts the connected clients: it is their number plus one.
    let clients = Arc::new(());
    let mut accept_again = Instant::now();
    let mut is_failing = false;
    loop {
        let pause = Some(accept_again.saturating_duration_since(Instant::now())).filter(|pause| !pause.is_zero());
        let fds = [signals.as_fd(), socket.as_fd()];
        let ready = wait::readable(if pause.is_some() { &fds[..1] } else { &fds }, pause).map_err(failed)?;
        if signals.try_next().is_some() {
            return Ok(());
        }
        if ready.get(1) != Some(&true) {
            continue;
        }
        match socket.accept() {
            Ok(_) if Arc::strong_count(&clients) > MAX_CLIENTS => {
                log::debug!("refused a connection: the limit of {MAX_CLIENTS} clients is reached");
            }
            Ok((client, _)) => {
                is_failing = false;
                answer(client, Arc::clone(&clients), run.to_owned());
            }
            // Not a failure: the client disconnected before its connection was accepted.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => {}
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    log::warn!("unable to accept a connection: {error}; trying again every second");
                }
                accept_again = Instant::now() + ACCEPT_PAUSE;
            }
        }
    }
}

/// Answers one client in a new thread. The thread keeps `client_count` until it ends, so that the client is counted.
fn answer(client: TcpStream, client_count: Arc<()>, run: PathBuf) {
    let work = move || {
        let _client_count = client_count;
        if let Err(error) = http::answer(&client, || page(&run)) {
            log::debug!("unable to read or answer the request of a client: {error}");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("client".into()).spawn(work) {
        log::warn!("unable to start a thread for a client: {error}; its connection is closed without an answer");
    }
}

/// Returns the metrics as text. If the supervisor doesn't answer, the text contains only the metric `palabre_up` with the value 0.
fn page(run: &Path) -> String {
    let status = match control::request(&run.join(SOCKET), &Request::Status, SUPERVISOR_TIMEOUT) {
        Ok(Response::Status(status)) => Some(status),
        Ok(other) => {
            log::warn!(
                "unable to get the supervisor's status: the supervisor sent an unexpected answer, {other:?}; use programs of one release"
            );
            None
        }
        Err(error) => {
            log::warn!("unable to get the supervisor's status: {error}");
            None
        }
    };
    let measured = status.as_ref().map(|status| Measurements::now(run, status)).unwrap_or_default();
    openmetrics::text(metrics::families(status.as_ref(), &measured))
}
