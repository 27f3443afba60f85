//! The link that a participant opens.

use std::net::Ipv6Addr;

use crate::Key;

/// `https://HOST:PORT/?key=KEY`, or `https://HOST:PORT/` where no key is asked for. An IPv6 address stands in brackets.
#[must_use]
pub fn link(host: &str, port: u16, key: Option<&Key>) -> String {
    let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
    let query = key.map(|key| format!("?key={}", key.as_str())).unwrap_or_default();
    format!("https://{host}:{port}/{query}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_link_carries_host_port_and_key() {
        let key = Key::parse("000102030405060708090a0b0c0d0e0f").unwrap();
        assert_eq!(link("a.org", 9001, Some(&key)), "https://a.org:9001/?key=000102030405060708090a0b0c0d0e0f");
        assert_eq!(link("192.0.2.1", 9001, None), "https://192.0.2.1:9001/");
        assert_eq!(link("2001:db8::1", 443, None), "https://[2001:db8::1]:443/");
    }
}
