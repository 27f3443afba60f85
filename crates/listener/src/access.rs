//! The access log: one line when a client connects, one when it has left, and one for a refused access key, each with the client's address.
//!
//! A browser opens and closes many connections, so connections aren't logged. A visit begins with the first request with a valid access key
//! from an address, and ends when no such request has been in progress for some seconds.
//!
//! A line contains only texts of this program and addresses that were parsed, so no client can forge a line or an address.

use crate::auth::KeyFault;
use crate::http::Head;
use crate::waker::Waker;
use log::Level;
use palabre_config::{ClientAddress, Proxy};
use palabre_host::log_limit::LogLimit;
use palabre_host::rate_limit::RateLimit;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time without a request after which a visit has ended. A page that lost its connections opens new ones within this time.
const VISIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of visits without a request in progress. If there are more, the visit with the earliest last request ends.
const MAX_IDLE_VISITS: usize = 64;
/// Maximum number of addresses whose refused keys are counted. If there are more, the least recent address is forgotten.
const MAX_REFUSED: usize = 64;

/// The access log of a listener.
#[derive(Debug)]
pub(crate) struct Access {
    /// The proxies that may report the address of a client.
    pub(crate) proxy: Proxy,
    visits: Mutex<HashMap<IpAddr, Visit>>,
    /// Rate limit for the lines about visits, since a client may have many addresses.
    visit_lines: LogLimit,
    refused: Mutex<Refused>,
    /// Wakes the main thread, which ends visits.
    main_thread: Arc<Waker>,
}

/// Consecutive requests from one address.
#[derive(Debug)]
struct Visit {
    began: Instant,
    /// Number of requests in progress.
    busy: usize,
    /// Time when the last request ended.
    ended: Instant,
}

/// A request in progress. Dropping it ends the request.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    access: &'a Access,
    address: IpAddr,
}

impl Access {
    pub(crate) fn new(proxy: Proxy, main_thread: Arc<Waker>) -> Self {
        let (visit_lines, refused) = (LogLimit::new(1.0, 100.0), Mutex::new(Refused::new()));
        Self { proxy, visits: Mutex::default(), visit_lines, refused, main_thread }
    }

    /// Returns the address of the client that sent a request. `connected` is the other end of the connection, or the address in the header
    /// of the PROXY protocol.
    pub(crate) fn client(&self, connected: IpAddr, head: &Head) -> IpAddr {
        let mut client = connected.to_canonical();
        if self.proxy.client_address == ClientAddress::XForwardedFor {
            let fields: Vec<&str> = head.all("x-forwarded-for").flat_map(|value| value.split(',')).collect();
            // Each proxy appends the address of its client. So read from the end, and believe only what a trusted proxy appended.
            for field in fields.iter().rev() {
                match field.trim().parse::<IpAddr>() {
                    Ok(address) if self.proxy.trusts(client) => client = address.to_canonical(),
                    _ => break,
                }
            }
        }
        client
    }

    /// Returns whether a trusted HTTP proxy connects from this address. Browsers then see the proxy's certificate, not the listener's.
    pub(crate) fn is_http_proxy(&self, connected: IpAddr) -> bool {
        self.proxy.client_address == ClientAddress::XForwardedFor && self.proxy.trusts(connected)
    }

