//! Invitation links and their template.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use palabre_room::Name;

use crate::{Key, text};

/// Field of a template that stands for the participant's login name.
const NAME: &str = "{name}";
/// Field of a template that stands for the participant's port.
const PORT: &str = "{port}";
/// Start of every link. Browsers give a microphone only to encrypted pages.
const SCHEME: &str = "https://";
/// Port of a link that names no port: the default port of HTTPS.
const DEFAULT_PORT: u16 = 443;

/// The template of the participants' links: `https://voice.example.org/{name}/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTemplate(String);

/// The address of a participant's page, from the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageAddress {
    /// DNS name, or IP address without brackets.
    pub host: String,
    /// TCP port; 0 for a participant without a fixed port.
    pub port: u16,
    /// Path, which begins and ends with `/`.
    pub path: String,
}

impl LinkTemplate {
    /// Returns the template of links without a proxy: `https://HOST:{port}/`, with an IPv6 address in brackets.
    #[must_use]
    pub fn direct(host: &str) -> Self {
        let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
        Self(format!("{SCHEME}{host}:{PORT}/"))
    }

    /// Returns a participant's link, which ends with `?key=KEY`.
    #[must_use]
    pub fn link(&self, name: &str, port: u16, key: &Key) -> String {
        format!("{}?key={}", self.page(name, port), key.as_str())
    }

    /// Returns the address of a participant's page: the link without `?key=KEY`.
    #[must_use]
    pub fn page(&self, name: &str, port: u16) -> String {
        self.0.replace(NAME, name).replace(PORT, &port.to_string())
    }

    /// Returns the address of a participant's page. The error is the cause if the login name doesn't fit the template.
    pub fn address(&self, name: &Name, port: u16) -> Result<PageAddress, String> {
        let page = self.page(name.as_str(), port);
        page_address(&page).map_err(|cause| format!("the link '{page}' is invalid: {cause}"))
    }

    /// Returns whether browsers connect to the participants' own ports. Otherwise they connect to a proxy.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        split_port(self.authority()).is_some_and(|(_, port)| port == PORT)
    }

    /// Returns whether the path of every link is `/`.
    #[must_use]
    pub fn has_empty_path(&self) -> bool {
        self.0.ends_with(&format!("{SCHEME}{}/", self.authority()))
    }

    /// Returns whether each participant has a port or host name of their own, so that browsers see the listener's certificate.
    /// Otherwise only the path differs. Only a proxy that decrypts TLS reads the path, so browsers see the proxy's certificate.
    #[must_use]
    pub fn shows_own_certificate(&self) -> bool {
        has_field(self.authority())
    }

    /// Returns the name for which the participants' certificate must be valid, such as `*.voice.example.org` for
    /// `https://{name}.voice.example.org/`. `None` if browsers see the proxy's certificate.
    #[must_use]
    pub fn certificate_name(&self) -> Option<String> {
        let name = match self.host().split_once('.') {
            Some((first, rest)) if has_field(first) => format!("*.{rest}"),
            _ => self.host().trim_matches(['[', ']']).to_owned(),
        };
        self.shows_own_certificate().then_some(name)
    }

    /// Returns the host with the port.
    fn authority(&self) -> &str {
        let rest = self.0.strip_prefix(SCHEME).unwrap_or(&self.0);
        rest.split('/').next().unwrap_or_default()
    }

    fn host(&self) -> &str {
        split_port(self.authority()).map_or(self.authority(), |(host, _)| host)
    }
}

impl fmt::Display for LinkTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PageAddress {
    type Err = String;

    /// Parses `https://HOST[:PORT]/PATH/`. If the text is invalid, the error says why.
    fn from_str(page: &str) -> Result<Self, String> {
        page_address(page)
    }
}

