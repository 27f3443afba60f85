//! Limits the number of connections, and the number of unauthenticated connections among them.
//!
//! Unauthenticated connections get at most half of the slots, so that the participant always gets a slot. If no slot is free, a new
//! connection may take the slot of an old one: the oldest unauthenticated connection of the network that has most of them. The old connection is
//! closed at once if its network has at least two more unauthenticated connections than the network of the new connection. Otherwise it is closed
//! only if it has had enough time to send a request with the access key. If it is not closed, the new connection is refused.
//!
//! A network from which a client has authenticated is a known network. If no slot is free, a new connection from a known network replaces an
//! unauthenticated connection from an unknown network at once. So unauthenticated clients with many addresses don't keep the participant out.
//!
//! This module also lists idle connections, which wait for another request. A process that is being replaced closes them first.
//! Otherwise a browser could send its next request on an idle connection, to this process instead of the next process.

use crate::handover::Handover;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Minimum time before an unauthenticated connection may be closed for a new one. It is enough for a handshake and a request over a
/// slow network.
const MIN_TIME: Duration = Duration::from_secs(2);

/// Maximum number of known networks. A participant uses few networks, and only clients with the participant's access key can add networks.
const MAX_KNOWN: usize = 16;

/// The slots of all connections.
#[derive(Debug)]
pub(crate) struct Slots {
    max: usize,
    handover: Arc<Handover>,
    state: Mutex<State>,
    busy: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    next_id: u64,
    /// Unauthenticated connections, the oldest first.
    unauthenticated: Vec<Unauthenticated>,
    /// Known networks, in the order in which clients last authenticated from them.
    known: VecDeque<IpAddr>,
    /// Connections that wait for another request, with the IDs of their slots.
    idle: Vec<(u64, Arc<TcpStream>)>,
}

#[derive(Debug)]
struct Unauthenticated {
    id: u64,
    since: Instant,
    network: IpAddr,
    tcp: Arc<TcpStream>,
}

impl Slots {
    pub(crate) fn new(max: usize, handover: Arc<Handover>) -> Arc<Self> {
        Arc::new(Self { max: max.max(2), handover, state: Mutex::default(), busy: AtomicUsize::new(0) })
    }

