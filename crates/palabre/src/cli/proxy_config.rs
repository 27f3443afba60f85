//! Arguments of `palabre proxy-config`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

pub(super) const EXAMPLES: &str = "\
Examples:
  palabre proxy-config nginx --out /etc/nginx/sites-available/palabre
  palabre proxy-config haproxy --out /etc/haproxy/haproxy.cfg
  palabre proxy-config nginx --upstream 192.0.2.7   nginx on another machine

The addresses are those of 'link' in palabre.toml: a path per participant for
nginx, a host name per participant for HAProxy. Write the configuration again
after 'palabre invite' and 'palabre revoke', then reload the proxy. The manual
is /usr/share/doc/palabre/proxies.md.";

/// `palabre proxy-config`.
#[derive(Args, Debug)]
pub(crate) struct ProxyConfig {
    /// The proxy for which to print a configuration
    pub(crate) proxy: Proxy,
    /// IP address at which the proxy reaches the listeners [default: 'bind' in palabre.toml; 127.0.0.1 if that is all addresses]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) upstream: Option<IpAddr>,
    /// Certificate of nginx with its chain [default: /etc/letsencrypt/live/HOST/fullchain.pem]
    #[arg(long, value_name = "FILE", requires = "private_key")]
    pub(crate) certificate: Option<PathBuf>,
    /// Private key of nginx's certificate [default: /etc/letsencrypt/live/HOST/privkey.pem]
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) private_key: Option<PathBuf>,
    /// Replace this file instead of printing; after an error, the file is unchanged
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// A reverse proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Proxy {
    /// A path per participant; nginx decrypts TLS, and connects to the listeners by HTTPS
    Nginx,
    /// A host name per participant; HAProxy forwards TLS unchanged to the listeners
    Haproxy,
}