    /// Notes that a request with a valid access key has begun.
    pub(crate) fn request(&self, address: IpAddr, now: Instant) -> Request<'_> {
        let mut visits = self.visits();
        let visit = visits.entry(address).or_insert_with(|| {
            self.visit_lines.log(Level::Info, now, format_args!("connected from {address}"));
            Visit { began: now, busy: 0, ended: now }
        });
        visit.busy += 1;
        Request { access: self, address }
    }

    /// Ends the visits whose timeout has passed. Returns the time at which to call this function again.
    pub(crate) fn tick(&self, now: Instant) -> Option<Instant> {
        self.end_visits(|visit| visit.busy == 0 && visit.ended + VISIT_TIMEOUT <= now, now);
        self.visits().values().filter(|visit| visit.busy == 0).map(|visit| visit.ended + VISIT_TIMEOUT).min()
    }

    /// Ends all visits, before the process exits.
    pub(crate) fn end(&self, now: Instant) {
        self.end_visits(|_| true, now);
    }

    fn end_visits(&self, is_over: impl Fn(&Visit) -> bool, now: Instant) {
        self.visits().retain(|address, visit| {
            let is_over = is_over(visit);
            if is_over {
                self.log_end(*address, visit, now);
            }
            !is_over
        });
    }

    fn log_end(&self, address: IpAddr, visit: &Visit, now: Instant) {
        let until = if visit.busy > 0 { now } else { visit.ended };
        let seconds = until.saturating_duration_since(visit.began).as_secs();
        self.visit_lines.log(
            Level::Info,
            now,
            format_args!("the client at {address} has disconnected after {seconds} s"),
        );
    }

    fn request_ended(&self, address: IpAddr, now: Instant) {
        let mut visits = self.visits();
        let Some(visit) = visits.get_mut(&address) else { return };
        (visit.busy, visit.ended) = (visit.busy.saturating_sub(1), now);
        if visit.busy > 0 {
            return;
        }
        let idle = || visits.iter().filter(|(_, visit)| visit.busy == 0);
        if idle().count() > MAX_IDLE_VISITS
            && let Some(earliest) = idle().min_by_key(|(_, visit)| visit.ended).map(|(address, _)| *address)
            && let Some(visit) = visits.remove(&earliest)
        {
            self.log_end(earliest, &visit, now);
        }
        drop(visits);
        self.main_thread.wake();
    }

    /// Logs that the access key of a request was refused. fail2ban counts the lines about wrong keys.
    pub(crate) fn refused(&self, fault: KeyFault, key: &str, address: IpAddr, now: Instant) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_repeated(key, address) {
            return;
        }
        let Some(suppressed) = refused.admit(address, now) else { return };
        drop(refused);
        let others = if suppressed > 0 { format!(" ({suppressed} more messages suppressed)") } else { String::new() };
        match fault {
            // A page of another site can make a participant's browser send wrong keys. These keys must not cause a ban of the participant's address.
            KeyFault::Foreign => {
                log::info!("refused an access key that a page of another site sent, from {address}{others}");
            }
            KeyFault::Wrong => log::info!("refused a wrong access key from {address}{others}"),
            KeyFault::Old => {
                log::info!("refused an access key or a cookie that is no longer valid from {address}{others}");
            }
            KeyFault::Suspended => {
                log::info!("refused the access key of a suspended participant from {address}{others}");
            }
        }
    }

    fn visits(&self) -> MutexGuard<'_, HashMap<IpAddr, Visit>> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.access.request_ended(self.address, Instant::now());
    }
}

/// Rate limits for the lines about refused keys: for each address, so that a flood from one address leaves room for the lines about others,
/// and for all addresses together.
#[derive(Debug)]
struct Refused {
    all: RateLimit,
    /// Rate limits of the most recent addresses, the most recent last.
    recent: Vec<(IpAddr, RateLimit)>,
    suppressed: u64,
    /// Hashes of the last refused keys, with their addresses.
    keys: VecDeque<(IpAddr, u64)>,
    hasher: RandomState,
}

impl Refused {
    fn new() -> Self {
        let (all, keys, hasher) = (RateLimit::new(0.5, 100.0), VecDeque::new(), RandomState::new());
        Self { all, recent: Vec::new(), suppressed: 0, keys, hasher }
    }

    /// Returns whether this address has sent this key lately, and remembers the key. A page or program with an old key repeats it. A client that
    /// guesses keys never repeats one.
    fn is_repeated(&mut self, key: &str, address: IpAddr) -> bool {
        let sent = (network(address), self.hasher.hash_one(key));
        if self.keys.contains(&sent) {
            return true;
        }
        self.keys.push_back(sent);
        if self.keys.len() > MAX_REFUSED {
            self.keys.pop_front();
        }
        false
    }

    /// Returns how many lines were suppressed since the last logged line, or `None` if the present line is suppressed too.
    fn admit(&mut self, address: IpAddr, now: Instant) -> Option<u64> {
        let network = network(address);
        let known = self.recent.iter().position(|(known, _)| *known == network);
        let (_, mut limit) =
            known.map_or_else(|| (network, RateLimit::new(0.05, 10.0)), |index| self.recent.remove(index));
        let admitted = limit.admit(now) && self.all.admit(now);
        if self.recent.len() >= MAX_REFUSED {
            self.recent.remove(0);
        }
        self.recent.push((network, limit));
        if admitted {
            return Some(std::mem::take(&mut self.suppressed));
        }
        self.suppressed += 1;
        None
    }
}

