//! How many connections there are at once, and how many of them by strangers.
//!
//! A stranger is a connection that has not shown the key yet. Strangers get half of the places at most, so that those who
//! have shown it find one. When there is no place the newest is refused; but a stranger who has had time enough to show the
//! key makes room first, or a few who only sit there would keep everyone else out.
//!
//! It also knows who only waits for a next request: a process that leaves closes these before it says so, or a browser would
//! ask it once more, on a connection that it kept, and be sent away again.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a stranger is left alone: a handshake and a request over a slow network.
const TIME_ENOUGH: Duration = Duration::from_secs(2);

/// The places.
#[derive(Debug)]
pub struct Gate {
    max: usize,
    places: Mutex<Places>,
    busy: AtomicUsize,
}

#[derive(Debug, Default)]
struct Places {
    taken: usize,
    next: u64,
    /// In the order in which they came.
    strangers: Vec<Stranger>,
    /// Connections between two requests.
    idle: Vec<(u64, Arc<TcpStream>)>,
    /// Nobody may wait for another request any more.
    closing: bool,
}

#[derive(Debug)]
struct Stranger {
    id: u64,
    since: Instant,
    tcp: Arc<TcpStream>,
}

impl Gate {
    /// A gate with `max` places.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max: max.max(2), places: Mutex::default(), busy: AtomicUsize::new(0) })
    }

    /// A place for a connection that has just come, if there is one.
    pub fn enter(self: &Arc<Self>, tcp: &TcpStream, now: Instant) -> Option<Place> {
        let tcp = Arc::new(tcp.try_clone().ok()?);
        let mut places = self.places();
        if places.strangers.len() >= self.max / 2 || places.taken >= self.max {
            let oldest = places
                .strangers
                .first()
                .filter(|stranger| now.saturating_duration_since(stranger.since) >= TIME_ENOUGH)?;
            // Its thread sees the end and leaves; its place is counted as free from now on.
            let _ = oldest.tcp.shutdown(Shutdown::Both);
            places.strangers.remove(0);
            places.taken -= 1;
        }
        let id = places.next;
        places.next += 1;
        places.taken += 1;
        places.strangers.push(Stranger { id, since: now, tcp: Arc::clone(&tcp) });
        Some(Place { gate: Arc::clone(self), id, tcp, is_stranger: true })
    }

    /// How many connections are in the middle of a request.
    pub fn busy(&self) -> usize {
        self.busy.load(Ordering::Acquire)
    }

    /// Closes the connections that only wait for another request; from now on none may begin to.
    pub fn close_idle(&self) {
        let mut places = self.places();
        places.closing = true;
        for (_, tcp) in places.idle.drain(..) {
            // It may be closed already.
            let _ = tcp.shutdown(Shutdown::Both);
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    /// Whether it was still there.
    fn forget_stranger(&mut self, id: u64) -> bool {
        let before = self.strangers.len();
        self.strangers.retain(|stranger| stranger.id != id);
        self.strangers.len() < before
    }
}

/// A connection's place; dropping it frees it.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    id: u64,
    tcp: Arc<TcpStream>,
    is_stranger: bool,
}

impl Place {
    /// The connection waits for another request as long as this exists; none if it may not.
    pub fn idle(&self) -> Option<Idle> {
        let mut places = self.gate.places();
        if places.closing {
            return None;
        }
        places.idle.push((self.id, Arc::clone(&self.tcp)));
        Some(Idle { gate: Arc::clone(&self.gate), id: self.id })
    }

    /// The connection has shown the key.
    pub fn proven(&mut self) {
        if std::mem::take(&mut self.is_stranger) {
            let mut places = self.gate.places();
            if !places.forget_stranger(self.id) {
                // It was shown out in this very moment; what it does until it notices is counted.
                places.taken += 1;
            }
        }
    }

    /// Whether it has not.
    pub fn is_stranger(&self) -> bool {
        self.is_stranger
    }

    /// The connection is in the middle of a request as long as this exists.
    pub fn busy(&self) -> Busy {
        self.gate.busy.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(&self.gate))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.gate.places();
        if !self.is_stranger || places.forget_stranger(self.id) {
            places.taken -= 1;
        }
    }
}

/// See [`Place::idle`].
#[derive(Debug)]
pub struct Idle {
    gate: Arc<Gate>,
    id: u64,
}

impl Idle {
    /// A request has come. False if the connection was closed before: its answer would not arrive.
    pub fn over(self) -> bool {
        self.leave()
    }

    fn leave(&self) -> bool {
        let mut places = self.gate.places();
        let before = places.idle.len();
        places.idle.retain(|(id, _)| *id != self.id);
        places.idle.len() < before
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.leave();
    }
}

/// See [`Place::busy`].
#[derive(Debug)]
pub struct Busy(Arc<Gate>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn tcp() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap()
    }

    #[test]
    fn strangers_get_half_of_the_places_and_the_proven_all() {
        let (gate, tcp, now) = (Gate::new(4), tcp(), Instant::now());
        let mut first = gate.enter(&tcp, now).unwrap();
        let second = gate.enter(&tcp, now).unwrap();
        assert!(gate.enter(&tcp, now).is_none());
        first.proven();
        first.proven();
        let mut third = gate.enter(&tcp, now).unwrap();
        third.proven();
        let fourth = gate.enter(&tcp, now).unwrap();
        drop(second);
        let mut fifth = gate.enter(&tcp, now).unwrap();
        fifth.proven();
        assert!(gate.enter(&tcp, now).is_none(), "four are in");
        drop((first, third, fourth, fifth));
        assert_eq!(gate.places().taken, 0);
        assert!(gate.enter(&tcp, now).is_some());
    }

    #[test]
    fn a_stranger_who_only_sits_there_makes_room_for_the_newest() {
        let (gate, tcp, now) = (Gate::new(4), tcp(), Instant::now());
        let mut first = gate.enter(&tcp, now).unwrap();
        let second = gate.enter(&tcp, now + TIME_ENOUGH / 2).unwrap();
        let third = gate.enter(&tcp, now + TIME_ENOUGH).unwrap();
        assert!(gate.enter(&tcp, now + TIME_ENOUGH).is_none(), "the second has just come");
        assert_eq!(gate.places().taken, 2);
        // Too late: it was shown out, and is counted until it has noticed.
        first.proven();
        assert_eq!(gate.places().taken, 3);
        drop((first, second, third));
        assert_eq!(gate.places().taken, 0);
    }

    #[test]
    fn who_only_waits_is_closed_and_nobody_may_wait_any_more() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pair = || {
            let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (ours, listener.accept().unwrap().0)
        };
        let (gate, (waiting, _), (working, _other_end)) = (Gate::new(4), pair(), pair());
        let place = gate.enter(&waiting, Instant::now()).unwrap();
        let other = gate.enter(&working, Instant::now()).unwrap();
        let idle = place.idle().unwrap();
        assert!(other.idle().unwrap().over());
        gate.close_idle();
        assert!(!idle.over() && place.idle().is_none() && other.idle().is_none());
        let closed = |mut tcp: &TcpStream| std::io::Write::write(&mut tcp, b"x").is_err();
        assert!(closed(&waiting) && !closed(&working));
    }

    #[test]
    fn a_request_in_progress_is_counted() {
        let gate = Gate::new(4);
        let place = gate.enter(&tcp(), Instant::now()).unwrap();
        let busy = place.busy();
        assert_eq!(gate.busy(), 1);
        drop(busy);
        assert_eq!(gate.busy(), 0);
    }
}
