//! The loop: wait for somebody who asks, ask the supervisor, answer.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use palabre_config::control::{self, Request, Response};
use palabre_host::exit::Failure;
use palabre_host::signals::{SIGINT, SIGTERM, Signals};
use palabre_host::{logging, notify, wait};

use crate::cli::{Args, PROGRAM};
use crate::metrics::{self, Seen};
use crate::{http, openmetrics};

/// The supervisor's socket in the directory of what runs.
const SOCKET: &str = "control.sock";
/// Clients at once.
const MAX_CLIENTS: usize = 16;
/// Prometheus itself waits ten seconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers until a signal comes, or prints once.
///
/// # Errors
/// The port is taken, or the system refuses what a daemon needs.
pub fn run(args: &Args) -> Result<(), Failure> {
    logging::init(PROGRAM, None, args.verbose);
    if args.print {
        return std::io::stdout().write_all(page(&args.run).as_bytes()).map_err(Failure::system);
    }
    let address = args.listen;
    let socket = TcpListener::bind(address).map_err(|error| {
        Failure::System(format!("unable to listen on '{address}': {error}; choose another address with --listen"))
    })?;
    let address = socket.local_addr().map_err(Failure::system)?;
    let mut signals = Signals::new(&[SIGTERM, SIGINT]).map_err(Failure::system)?;
    log::info!("answering on http://{address}/metrics");
    notify::status(&format!("http://{address}/metrics"));
    notify::ready();
    serve(&socket, &mut signals, &args.run)?;
    notify::stopping();
    Ok(())
}

/// Each in a thread of its own, which lives as long as a slow client may take, twice [`http::DEADLINE`]. There is one Prometheus or two;
/// who comes when there are many more is closed at once.
fn serve(socket: &TcpListener, signals: &mut Signals, run: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::System(format!("unable to wait for connections: {error}"));
    socket.set_nonblocking(true).map_err(failed)?;
    let places = Arc::new(());
    loop {
        let ready = wait::readable(&[socket.as_fd(), signals.as_fd()], None).map_err(failed)?;
        if signals.try_next().is_some() {
            return Ok(());
        }
        if !ready[0] {
            continue;
        }
        match socket.accept() {
            Ok(_) if Arc::strong_count(&places) > MAX_CLIENTS => {
                log::debug!("a client was refused: there are too many");
            }
            Ok((client, _)) => answer(client, Arc::clone(&places), run.to_owned()),
            Err(error) => log::debug!("unable to accept a connection: {error}"),
        }
    }
}

/// `place` is taken until the thread ends.
fn answer(client: TcpStream, place: Arc<()>, run: PathBuf) {
    let work = move || {
        let _place = place;
        if let Err(error) = http::answer(&client, || page(&run)) {
            log::debug!("a client left: {error}");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("client".into()).spawn(work) {
        log::warn!("unable to start a thread: {error}");
    }
}

/// The metrics now; that the supervisor doesn't answer is one of them.
fn page(run: &Path) -> String {
    let status = match control::request(&run.join(SOCKET), &Request::Status, PATIENCE) {
        Ok(Response::Status(status)) => Some(status),
        Ok(other) => {
            log::warn!("unable to ask the supervisor: unexpected answer {other:?}");
            None
        }
        Err(error) => {
            log::warn!("unable to ask the supervisor: {error}");
            None
        }
    };
    let seen = status.as_ref().map(|status| Seen::now(run, status)).unwrap_or_default();
    openmetrics::text(metrics::families(status.as_ref(), &seen))
}
