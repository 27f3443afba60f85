//! A proxy on loopback that simulates a slow or bad network: it delays the data in both directions and keeps their order, as TCP does. The
//! proxy can't delay the TCP handshake.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

const PIECE_BYTES: usize = 64 * 1024;
/// Interval between checks whether a stalled line carries data again.
const POLL: Duration = Duration::from_millis(10);

/// The delays of a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delays {
    /// Round-trip time. Half of it is added each way.
    pub rtt: Duration,
    /// Maximum random delay of each piece from the server, evenly distributed.
    pub jitter: Duration,
    /// On average, one of this many pieces is delayed by `stall` in addition. 0 means none.
    pub stall_every: u32,
    /// Additional delay of one piece in `stall_every`.
    pub stall: Duration,
    /// Whether the line carries no data in either direction, until [`Line::change`] ends the stall.
    pub is_stalled: bool,
}

/// A line to a local port. It runs until the process ends.
#[derive(Debug)]
pub struct Line {
    /// Port of the proxy.
    pub port: u16,
    delays: Arc<Mutex<Delays>>,
    held: Arc<AtomicUsize>,
}

impl Line {
    /// Starts a proxy to `port`.
    pub fn to(port: u16, delays: Delays) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let delays = Arc::new(Mutex::new(delays));
        let held = Arc::new(AtomicUsize::new(0));
        let line = Self { port: listener.local_addr()?.port(), delays: Arc::clone(&delays), held: Arc::clone(&held) };
        std::thread::spawn(move || {
            for (client, seed) in listener.incoming().flatten().zip(1..) {
                // If the server doesn't accept the connection, the client's connection is closed, as it would be without a proxy.
                let _ = connect(client, port, &delays, &held, seed);
            }
        });
        Ok(line)
    }

    /// Changes the delays of later pieces on new and open connections.
    pub fn change(&self, delays: Delays) {
        *self.delays.lock().unwrap_or_else(PoisonError::into_inner) = delays;
    }

    /// Returns the number of directions of connections in which data wait for the end of a stall.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

fn connect(
    client: TcpStream,
    port: u16,
    delays: &Arc<Mutex<Delays>>,
    held: &Arc<AtomicUsize>,
    seed: u32,
) -> Result<()> {
    let server = TcpStream::connect(("127.0.0.1", port))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (up_from, up_to) = (client.try_clone()?, server.try_clone()?);
    let (up, down) = (Arc::clone(delays), Arc::clone(delays));
    let (up_stalled, down_stalled) = (Arc::clone(delays), Arc::clone(delays));
    let up = move || Delays { rtt: current(&up).rtt, ..Delays::default() };
    carry(up_from, up_to, up, move || current(&up_stalled).is_stalled, Arc::clone(held), seed);
    carry(server, client, move || current(&down), move || current(&down_stalled).is_stalled, Arc::clone(held), seed);
    Ok(())
}

fn current(delays: &Mutex<Delays>) -> Delays {
    *delays.lock().unwrap_or_else(PoisonError::into_inner)
}

fn carry(
    from: TcpStream,
    to: TcpStream,
    delays: impl Fn() -> Delays + Send + 'static,
    is_stalled: impl Fn() -> bool + Send + 'static,
    held: Arc<AtomicUsize>,
    seed: u32,
) {
    let (give, take) = channel();
    std::thread::spawn(move || delay(from, &give, delays, seed));
    std::thread::spawn(move || deliver(to, &take, is_stalled, &held));
}

fn delay(mut from: TcpStream, give: &Sender<(Instant, Vec<u8>)>, delays: impl Fn() -> Delays, seed: u32) {
    let mut chance = seed;
    let mut next = move || {
        // The linear congruential generator of Numerical Recipes. Its upper bits are random enough for delays.
        chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        chance >> 8
    };
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        let delays = delays();
        let mut due = Instant::now() + delays.rtt / 2 + delays.jitter * (next() % 1000) / 1000;
        if delays.stall_every > 0 && next() % delays.stall_every == 0 {
            due += delays.stall;
        }
        if give.send((due, piece[..count].to_vec())).is_err() {
            return;
        }
    }
}

fn deliver(mut to: TcpStream, take: &Receiver<(Instant, Vec<u8>)>, is_stalled: impl Fn() -> bool, held: &AtomicUsize) {
    // Pieces are delivered in order, so a delayed piece delays all following pieces.
    while let Ok((due, piece)) = take.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        held.fetch_add(1, Ordering::Relaxed);
        while is_stalled() {
            std::thread::sleep(POLL);
        }
        held.fetch_sub(1, Ordering::Relaxed);
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