/// Returns the address, or the first 64 bits of an IPv6 address: a client usually has all addresses with the same 64 bits. An IPv4 address
/// that is mapped into IPv6 is an IPv4 address.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address @ IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http::head::parse;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn access(trusted: &[&str], client_address: ClientAddress) -> Access {
        let addresses = trusted.iter().map(|address| ip(address)).collect();
        Access::new(Proxy { addresses, client_address }, Arc::new(Waker::new().unwrap()))
    }

    #[test]
    fn address_of_the_client_is_the_one_appended_by_a_trusted_proxy() {
        let trusting = access(&["127.0.0.1", "10.0.0.1"], ClientAddress::XForwardedFor);
        let client = |access: &Access, connected: &str, fields: &str| {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            access.client(ip(connected), &parse(text.as_bytes()).unwrap().unwrap().0).to_string()
        };
        for (connected, fields, expected) in [
            ("127.0.0.1", "", "127.0.0.1"),
            ("::ffff:127.0.0.1", "X-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7"),
            ("127.0.0.1", "X-Forwarded-For: 198.51.100.1, 192.0.2.7\r\n", "192.0.2.7"),
            ("127.0.0.1", "X-Forwarded-For: 198.51.100.1, 2001:db8::7 , 10.0.0.1\r\n", "2001:db8::7"),
            ("127.0.0.1", "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7"),
            ("127.0.0.1", "X-Forwarded-For: 192.0.2.7, unknown\r\n", "127.0.0.1"),
            ("127.0.0.1", "X-Forwarded-For: 192.0.2.7 refused a wrong access key from 192.0.2.8\r\n", "127.0.0.1"),
            ("127.0.0.1", "X-Forwarded-For: 192.0.2.7, x, 10.0.0.1\r\n", "10.0.0.1"),
            ("192.0.2.9", "X-Forwarded-For: 192.0.2.7\r\n", "192.0.2.9"),
        ] {
            assert_eq!(client(&trusting, connected, fields), expected, "{connected} {fields}");
        }
        let field = "X-Forwarded-For: 192.0.2.7\r\n";
        for other in [access(&[], ClientAddress::XForwardedFor), access(&["127.0.0.1"], ClientAddress::ProxyProtocol)] {
            assert_eq!(client(&other, "127.0.0.1", field), "127.0.0.1");
        }
    }

    #[test]
    fn visit_goes_on_while_requests_follow_each_other() {
        let (access, now) = (access(&[], ClientAddress::XForwardedFor), Instant::now());
        let alice = ip("192.0.2.7");
        let (stream, microphone) = (access.request(alice, now), access.request(alice, now));
        assert_eq!(access.visits().len(), 1);
        drop(stream);
        assert_eq!(access.tick(now), None);
        drop(microphone);
        let end = access.tick(now).unwrap();
        assert!(end >= now + VISIT_TIMEOUT);
        let next = access.request(alice, now);
        assert!(access.tick(end).is_none() && access.visits().len() == 1);
        drop(next);
        let end = access.tick(now).unwrap();
        assert_eq!(access.tick(end), None);
        assert!(access.visits().is_empty());
    }

    #[test]
    fn client_with_many_addresses_leaves_a_limited_number_of_visits() {
        let (access, now) = (access(&[], ClientAddress::XForwardedFor), Instant::now());
        for number in 0..1_000 {
            drop(access.request(Ipv6Addr::from(u128::from(number as u64)).into(), now));
        }
        assert_eq!(access.visits().len(), MAX_IDLE_VISITS);
        access.end(now);
        assert!(access.visits().is_empty());
    }

    #[test]
    fn key_that_an_address_repeats_is_recognised() {
        let mut refused = Refused::new();
        let repeated = ["0", "1", "0", "1"].map(|key| refused.is_repeated(key, ip("192.0.2.7")));
        assert_eq!(repeated, [false, false, true, true]);
        assert!(!refused.is_repeated("0", ip("192.0.2.8")));
        (2..1_000).for_each(|key| _ = refused.is_repeated(&key.to_string(), ip("192.0.2.7")));
        assert_eq!(refused.keys.len(), MAX_REFUSED);
    }

    #[test]
    fn flood_of_wrong_keys_from_one_address_leaves_room_for_lines_about_others() {
        let (mut refused, now) = (Refused::new(), Instant::now());
        let lines = |refused: &mut Refused, address: &str, at: Instant| {
            (0..1_000).filter(|_| refused.admit(ip(address), at).is_some()).count()
        };
        assert_eq!(lines(&mut refused, "192.0.2.7", now), 10);
        assert_eq!(refused.admit(ip("192.0.2.8"), now), Some(990));
        let hour = now + Duration::from_secs(3600);
        assert_eq!(lines(&mut refused, "192.0.2.7", hour), 10);
        assert_eq!(lines(&mut refused, "2001:db8::7", hour) + lines(&mut refused, "2001:db8::8", hour), 10);
        let many = (0..1_000).filter(|number| refused.admit(Ipv6Addr::from(*number << 64).into(), hour).is_some());
        assert_eq!(many.count(), 80, "100 lines at most, and 20 were about others");
    }
}