    /// Returns a slot for a new connection from this network, or `None` if no slot is free and none can be freed.
    pub(crate) fn take(self: &Arc<Self>, tcp: &TcpStream, network: IpAddr, now: Instant) -> Option<Slot> {
        let tcp = Arc::new(tcp.try_clone().ok()?);
        let mut state = self.state();
        if state.unauthenticated.len() >= self.max / 2 || state.taken >= self.max {
            let replaceable = state.replaceable(network, now)?;
            let closed = state.unauthenticated.remove(replaceable);
            // The thread of the closed connection notices the shutdown and ends. The connection's slot counts as free from now on.
            let _ = closed.tcp.shutdown(Shutdown::Both);
            state.taken -= 1;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.taken += 1;
        state.unauthenticated.push(Unauthenticated { id, since: now, network, tcp: Arc::clone(&tcp) });
        Some(Slot { slots: Arc::clone(self), id, network, tcp, is_authenticated: false })
    }

    /// Returns the number of connections with a request in progress.
    pub(crate) fn busy(&self) -> usize {
        self.busy.load(Ordering::Acquire)
    }

    /// Closes the connections that wait for another request. Call this after the handover has begun, when no more connections become idle.
    pub(crate) fn close_idle(&self) {
        let mut state = self.state();
        for (_, tcp) in state.idle.drain(..) {
            // The error is ignored: the connection may be closed already.
            let _ = tcp.shutdown(Shutdown::Both);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the index of the unauthenticated connection that a new connection from this network may replace.
    fn replaceable(&self, network: IpAddr, now: Instant) -> Option<usize> {
        if self.known.contains(&network)
            && let Some((unknown, _)) = self.oldest_of_most(|other| !self.known.contains(&other))
        {
            return Some(unknown);
        }
        let (index, most) = self.oldest_of_most(|_| true)?;
        let own = self.unauthenticated.iter().filter(|it| it.network == network).count();
        let is_late = now.saturating_duration_since(self.unauthenticated[index].since) >= MIN_TIME;
        (most >= own + 2 || is_late).then_some(index)
    }

    /// Calls the function [`oldest_of_most`] for the unauthenticated connections.
    fn oldest_of_most(&self, filter: impl Fn(IpAddr) -> bool) -> Option<(usize, usize)> {
        oldest_of_most(self.unauthenticated.iter().map(|it| it.network), filter)
    }

    /// Adds a network from which a client has authenticated to the known networks.
    fn know(&mut self, network: IpAddr) {
        self.known.retain(|it| *it != network);
        if self.known.len() >= MAX_KNOWN {
            self.known.pop_front();
        }
        self.known.push_back(network);
    }

    /// Removes a connection from the unauthenticated ones. Returns whether it was among them.
    fn remove_unauthenticated(&mut self, id: u64) -> bool {
        let before = self.unauthenticated.len();
        self.unauthenticated.retain(|it| it.id != id);
        self.unauthenticated.len() < before
    }
}

/// Finds the network with the most connections, among the networks for which `filter` returns true. `networks` has the network of each connection, the
/// oldest first. Returns the index of the network's oldest connection, and the number of its connections. If several networks have this number,
/// returns the oldest connection of all these networks.
pub(crate) fn oldest_of_most(
    networks: impl Iterator<Item = IpAddr> + Clone,
    filter: impl Fn(IpAddr) -> bool,
) -> Option<(usize, usize)> {
    let mut counts = BTreeMap::<IpAddr, usize>::new();
    for network in networks.clone().filter(|network| filter(*network)) {
        *counts.entry(network).or_default() += 1;
    }
    let most = *counts.values().max()?;
    let mut all = networks;
    Some((all.position(|network| counts.get(&network) == Some(&most))?, most))
}

/// The slot of one connection. Dropping the `Slot` frees it.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    id: u64,
    network: IpAddr,
    tcp: Arc<TcpStream>,
    is_authenticated: bool,
}

impl Slot {
    /// Marks the connection as waiting for another request. Returns `None` if this process answers no more requests after the current one.
    pub(crate) fn idle(&self) -> Option<Idle> {
        let mut state = self.slots.state();
        if !self.slots.handover.is_serving() {
            return None;
        }
        state.idle.push((self.id, Arc::clone(&self.tcp)));
        Some(Idle { slots: Arc::clone(&self.slots), id: self.id })
    }

    /// Marks the connection as authenticated. Returns whether it was not authenticated before.
    pub(crate) fn authenticated(&mut self) -> bool {
        let is_first = !std::mem::replace(&mut self.is_authenticated, true);
        if is_first {
            let mut state = self.slots.state();
            state.know(self.network);
            if !state.remove_unauthenticated(self.id) {
                // Another thread has just closed this connection for a new one, and its slot counted as free. It takes a slot again until it ends.
                state.taken += 1;
            }
        }
        is_first
    }

    pub(crate) fn is_authenticated(&self) -> bool {
        self.is_authenticated
    }

    /// Counts a request as in progress until the returned value is dropped.
    pub(crate) fn busy(&self) -> Busy {
        self.slots.busy.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(&self.slots))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.slots.state();
        if self.is_authenticated || state.remove_unauthenticated(self.id) {
            state.taken -= 1;
        }
    }
}

/// Marks a connection as waiting for another request, until the `Idle` is dropped.
#[derive(Debug)]
pub(crate) struct Idle {
    slots: Arc<Slots>,
    id: u64,
}

impl Idle {
    /// Marks the connection as no longer idle, because a request has arrived. Returns `false` if [`Slots::close_idle`] has closed it.
    pub(crate) fn end(self) -> bool {
        self.remove()
    }

    fn remove(&self) -> bool {
        let mut state = self.slots.state();
        let before = state.idle.len();
        state.idle.retain(|(id, _)| *id != self.id);
        state.idle.len() < before
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Counts a request as in progress, until the `Busy` is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Slots>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::handover::Reason;
    use std::net::{Ipv4Addr, TcpListener};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn slots() -> Arc<Slots> {
        Slots::new(4, Arc::new(Handover::new(None, Instant::now())))
    }

    fn tcp() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap()
    }

    #[test]
    fn unauthenticated_connections_get_half_of_the_slots() {
        let (slots, tcp, now) = (slots(), tcp(), Instant::now());
        let mut first = slots.take(&tcp, HERE, now).unwrap();
        let second = slots.take(&tcp, HERE, now).unwrap();
        assert!(slots.take(&tcp, HERE, now).is_none());
        first.authenticated();
        first.authenticated();
        let mut third = slots.take(&tcp, HERE, now).unwrap();
        third.authenticated();
        let fourth = slots.take(&tcp, HERE, now).unwrap();
        drop(second);
        let mut fifth = slots.take(&tcp, HERE, now).unwrap();
        fifth.authenticated();
        assert!(slots.take(&tcp, HERE, now).is_none(), "all four are taken");
        drop((first, third, fourth, fifth));
        assert_eq!(slots.state().taken, 0);
        assert!(slots.take(&tcp, HERE, now).is_some());
    }

