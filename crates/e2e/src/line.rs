//! A far or a bad line on loopback: a proxy that delays what passes, in order, as TCP does. What it can't delay is the
//! handshake of TCP itself.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Result;

const PIECE_BYTES: usize = 64 * 1024;

/// How bad it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Badness {
    /// From one end to the other and back; half of it each way.
    pub rtt: Duration,
    /// Every piece that comes from the server is delayed by 0 to this more, evenly distributed.
    pub jitter: Duration,
    /// One of these pieces in so many waits longer; 0: none.
    pub stall_every: u32,
    /// How much longer.
    pub stall: Duration,
}

/// A line to a port of this machine; it serves until the process ends.
#[derive(Debug)]
pub struct Line {
    /// Where the line begins.
    pub port: u16,
}

impl Line {
    /// A line to `port`.
    ///
    /// # Errors
    /// There is no free port.
    pub fn to(port: u16, badness: Badness) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let line = Self { port: listener.local_addr()?.port() };
        std::thread::spawn(move || {
            for (client, seed) in listener.incoming().flatten().zip(1..) {
                // A server that has gone closes the client's connection, as it would without a line.
                let _ = connect(client, port, badness, seed);
            }
        });
        Ok(line)
    }
}

fn connect(client: TcpStream, port: u16, badness: Badness, seed: u32) -> Result<()> {
    let server = TcpStream::connect(("127.0.0.1", port))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (up_from, up_to) = (client.try_clone()?, server.try_clone()?);
    carry(up_from, up_to, Badness { rtt: badness.rtt, ..Badness::default() }, seed);
    carry(server, client, badness, seed);
    Ok(())
}

fn carry(from: TcpStream, to: TcpStream, badness: Badness, seed: u32) {
    let (give, take) = channel();
    std::thread::spawn(move || delay(from, &give, badness, seed));
    std::thread::spawn(move || deliver(to, &take));
}

fn delay(mut from: TcpStream, give: &Sender<(Instant, Vec<u8>)>, badness: Badness, seed: u32) {
    let mut chance = seed;
    let mut next = move || {
        // Numerical Recipes' linear congruential generator; its upper bits are good enough for a network.
        chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        chance >> 8
    };
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        let mut due = Instant::now() + badness.rtt / 2 + badness.jitter * (next() % 1000) / 1000;
        if badness.stall_every > 0 && next() % badness.stall_every == 0 {
            due += badness.stall;
        }
        if give.send((due, piece[..count].to_vec())).is_err() {
            return;
        }
    }
}

fn deliver(mut to: TcpStream, take: &Receiver<(Instant, Vec<u8>)>) {
    // In order: who has to wait makes all wait that come after.
    while let Ok((due, piece)) = take.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
