//! `palabre proxy-config`: writes the configuration of a reverse proxy from the participants' files and the template of the links.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use palabre_config::certificate::Facts;
use palabre_config::{ClientAddress, LinkTemplate, PageAddress, Participant, SERVER_FILE, Server};
use palabre_host::exit::Failure;
use palabre_room::Name;

use crate::cli::{Cli, Proxy, ProxyConfig};
use crate::output::{print, replace};

const NGINX: &str = include_str!("proxy_config/nginx.conf");
const HAPROXY: &str = include_str!("proxy_config/haproxy.cfg");
/// The certificate authorities of the system, on Debian.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Connections of an nginx worker for each participant: browsers open at most 6 to one host, and nginx as many to the listener.
const NGINX_CONNECTIONS: usize = 12;
/// Minimum of `worker_connections`: the value in Debian's nginx.conf.
const NGINX_MIN_CONNECTIONS: usize = 768;
/// Connections of HAProxy for each participant: the maximum number that a browser opens to one host.
const HAPROXY_CONNECTIONS: usize = 6;
/// Minimum of HAProxy's `maxconn`.
const HAPROXY_MIN_CONNECTIONS: usize = 400;

/// A participant, the address that browsers open, and the address to which the proxy connects.
struct Entry {
    name: Name,
    page: PageAddress,
    listener: SocketAddr,
}

/// Writes the configuration. Writes nothing if a participant's file is invalid, because the proxy would then end that participant's
/// connections.
pub(crate) fn run(cli: &Cli, options: &ProxyConfig) -> Result<(), Failure> {
    let config = cli.config_dir();
    let server = Server::load(config).map_err(Failure::config)?;
    check_template(config, &server.links, options)?;
    check_client_address(&server, options.proxy)?;
    let (participants, errors) = Participant::load_all(config);
    if let Some(error) = errors.into_iter().next() {
        return Err(Failure::config(error));
    }
    let upstream = options.upstream.unwrap_or(match server.bind {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) | IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        other => other,
    });
    let entries: Vec<Entry> =
        participants.iter().map(|one| entry(&server.links, one, upstream)).collect::<Result<_, _>>()?;
    let text = match options.proxy {
        Proxy::Nginx => nginx(&server, &entries, options, upstream)?,
        Proxy::Haproxy => haproxy(&server, &entries)?,
    };
    match &options.out {
        Some(path) => replace(path, &text),
        None => print(text),
    }
}

/// Checks that the proxy can serve the addresses of this template.
fn check_template(config: &Path, links: &LinkTemplate, options: &ProxyConfig) -> Result<(), Failure> {
    let (nginx, haproxy) = ("https://voice.example.org/{name}/", "https://{name}.voice.example.org/");
    let (name, example) = match options.proxy {
        Proxy::Nginx => ("nginx", nginx),
        Proxy::Haproxy => ("HAProxy", haproxy),
    };
    let unable = |cause: &str| {
        let file = config.join(SERVER_FILE);
        Err(Failure::config(format!(
            "unable to write a configuration for {name} with the links '{links}': {cause}; set 'link' in '{}', for example link = \"{example}\"",
            file.display()
        )))
    };
    match options.proxy {
        _ if links.is_direct() => unable("the links lead to the listeners' own ports"),
        Proxy::Nginx if links.shows_own_certificate() => {
            unable("the links have a host name per participant, which 'palabre proxy-config haproxy' supports")
        }
        Proxy::Haproxy if !links.shows_own_certificate() => {
            unable("the links have a path per participant, which 'palabre proxy-config nginx' supports")
        }
        Proxy::Haproxy if !links.has_empty_path() => {
            unable("the links have a path, which HAProxy can't remove, because it doesn't decrypt")
        }
        Proxy::Haproxy if options.certificate.is_some() => Err(Failure::usage(
            "--certificate and --private-key are for nginx: HAProxy doesn't decrypt, so browsers see the listeners' certificate; leave them out",
        )),
        _ => Ok(()),
    }
}

/// Checks that this proxy can send the addresses of clients in the way that `palabre.toml` makes the listeners expect.
fn check_client_address(server: &Server, proxy: Proxy) -> Result<(), Failure> {
    if server.proxy.addresses.is_empty() {
        return Ok(());
    }
    match (proxy, server.proxy.client_address) {
        (Proxy::Nginx, ClientAddress::ProxyProtocol) => Err(Failure::config(
            "unable to write a configuration for nginx: nginx doesn't send the PROXY protocol to listeners; \
             set client-address = \"x-forwarded-for\" in palabre.toml",
        )),
        (Proxy::Haproxy, ClientAddress::XForwardedFor) => Err(Failure::config(
            "unable to write a configuration for HAProxy: HAProxy doesn't decrypt, so each client could send any \
             X-Forwarded-For; set client-address = \"proxy-protocol\" in palabre.toml",
        )),
        _ => Ok(()),
    }
}

fn entry(links: &LinkTemplate, one: &Participant, upstream: IpAddr) -> Result<Entry, Failure> {
    let refused = |cause: String| Failure::config(format!("unable to configure a proxy for '{}': {cause}", one.name));
    if one.port == 0 {
        let cause = "'port' is 0, so the listener has another port after each start; set a fixed port in the participant's file";
        return Err(refused(cause.to_owned()));
    }
    let page = links.address(&one.name, one.port).map_err(refused)?;
    Ok(Entry { name: one.name.clone(), page, listener: SocketAddr::new(upstream, one.port) })
}

