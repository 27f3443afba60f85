//! A proxy on loopback that simulates a slow or bad network: it delays the data, limits their rate and can stall, and keeps their order, as
//! TCP does. The proxy can't delay the TCP handshake.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

const PIECE_BYTES: usize = 64 * 1024;
/// Size of the pieces on a line with a limited rate: the payload of one TCP segment, of which a browser sees each when it arrives.
const SEGMENT_BYTES: usize = 1448;
/// Maximum time for which data of a line with a limited rate wait in the proxy, as in the buffer of a modem. Then the proxy reads no more, so
/// the sender's TCP buffer fills.
const MAX_QUEUE: Duration = Duration::from_millis(100);
/// Interval between checks whether a stalled line carries data again.
const POLL: Duration = Duration::from_millis(10);

/// The delays of a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delays {
    /// Round-trip time. Half of it is added each way.
    pub rtt: Duration,
    /// Maximum random delay of each piece from the server, evenly distributed.
    pub jitter: Duration,
    /// On average, one of this many pieces from the server is delayed by `stall` in addition. 0 means none.
    pub stall_every: u32,
    /// Additional delay of one piece in `stall_every` from the server.
    pub stall: Duration,
    /// Maximum rate of the data in each direction of each connection. 0 means no limit.
    pub bits_per_s: u32,
    /// Whether the line carries no data in either direction, until [`Line::change`] ends the stall.
    pub is_stalled: bool,
}

impl Delays {
    /// Returns the time in which the line transmits this number of bytes.
    fn transmission(&self, bytes: usize) -> Duration {
        match self.bits_per_s {
            0 => Duration::ZERO,
            rate => Duration::from_secs_f64(8.0 * bytes as f64 / f64::from(rate)),
        }
    }
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
    let up = move || {
        let Delays { rtt, bits_per_s, .. } = current(&up);
        Delays { rtt, bits_per_s, ..Delays::default() }
    };
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
    let mut sent = Instant::now();
    loop {
        let limit = if delays().bits_per_s > 0 { SEGMENT_BYTES } else { PIECE_BYTES };
        let Ok(count @ 1..) = from.read(&mut piece[..limit]) else { return };
        let delays = delays();
        sent = sent.max(Instant::now()) + delays.transmission(count);
        std::thread::sleep(sent.saturating_duration_since(Instant::now() + MAX_QUEUE));
        let mut due = sent + delays.rtt / 2 + delays.jitter * (next() % 1000) / 1000;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn line_with_a_limited_rate_needs_the_time_of_transmission() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let delays = Delays { bits_per_s: 800_000, ..Delays::default() };
        let line = Line::to(server.local_addr().unwrap().port(), delays).unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", line.port)).unwrap();
        let (mut from_client, _) = server.accept().unwrap();
        let started = Instant::now();
        client.write_all(&[1; 50_000]).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut received = Vec::new();
        from_client.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), 50_000);
        // At 100 000 bytes per second, 50 000 bytes take half a second.
        assert!(started.elapsed() >= Duration::from_millis(500), "{:?}", started.elapsed());
    }
}
