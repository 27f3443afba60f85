//! The addresses of this machine, for the certificate and the links of `palabre try --lan`.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// The kernel's IPv4 routing table, which contains this machine's addresses: proc(5).
const FIB_TRIE: &str = "/proc/net/fib_trie";
/// A documentation address (RFC 5737), to which the default route leads. A UDP socket is connected to it to learn this machine's address on
/// that route; this sends no packet.
const DOCUMENTATION: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// Returns this machine's addresses, except loopback. The address that the default route uses comes first.
pub(crate) fn local() -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = default_route().into_iter().collect();
    let table = std::fs::read_to_string(FIB_TRIE).unwrap_or_default();
    for address in host_addresses(&table) {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

fn default_route() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(DOCUMENTATION).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// Returns the addresses in the table that belong to this machine: a leaf `|-- ADDRESS` followed by `/32 host LOCAL`.
fn host_addresses(table: &str) -> Vec<IpAddr> {
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
    fn local_addresses_are_listed_once_without_loopback() {
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
        let found: Vec<String> = host_addresses(table).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.168.1.23", "10.1.0.2"]);
    }

    #[test]
    fn loopback_is_not_listed() {
        assert!(local().iter().all(|address| !address.is_loopback()));
    }
}
