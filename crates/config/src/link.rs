//! Invitation links.

use std::net::Ipv6Addr;

use crate::Key;

/// Returns `https://HOST:PORT/?key=KEY`, with an IPv6 address in brackets.
#[must_use]
pub fn link(host: &str, port: u16, key: &Key) -> String {
    let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
    format!("https://{host}:{port}/?key={}", key.as_str())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_link_contains_host_port_and_key() {
        let key = Key::parse("000102030405060708090a0b0c0d0e0f").unwrap();
        assert_eq!(link("a.org", 9001, &key), "https://a.org:9001/?key=000102030405060708090a0b0c0d0e0f");
        assert_eq!(link("192.0.2.1", 9001, &key), "https://192.0.2.1:9001/?key=000102030405060708090a0b0c0d0e0f");
        assert_eq!(link("2001:db8::1", 443, &key), "https://[2001:db8::1]:443/?key=000102030405060708090a0b0c0d0e0f");
    }
}
