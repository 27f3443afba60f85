//! The section `[proxy]` of `palabre.toml`.

use std::net::IpAddr;

use serde::Deserialize;

/// The reverse proxies that report the address of a client.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Proxy {
    /// `proxy.addresses`: addresses from which the proxies connect, default none. A listener ignores the
    /// addresses that other clients report.
    pub addresses: Vec<IpAddr>,
    /// `proxy.client-address`: how the proxies report the address of a client.
    pub client_address: ClientAddress,
}

/// How a reverse proxy reports the address of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAddress {
    /// In the header field `X-Forwarded-For` of each request, as nginx does.
    #[default]
    XForwardedFor,
    /// In a header of the PROXY protocol before the first byte of TLS, as HAProxy does with `send-proxy-v2`.
    ProxyProtocol,
}

impl Proxy {
    /// Returns whether a trusted proxy connects from this address.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|trusted| trusted.to_canonical() == address.to_canonical())
    }
}
