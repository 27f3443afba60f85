//! Clients without a key, from many addresses of the loopback network.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use palabre_host::wait;

/// Interval between two connections.
const INTERVAL: Duration = Duration::from_micros(500);
/// Maximum number of connections that are open at the same time.
const OPEN: usize = 400;

/// A thread that opens 2000 connections per second, each from another address, and sends nothing.
pub(super) struct Crowd {
    stop: Arc<AtomicBool>,
    /// Number of connections that the listener has closed.
    closed: Arc<AtomicU64>,
    thread: JoinHandle<u64>,
}

impl Crowd {
    pub(super) fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let closed = Arc::new(AtomicU64::new(0));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&closed));
        Self { stop, closed, thread: std::thread::spawn(move || crowd(port, &stopped, &count)) }
    }

    /// Returns how many of the connections the listener has closed so far. A listener keeps at most 64 connections that have sent no ClientHello.
    pub(super) fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }

    /// Ends the thread. Returns the number of connections.
    pub(super) fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the thread of the crowd panicked"))
    }
}

fn crowd(port: u16, stopped: &AtomicBool, closed: &AtomicU64) -> u64 {
    let (mut open, mut count, began) = (VecDeque::new(), 0_u32, Instant::now());
    while !stopped.load(Ordering::Relaxed) {
        let [_, second, third, fourth] = (count % 0x00ff_ffff).to_be_bytes();
        open.extend(client(Ipv4Addr::new(127, 1 | second, third, fourth), port));
        if open.len() > OPEN
            && let Some(oldest) = open.pop_front()
            && wait::has_ended(&oldest)
        {
            closed.fetch_add(1, Ordering::Relaxed);
        }
        count += 1;
        std::thread::sleep((INTERVAL * count).saturating_sub(began.elapsed()));
    }
    u64::from(count)
}

/// Begins to connect from this address to this port of 127.0.0.1, without waiting for the connection. Returns the socket, or `None` if the attempt
/// fails at once.
fn client(from: Ipv4Addr, port: u16) -> Option<OwnedFd> {
    let [a, b, c, d] = from.octets();
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).ok()?;
    bind(socket.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0)).ok()?;
    match connect(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Some(socket),
        Err(_) => None,
    }
}
