//! This machine's own addresses, for a certificate and links that a telephone on the same network can use.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// Where the kernel shows its IPv4 routing table, local addresses included: proc(5) of Linux.
const FIB_TRIE: &str = "/proc/net/fib_trie";
/// Documentation addresses (RFC 5737): the way there is the default route, and a UDP `connect` sends nothing.
const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// The addresses by which others may reach this machine, the one of the default route first; no loopback.
#[must_use]
pub fn own() -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = default_route().into_iter().collect();
    let table = std::fs::read_to_string(FIB_TRIE).unwrap_or_default();
    for address in local_addresses(&table) {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

fn default_route() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(ELSEWHERE).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// A leaf is a line `|-- ADDRESS`, what it is follows: `/32 host LOCAL` for an address of this machine.
fn local_addresses(table: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = leaf
            && !address.is_loopback()
            && !found.contains(&IpAddr::V4(address))
        {
            found.push(IpAddr::V4(address));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_found_once_and_without_loopback() {
        let table = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.168.1.0/24 2 0 2
        |-- 192.168.1.0
           /24 link UNICAST
        |-- 192.168.1.23
           /32 host LOCAL
        |-- 192.168.1.255
           /32 link BROADCAST
Local:
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 192.168.1.23
        /32 host LOCAL
     |-- 10.1.0.2
        /32 host LOCAL
";
        let found: Vec<String> = local_addresses(table).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.168.1.23", "10.1.0.2"]);
    }

    #[test]
    fn a_loopback_address_is_never_among_our_own() {
        assert!(own().iter().all(|address| !address.is_loopback()));
    }
}