/// Returns the address of the page of an invented participant, for its port and host. All pages have the same port, and with nginx the
/// same host.
fn example(server: &Server) -> Result<PageAddress, Failure> {
    let name: Name = "alice".parse().map_err(Failure::system)?;
    server.links.address(&name, 9001).map_err(Failure::config)
}

fn nginx(server: &Server, entries: &[Entry], options: &ProxyConfig, upstream: IpAddr) -> Result<String, Failure> {
    let PageAddress { host, port, path } = example(server)?;
    let live = PathBuf::from("/etc/letsencrypt/live").join(&host);
    let file = |given: &Option<PathBuf>, name| given.clone().unwrap_or_else(|| live.join(name));
    let certificate = plain(&file(&options.certificate, "fullchain.pem"))?;
    let private_key = plain(&file(&options.private_key, "privkey.pem"))?;
    let upstreams = entries.iter().map(|Entry { name, listener, .. }| {
        format!("upstream palabre_{name} {{ server {listener}; keepalive 2; keepalive_timeout 20s; }}")
    });
    let locations = entries.iter().map(|Entry { name, page, .. }| {
        let without_slash = page.path.trim_end_matches('/');
        format!(
            "    location = {without_slash} {{ return 301 {without_slash}/$is_args$args; }}\n    \
             location {without_slash}/ {{ proxy_pass https://palabre_{name}/; }}"
        )
    });
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let connections = (entries.len() * NGINX_CONNECTIONS).max(NGINX_MIN_CONNECTIONS);
    Ok(NGINX
        .replace("@EXAMPLE@", &format!("https://{host}{}{path}", explicit(port)))
        .replace("@COUNT@", &entries.len().to_string())
        .replace("@CONNECTIONS@", &connections.to_string())
        .replace("@UPSTREAMS@", &lines(upstreams))
        .replace("@PORT@", &port.to_string())
        .replace("@HOST@", &host)
        .replace("@CERTIFICATE@", &certificate)
        .replace("@PRIVATE_KEY@", &private_key)
        .replace("@VERIFICATION@", &verification(server, upstream)?)
        .replace("@LOCATIONS@", &lines(locations)))
}

/// Returns the lines that make nginx verify the listeners' certificate, unless nginx connects to them over loopback.
fn verification(server: &Server, upstream: IpAddr) -> Result<String, Failure> {
    if upstream.is_loopback() {
        return Ok("    # nginx connects over loopback, so it doesn't verify the listeners' certificate.\n    proxy_ssl_verify off;".to_owned());
    }
    let facts = Facts::load(&server.certificate).map_err(Failure::config)?;
    let (comment, trusted) = match facts.self_signed {
        true => ("Copy this file from the listeners' machine.", plain(&server.certificate)?),
        false => ("This file has the certificate authorities that this system trusts.", AUTHORITIES.to_owned()),
    };
    Ok(format!(
        "    # Accept only listeners with a certificate for this name.\n    proxy_ssl_verify on;\n    proxy_ssl_verify_depth 4;\n    \
         proxy_ssl_name {};\n    # {comment}\n    proxy_ssl_trusted_certificate {trusted};",
        server.host
    ))
}

fn haproxy(server: &Server, entries: &[Entry]) -> Result<String, Failure> {
    let PageAddress { host, port, .. } = example(server)?;
    let frontends = entries.iter().map(|Entry { name, page, .. }| {
        format!("    use_backend palabre_{name} if {{ req.ssl_sni -i {} }}", page.host)
    });
    let (send_proxy, comment) = match server.proxy.addresses.is_empty() {
        false => (" send-proxy-v2", " Listeners get the clients' addresses, for their log."),
        true => (
            "",
            " The listeners' log has the proxy's address instead of the clients', unless palabre.toml has [proxy]: see palabre.toml(5).",
        ),
    };
    let backends = entries.iter().map(|Entry { name, listener, .. }| {
        format!("backend palabre_{name}\n    server {name} {listener}{send_proxy}")
    });
    let connections = (entries.len() * HAPROXY_CONNECTIONS).max(HAPROXY_MIN_CONNECTIONS);
    Ok(HAPROXY
        .replace("@EXAMPLE@", &format!("https://{host}{}/", explicit(port)))
        .replace("@CERTIFICATE_NAME@", &server.links.certificate_name().unwrap_or(host))
        .replace("@COUNT@", &entries.len().to_string())
        .replace("@CONNECTIONS@", &connections.to_string())
        .replace("@PORT@", &port.to_string())
        .replace("@FRONTENDS@", &lines(frontends))
        .replace("@SEND_PROXY@", comment)
        .replace("@BACKENDS@", &lines(backends)))
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns `:PORT`, or an empty text for the port that an address with `https:` has by default.
fn explicit(port: u16) -> String {
    if port == 443 { String::new() } else { format!(":{port}") }
}

/// Returns the absolute path as a word of nginx's configuration. Fails if the path would need quotes there.
fn plain(path: &Path) -> Result<String, Failure> {
    let text = std::path::absolute(path).map_err(Failure::usage)?.display().to_string();
    match text.chars().all(|c| c.is_alphanumeric() || "/._-+~@,:=".contains(c)) {
        true => Ok(text),
        false => Err(Failure::usage(format!(
            "unable to write '{text}' into a configuration of nginx: use a path of letters, digits and /._-+~@,:="
        ))),
    }
}