    #[test]
    fn oldest_unauthenticated_connection_is_closed_for_a_new_one() {
        let (slots, tcp, now) = (slots(), tcp(), Instant::now());
        let mut first = slots.take(&tcp, HERE, now).unwrap();
        let second = slots.take(&tcp, HERE, now + MIN_TIME / 2).unwrap();
        let third = slots.take(&tcp, HERE, now + MIN_TIME).unwrap();
        assert!(slots.take(&tcp, HERE, now + MIN_TIME).is_none(), "the second is too new");
        assert_eq!(slots.state().taken, 2);
        // `first` was closed for `third`, and its slot was freed. Its thread authenticates only now, so it takes a slot again until the thread ends.
        first.authenticated();
        assert_eq!(slots.state().taken, 3);
        drop((first, second, third));
        assert_eq!(slots.state().taken, 0);
    }

    #[test]
    fn network_with_most_unauthenticated_connections_loses_one_at_once_to_another_network() {
        let slots = Slots::new(8, Arc::new(Handover::new(None, Instant::now())));
        let (tcp, now) = (tcp(), Instant::now());
        let crowd: Vec<Slot> = (0..4).map(|_| slots.take(&tcp, HERE, now).unwrap()).collect();
        assert!(slots.take(&tcp, HERE, now).is_none(), "a network doesn't replace its own connections at once");
        let networks = || slots.state().unauthenticated.iter().map(|it| (it.id, it.network)).collect::<Vec<_>>();
        let mut owner = slots.take(&tcp, ELSEWHERE, now).unwrap();
        assert_eq!(networks(), [(1, HERE), (2, HERE), (3, HERE), (4, ELSEWHERE)]);
        assert!(slots.take(&tcp, HERE, now).is_none(), "a crowded network doesn't replace another one");
        let late = slots.take(&tcp, HERE, now + MIN_TIME).unwrap();
        assert_eq!(networks(), [(2, HERE), (3, HERE), (4, ELSEWHERE), (5, HERE)]);
        let second = slots.take(&tcp, ELSEWHERE, now).unwrap();
        assert_eq!(networks(), [(3, HERE), (4, ELSEWHERE), (5, HERE), (6, ELSEWHERE)]);
        owner.authenticated();
        drop((crowd, owner, late, second));
        assert_eq!(slots.state().taken, 0);
    }

    #[test]
    fn connection_from_a_known_network_replaces_one_from_an_unknown_network_at_once() {
        let slots = Slots::new(8, Arc::new(Handover::new(None, Instant::now())));
        let (tcp, now) = (tcp(), Instant::now());
        slots.take(&tcp, HERE, now).unwrap().authenticated();
        let unknown = |last| IpAddr::V4(Ipv4Addr::new(198, 51, 100, last));
        let others: Vec<Slot> = (0..4).map(|last| slots.take(&tcp, unknown(last), now).unwrap()).collect();
        assert!(slots.take(&tcp, ELSEWHERE, now).is_none(), "an unknown network replaces none at once");
        let mut owner = slots.take(&tcp, HERE, now).unwrap();
        assert!(
            slots.take(&tcp, unknown(9), now).is_none(),
            "an unknown network replaces no connection from a known network at once"
        );
        owner.authenticated();
        drop((others, owner));
        assert_eq!(slots.state().taken, 0);
        for last in 0..u8::try_from(2 * MAX_KNOWN).unwrap() {
            slots.take(&tcp, unknown(last), now).unwrap().authenticated();
        }
        assert_eq!(slots.state().known.len(), MAX_KNOWN);
    }

    #[test]
    fn idle_connections_are_closed_and_none_becomes_idle_in_a_handover() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pair = || {
            let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (ours, listener.accept().unwrap().0)
        };
        let (slots, (waiting, _), (working, _other_end)) = (slots(), pair(), pair());
        let slot = slots.take(&waiting, HERE, Instant::now()).unwrap();
        let other = slots.take(&working, HERE, Instant::now()).unwrap();
        let idle = slot.idle().unwrap();
        assert!(other.idle().unwrap().end());
        slots.handover.begin(Reason::Stop, Instant::now());
        slots.close_idle();
        assert!(!idle.end() && slot.idle().is_none() && other.idle().is_none());
        let closed = |mut tcp: &TcpStream| std::io::Write::write(&mut tcp, b"x").is_err();
        assert!(closed(&waiting) && !closed(&working));
    }

    #[test]
    fn requests_in_progress_are_counted() {
        let slots = slots();
        let slot = slots.take(&tcp(), HERE, Instant::now()).unwrap();
        let busy = slot.busy();
        assert_eq!(slots.busy(), 1);
        drop(busy);
        assert_eq!(slots.busy(), 0);
    }
}