impl FromStr for LinkTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !has_field(text) {
            return Err(format!(
                "'link' must contain {NAME} or {PORT}, so that each participant has a link of their own"
            ));
        }
        let template = Self(text.to_owned());
        let host = template.host();
        if has_field(host) && host.split_once('.').is_none_or(|(_, rest)| has_field(rest)) {
            return Err(format!(
                "the host in 'link' may contain {NAME} or {PORT} only before its first dot, as in \
                 https://{NAME}.voice.example.org/, so that one certificate is valid for all participants"
            ));
        }
        match page_address(&template.page("alice", 9001)) {
            Ok(PageAddress { port: 0, .. }) => {
                Err("'link' is invalid: '0' is no port; ports are 1 to 65535".to_owned())
            }
            Ok(_) => Ok(template),
            Err(cause) => Err(format!("'link' is invalid: {cause}")),
        }
    }
}

fn has_field(text: &str) -> bool {
    text.contains(NAME) || text.contains(PORT)
}

/// Splits `HOST:PORT`. `None` if there is no port.
fn split_port(authority: &str) -> Option<(&str, &str)> {
    // The colons of an IPv6 address are in brackets.
    authority.rsplit_once(':').filter(|(_, port)| !port.contains(']'))
}

/// Parses `https://HOST[:PORT]/PATH/`. If the text is invalid, the error says why.
fn page_address(page: &str) -> Result<PageAddress, String> {
    let Some(rest) = page.strip_prefix(SCHEME) else {
        return Err(format!(
            "the link must begin with '{SCHEME}', because browsers give a microphone only to encrypted pages"
        ));
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !path.ends_with('/') {
        return Err("the link must end with '/', because the access key is appended to it".to_owned());
    }
    check_path(path)?;
    let (host, port) = match split_port(authority) {
        Some((host, port)) => (host, parse_port(port)?),
        None => (authority, DEFAULT_PORT),
    };
    let bare = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok().then_some(address),
        None => (text::is_host(host) && !host.contains(':')).then_some(host),
    };
    let Some(host) = bare else {
        return Err(format!("'{host}' is no DNS name (in ASCII) and no IP address (IPv6 in brackets)"));
    };
    Ok(PageAddress { host: host.to_owned(), port, path: path.to_owned() })
}

fn parse_port(port: &str) -> Result<u16, String> {
    let number = port.parse().ok().filter(|_| port.bytes().all(|b| b.is_ascii_digit()));
    number.ok_or_else(|| format!("'{port}' is no port; ports are 1 to 65535"))
}

