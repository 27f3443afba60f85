//! The main loop: waits for sound, texts, messages of other machines, signals and a timer.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::task::Poll;
use std::time::Duration;

use async_nats::Event;
use futures_util::StreamExt;
use palabre_config::{Bridge as Settings, SERVER_FILE, Server};
use palabre_host::exit::Failure;
use palabre_host::signals::{SIGINT, SIGTERM, Signals};
use palabre_host::{logging, notify, process};
use palabre_room::{Format, Name, RoomDir};
use tokio::io::unix::AsyncFd;
use tokio::time::{MissedTickBehavior, interval};

use crate::bridge::Bridge;
use crate::check;
use crate::cli::{Args, PROGRAM};
use crate::link::Link;
use crate::nkey;
use crate::room::polled;

/// Interval between two calls of [`Bridge::turn`] while no event arrives.
const TURN_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum number of received messages that are handled between two calls of [`Bridge::turn`].
const MAX_MESSAGES: usize = 64;
/// Maximum number of different problems of the connection that are logged. Each new connection to the server resets the number.
const MAX_PROBLEMS: usize = 16;
/// Timeout for sending the last messages before the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Connects the rooms until a signal arrives; with `--new-nkey` or `--check`, does only what this option says.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if let Some(path) = &args.new_nkey {
        return nkey::create(path);
    }
    let Server { bridge: settings, format, .. } = Server::load(&args.config).map_err(Failure::config)?;
    let file = args.config.join(SERVER_FILE);
    let machine = settings.machine.as_ref().filter(|_| !settings.rooms.is_empty() && !settings.servers.is_empty());
    let machine = machine.ok_or_else(|| {
        let file = file.display();
        Failure::config(format!(
            "unable to connect: '{file}' shares no room; set 'machine', 'rooms' and 'servers' in [bridge]"
        ))
    })?;
    if !args.check {
        logging::init(PROGRAM, Some(machine.as_str()), args.verbose);
    }
    process::protect();
    process::share_with_the_group_only();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    runtime.map_err(|error| Failure::system(format!("unable to start: {error}")))?.block_on(async {
        match args.check {
            true => {
                let rates_hz = rates_hz(&settings, &args.run, format);
                check::run(&mut Link::open(&settings, machine).await?, machine, &rates_hz, args.json).await
            }
            false => connect(&settings, machine, &args.run).await,
        }
    })
}

/// Returns the sample rate of each shared room in Hz. A room whose directory doesn't exist will have the format in palabre.toml.
fn rates_hz(settings: &Settings, run: &Path, format: Format) -> BTreeMap<Name, u32> {
    let rate_hz = |room: &Name| {
        let dir = RoomDir::new(run.join("rooms").join(room));
        if dir.path().is_dir() { dir.format().unwrap_or(format) } else { format }.rate.hz()
    };
    settings.rooms.iter().map(|room| (room.clone(), rate_hz(room))).collect()
}

async fn connect(settings: &Settings, machine: &Name, run: &Path) -> Result<(), Failure> {
    let signals = Signals::new(&[SIGTERM, SIGINT]).map_err(Failure::system)?;
    let mut link = Link::open(settings, machine).await?;
    let mut bridge = Bridge::new(settings, machine, run);
    notify::ready();
    let ended = serve(&mut bridge, &mut link, signals).await;
    notify::stopping();
    bridge.end(&mut link);
    link.flush(FLUSH_TIMEOUT).await;
    ended
}

async fn serve(bridge: &mut Bridge, link: &mut Link, mut signals: Signals) -> Result<(), Failure> {
    let signalled = polled(&signals).map_err(Failure::system)?;
    let mut problems = BTreeSet::new();
    let mut turns = interval(TURN_INTERVAL);
    turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let descriptors =
            std::iter::once(&signalled).chain(bridge.rooms.iter().flat_map(crate::room::Room::descriptors));
        let descriptors: Vec<_> = descriptors.collect();
        let mut received = None;
        tokio::select! {
            () = any_readable(&descriptors) => {}
            Some(message) = link.messages.next() => received = Some(message),
            Some(event) = link.events.recv() => log_event(bridge, &event, &mut problems),
            _ = turns.tick() => {}
        }
        for _ in 0..MAX_MESSAGES {
            let Some(message) = received.take() else { break };
            bridge.receive(&message)?;
            received = poll_fn(|cx| match link.messages.poll_next_unpin(cx) {
                Poll::Ready(message) => Poll::Ready(message),
                Poll::Pending => Poll::Ready(None),
            })
            .await;
        }
        received.iter().try_for_each(|message| bridge.receive(message))?;
        bridge.turn(link);
        if signals.try_next().is_some() {
            return Ok(());
        }
    }
}

/// Waits until one of the descriptors is readable. The caller must then read each descriptor until it is empty.
async fn any_readable(descriptors: &[&AsyncFd<OwnedFd>]) {
    poll_fn(|cx| {
        let mut is_readable = false;
        for descriptor in descriptors {
            if let Poll::Ready(Ok(mut guard)) = descriptor.poll_read_ready(cx) {
                guard.clear_ready();
                is_readable = true;
            }
        }
        if is_readable { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Logs an event of the connection. The same problem is logged only once until the server is connected again.
fn log_event(bridge: &mut Bridge, event: &Event, problems: &mut BTreeSet<String>) {
    let problem = match event {
        Event::Connected => {
            problems.clear();
            log::info!("connected to the NATS server");
            return bridge.connected();
        }
        Event::SlowConsumer(_) => return log::debug!("{event}"),
        Event::LameDuckMode => {
            "the NATS server will stop (lame duck mode); this machine connects again when the server has closed the connection"
                .to_owned()
        }
        Event::Disconnected => "the connection to the NATS server is lost; trying again".to_owned(),
        _ => format!("the NATS server or the connection to it reports a problem: {event}"),
    };
    if problems.len() < MAX_PROBLEMS && !problems.contains(&problem) {
        log::warn!("{problem}");
        problems.insert(problem);
    }
}