/// Checks that a path, which begins and ends with `/`, needs no escaping in an address or in a proxy's configuration.
fn check_path(path: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    if let Some(other) = path.chars().find(|c| !allowed(*c)) {
        return Err(format!(
            "the link's path contains '{other}'; use ASCII letters, digits, '-', '.', '_', '~', '/', {NAME} and {PORT}"
        ));
    }
    // The first and the last part are empty, because the path begins and ends with '/'.
    let inner = &path[1..path.len().max(2) - 1];
    match !inner.is_empty() && inner.split('/').any(|part| ["", ".", ".."].contains(&part)) {
        true => Err("the link's path contains '//', '/./' or '/../'".to_owned()),
        false => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f";

    fn template(text: &str) -> LinkTemplate {
        text.parse().unwrap()
    }

    fn link(template: &LinkTemplate, name: &str, port: u16) -> String {
        let link = template.link(name, port, &Key::parse(KEY).unwrap());
        link.strip_suffix(&format!("?key={KEY}")).unwrap().to_owned()
    }

    #[test]
    fn a_link_without_a_proxy_contains_host_port_and_key() {
        assert_eq!(link(&LinkTemplate::direct("a.org"), "alice", 9001), "https://a.org:9001/");
        assert_eq!(link(&LinkTemplate::direct("192.0.2.1"), "alice", 9001), "https://192.0.2.1:9001/");
        assert_eq!(link(&LinkTemplate::direct("2001:db8::1"), "alice", 443), "https://[2001:db8::1]:443/");
    }

    #[test]
    fn a_template_is_filled_with_name_and_port() {
        for (text, filled, host, port, path) in [
            ("https://a.org/{name}/", "https://a.org/bob/", "a.org", 443, "/bob/"),
            ("https://a.org:8443/voice/{port}/", "https://a.org:8443/voice/9002/", "a.org", 8443, "/voice/9002/"),
            ("https://{name}.a.org/", "https://bob.a.org/", "bob.a.org", 443, "/"),
            ("https://p{port}.a.org:8443/", "https://p9002.a.org:8443/", "p9002.a.org", 8443, "/"),
            ("https://[2001:db8::1]:{port}/", "https://[2001:db8::1]:9002/", "2001:db8::1", 9002, "/"),
            ("https://[::1]/{name}/", "https://[::1]/bob/", "::1", 443, "/bob/"),
        ] {
            let template = template(text);
            assert_eq!(link(&template, "bob", 9002), filled);
            let address = template.address(&"bob".parse().unwrap(), 9002).unwrap();
            assert_eq!(address, PageAddress { host: host.to_owned(), port, path: path.to_owned() }, "{text}");
        }
    }

    #[test]
    fn the_participants_certificate_is_seen_unless_the_link_has_a_path_per_participant() {
        for (text, name) in [
            ("https://a.org/{name}/", None),
            ("https://a.org:8443/{port}/", None),
            ("https://a.org:{port}/", Some("a.org")),
            ("https://[2001:db8::1]:{port}/", Some("2001:db8::1")),
            ("https://{name}.a.org/", Some("*.a.org")),
            ("https://v-{name}.a.org:8443/", Some("*.a.org")),
        ] {
            let template = template(text);
            assert_eq!(template.certificate_name().as_deref(), name, "{text}");
            assert_eq!(template.shows_own_certificate(), name.is_some(), "{text}");
            assert_eq!(template.is_direct(), text.ends_with(":{port}/"), "{text}");
            assert_eq!(template.has_empty_path(), name.is_some(), "{text}");
        }
        assert_eq!(LinkTemplate::direct("::1").certificate_name().unwrap(), "::1");
        assert_eq!(LinkTemplate::direct("a.org").certificate_name().unwrap(), "a.org");
    }

    #[test]
    fn an_invalid_template_is_refused_with_its_cause() {
        for (text, cause) in [
            ("", "must contain {name} or {port}"),
            ("https://a.org/", "must contain {name} or {port}"),
            ("http://a.org/{name}/", "must begin with 'https://'"),
            ("a.org/{name}/", "must begin with 'https://'"),
            ("https://a.org/{name}", "must end with '/'"),
            ("https://{name}.a.org", "must end with '/'"),
            ("https://a.org/{name}/?key=", "must end with '/'"),
            ("https://a.org/{name}/?a/", "the link's path contains '?'"),
            ("https://a.org/{name}/{room}/", "the link's path contains '{'"),
            ("https://a.org/{name}/#/", "the link's path contains '#'"),
            ("https://a.org/a b/{name}/", "the link's path contains ' '"),
            ("https://a.org/é/{name}/", "the link's path contains 'é'"),
            ("https://a.org//{name}/", "'//'"),
            ("https://a.org/../{name}/", "'/../'"),
            ("https:///{name}/", "'' is no DNS name"),
            ("https://me@a.org/{name}/", "'me@a.org' is no DNS name"),
            ("https://2001:db8::1/{name}/", "is no DNS name"),
            ("https://[a.org]/{name}/", "is no DNS name"),
            ("https://a.org:0/{name}/", "'0' is no port"),
            ("https://a.org:+1/{name}/", "'+1' is no port"),
            ("https://a.org:/{name}/", "'' is no port"),
            ("https://a.org:{name}/", "'alice' is no port"),
            ("https://a.{name}.org/", "only before its first dot"),
            ("https://{name}/", "only before its first dot"),
            ("https://a.org\n/{name}/", "is no DNS name"),
        ] {
            let error = text.parse::<LinkTemplate>().unwrap_err();
            assert!(error.contains(cause), "{text}: {error}");
        }
    }

    #[test]
    fn a_name_that_does_not_fit_the_host_is_refused() {
        let template = template("https://{name}.a.org/");
        let error = template.address(&"a-".parse().unwrap(), 9001).unwrap_err();
        assert_eq!(
            error,
            "the link 'https://a-.a.org/' is invalid: 'a-.a.org' is no DNS name (in ASCII) and no IP address (IPv6 in brackets)"
        );
        assert!(self::template("https://a.org/{name}/").address(&"a-".parse().unwrap(), 9001).is_ok());
    }
}
