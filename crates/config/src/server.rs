//! `palabre.toml`, the configuration of the server.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use palabre_room::{Format, Rate};
use serde::Deserialize;

use crate::{Bridge, ConfigError, LinkTemplate, Proxy, Recordings, file, text};

/// Name of the server's file in the configuration directory.
pub const SERVER_FILE: &str = "palabre.toml";

/// The settings of `palabre.toml`. [`Server::default`] has the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `host`: host name in the invitation links, default `localhost`.
    pub host: String,
    /// `link`: template of the invitation links, default `https://HOST:{port}/`.
    pub links: LinkTemplate,
    /// `bind`: address on which the ports are opened, default `::`, or `0.0.0.0` on a machine without IPv6.
    pub bind: IpAddr,
    /// `certificate`: certificate with its chain, PEM, default `tls/cert.pem`. [`Server::load`] resolves a relative path
    /// against the configuration directory.
    pub certificate: PathBuf,
    /// `private-key`: private key of the certificate, PEM, default `tls/key.pem`. Resolved like `certificate`.
    pub private_key: PathBuf,
    /// `ports`: range in which `palabre invite` searches a free port, default `9001-9999`.
    pub ports: PortRange,
    /// `room.rate-hz`: sample rate of the rooms' pipes, default 24000 Hz.
    pub format: Format,
    /// `room.levelling`: whether all speech is brought to the same loudness, default true.
    pub levelling: bool,
    /// `room.texts-for-latecomers`: whether participants also get the messages that were sent before they joined the
    /// meeting, default true.
    pub texts_for_latecomers: bool,
    /// `room.own-display-names`: whether participants may change their own display names, default false.
    pub own_display_names: bool,
    /// `stream.chunk-ms`: length of a chunk of the stream that a listener sends to a page, in ms, default 40.
    pub chunk_ms: u64,
    /// `stream.codec`: codecs of the sound between listeners and pages, default [`CodecSetting::Auto`].
    pub codec: CodecSetting,
    /// `limits`: limits of each listener.
    pub limits: Limits,
    /// `recordings`: when finished recordings are deleted, default never.
    pub recordings: Recordings,
    /// `proxy`: reverse proxies that report the address of a client, default none.
    pub proxy: Proxy,
    /// `bridge`: rooms that are shared with other machines, default none.
    pub bridge: Bridge,
    /// `security.sandbox`: whether a daemon may run without its sandbox, default [`SandboxSetting::BestEffort`].
    pub sandbox: SandboxSetting,
    /// `security.hsts-days`: number of days for which browsers connect only by HTTPS to this host, default 30. 0 turns this off. It is always off
    /// if the certificate is self-signed.
    pub hsts_days: u16,
}

/// The setting `security.sandbox`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxSetting {
    /// A daemon doesn't start if the kernel can't enforce its sandbox.
    Required,
    /// A daemon enforces the parts of its sandbox that the kernel supports.
    #[default]
    BestEffort,
    /// A daemon has no sandbox.
    Off,
}

/// The setting `stream.codec`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodecSetting {
    /// Each page chooses the codec by its connection and its user's choice.
    #[default]
    Auto,
    /// Listeners send only PCM.
    Pcm,
    /// Pages always choose Opus, except in browsers that can't decode it.
    Opus,
}

/// Limits of each listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// `limits.connections`: maximum number of connections to one listener, default 48.
    #[serde(deserialize_with = "text::count")]
    pub connections: usize,
    /// `limits.streams`: maximum number of these connections that are streams, default 8.
    #[serde(deserialize_with = "text::count")]
    pub streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 48, streams: 8 }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            host: "localhost".into(),
            links: LinkTemplate::direct("localhost"),
            bind: Ipv6Addr::UNSPECIFIED.into(),
            certificate: "tls/cert.pem".into(),
            private_key: "tls/key.pem".into(),
            ports: PortRange { first: 9001, last: 9999 },
            format: Format::default(),
            levelling: true,
            texts_for_latecomers: true,
            own_display_names: false,
            chunk_ms: 40,
            codec: CodecSetting::default(),
            limits: Limits::default(),
            recordings: Recordings::default(),
            proxy: Proxy::default(),
            bridge: Bridge::default(),
            sandbox: SandboxSetting::default(),
            hsts_days: 30,
        }
    }
}

impl Server {
    /// Reads `palabre.toml` in `dir`. Without the file, all settings have their defaults.
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        Self::from_toml(dir, &Self::text(dir)?)
    }

    /// Returns the settings of an empty `palabre.toml` in `dir`: the defaults, with paths below `dir`.
    #[must_use]
    pub fn defaults(dir: &Path) -> Self {
        Written::default().into_server(dir)
    }

    /// Returns the text of `palabre.toml` in `dir`, or an empty text if there is no file. Fails if the directory
    /// doesn't exist.
    pub fn text(dir: &Path) -> Result<String, ConfigError> {
        let path = dir.join(SERVER_FILE);
        match file::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::read_dir(dir).map_err(|error| ConfigError::io(dir, &error))?;
                Ok(String::new())
            }
            other => other.map_err(|error| ConfigError::io(&path, &error)),
        }
    }

    /// Parses the text of `palabre.toml` in `dir`.
    pub fn from_toml(dir: &Path, text: &str) -> Result<Self, ConfigError> {
        let path = dir.join(SERVER_FILE);
        let written: Written = toml::from_str(text).map_err(|error| ConfigError::toml(&path, text, &error))?;
        Ok(written.into_server(dir))
    }
}

/// The TOML structure of `palabre.toml`.
#[derive(Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct Written {
    #[serde(deserialize_with = "text::host")]
    host: String,
    #[serde(deserialize_with = "text::some_parsed")]
    link: Option<LinkTemplate>,
    #[serde(deserialize_with = "text::parsed")]
    bind: IpAddr,
    certificate: PathBuf,
    private_key: PathBuf,
    #[serde(deserialize_with = "text::parsed")]
    ports: PortRange,
    room: Room,
    stream: Stream,
    limits: Limits,
    recordings: Recordings,
    proxy: Proxy,
    bridge: Bridge,
    security: Security,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct Security {
    sandbox: SandboxSetting,
    hsts_days: u16,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct Room {
    #[serde(deserialize_with = "text::rate_hz")]
    rate_hz: Rate,
    levelling: bool,
    texts_for_latecomers: bool,
    own_display_names: bool,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct Stream {
    #[serde(deserialize_with = "text::chunk_ms")]
    chunk_ms: u64,
    codec: CodecSetting,
}

impl Default for Written {
    fn default() -> Self {
        let Server { host, bind, certificate, private_key, ports, limits, recordings, proxy, bridge, .. } =
            Server::default();
        let (room, stream, security) = (Room::default(), Stream::default(), Security::default());
        Self {
            host,
            link: None,
            bind,
            certificate,
            private_key,
            ports,
            room,
            stream,
            limits,
            recordings,
            proxy,
            bridge,
            security,
        }
    }
}

impl Default for Room {
    fn default() -> Self {
        let Server { format, levelling, texts_for_latecomers, own_display_names, .. } = Server::default();
        Self { rate_hz: format.rate, levelling, texts_for_latecomers, own_display_names }
    }
}

impl Default for Security {
    fn default() -> Self {
        let Server { sandbox, hsts_days, .. } = Server::default();
        Self { sandbox, hsts_days }
    }
}

impl Default for Stream {
    fn default() -> Self {
        let Server { chunk_ms, codec, .. } = Server::default();
        Self { chunk_ms, codec }
    }
}

impl Written {
    fn into_server(self, dir: &Path) -> Server {
        Server {
            links: self.link.unwrap_or_else(|| LinkTemplate::direct(&self.host)),
            host: self.host,
            bind: self.bind,
            certificate: dir.join(self.certificate),
            private_key: dir.join(self.private_key),
            ports: self.ports,
            format: Format { rate: self.room.rate_hz },
            levelling: self.room.levelling,
            texts_for_latecomers: self.room.texts_for_latecomers,
            own_display_names: self.room.own_display_names,
            chunk_ms: self.stream.chunk_ms,
            codec: self.stream.codec,
            limits: self.limits,
            recordings: self.recordings,
            proxy: self.proxy,
            bridge: self.bridge.resolved(dir),
            sandbox: self.security.sandbox,
            hsts_days: self.security.hsts_days,
        }
    }
}

/// An inclusive range of TCP ports: `9001-9999`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Returns the ports of the range in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }

    /// Returns whether `port` is in the range.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ports = text.split_once('-').map(|(first, last)| (first.parse::<u16>(), last.parse::<u16>()));
        match ports {
            Some((Ok(first), Ok(last))) if 0 < first && first <= last => Ok(Self { first, last }),
            _ => Err("'ports' must be FIRST-LAST, such as 9001-9999; ports are 1 to 65535".into()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ClientAddress;

    fn load(text: &str) -> Result<Server, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(SERVER_FILE), text).unwrap();
        Server::load(dir.path())
    }

    fn refusal(text: &str) -> String {
        load(text).unwrap_err().to_string()
    }

    #[test]
    fn without_the_file_all_settings_have_their_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::load(dir.path()).unwrap();
        assert_eq!(server.certificate, dir.path().join("tls/cert.pem"));
        assert_eq!((server.levelling, server.chunk_ms, server.limits), (true, 40, Limits::default()));
        assert_eq!(server.links.to_string(), "https://localhost:{port}/");
    }

    #[test]
    fn a_directory_that_does_not_exist_is_an_error() {
        assert!(Server::load(Path::new("/nonexistent/palabre")).unwrap_err().is_missing());
    }

    #[test]
    fn every_field_is_read() {
        let server = load(
            "host = \"voice.example.org\"\nlink = \"https://a.org/{name}/\"\nbind = \"127.0.0.1\"\ncertificate = \"/tls/c.pem\"\nprivate-key = \"k.pem\"\n\
             ports = \"8000-8010\"\n[room]\nrate-hz = 48000\nlevelling = false\ntexts-for-latecomers = false\nown-display-names = true\n[stream]\nchunk-ms = 20\ncodec = \"pcm\"\n[limits]\nconnections = 5\nstreams = 2\n\
             [recordings]\nkeep-days = 30\nmax-gib = 100\n[proxy]\naddresses = [\"192.0.2.1\", \"::1\"]\nclient-address = \"proxy-protocol\"\n\
             [security]\nsandbox = \"required\"\nhsts-days = 0\n",
        )
        .unwrap();
        assert_eq!(server.links.to_string(), "https://a.org/{name}/");
        assert_eq!(server.certificate, Path::new("/tls/c.pem"));
        assert_eq!(server.format.to_string(), "s16le 48000 1");
        assert!(!server.levelling && !server.texts_for_latecomers && server.own_display_names);
        assert_eq!(server.ports.to_string(), "8000-8010");
        assert_eq!((server.chunk_ms, server.limits.connections, server.limits.streams), (20, 5, 2));
        assert_eq!(server.codec, CodecSetting::Pcm);
        assert_eq!(server.recordings, Recordings { keep_days: 30, max_gib: 100 });
        let trusted = ["192.0.2.1", "::ffff:192.0.2.1", "::1"].map(|address| address.parse().unwrap());
        assert!(trusted.into_iter().all(|address| server.proxy.trusts(address)));
        assert!(!server.proxy.trusts("192.0.2.2".parse().unwrap()));
        assert_eq!(server.proxy.client_address, ClientAddress::ProxyProtocol);
        assert_eq!((server.sandbox, server.hsts_days), (SandboxSetting::Required, 0));
    }

    #[test]
    fn an_error_names_the_file_the_line_and_what_is_allowed() {
        let unknown = refusal("host = \"a\"\n\nhots = \"b\"\n");
        assert!(unknown.contains("palabre.toml', line 3: unknown field `hots`, expected one of `host`"), "{unknown}");
        let rate = refusal("\n[room]\nrate-hz = 44100\n");
        assert!(rate.contains("line 3: 44100 is not a sample rate; use 16000, 24000 or 48000"), "{rate}");
        let chunk = refusal("[stream]\nchunk-ms = 30\n");
        assert!(chunk.contains("line 2: 30 is not a chunk length in ms; use a multiple of 20"), "{chunk}");
        let link = refusal("host = \"a\"\nlink = \"https://a.org/\"\n");
        assert!(link.contains("line 2: 'link' must contain {name} or {port}"), "{link}");
    }

    #[test]
    fn invalid_values_are_refused() {
        for bad in [
            "host = \"a b\"",
            "host = \"\"",
            "host = \"[::1]\"",
            "host = \"a:b\"",
            "host = \"voice.example:9001\"",
            "host = \"192.0.2.1:9001\"",
            "host = \"192.0.2\"",
            "host = \"a..b\"",
            "host = \"-a\"",
            "host = \".\"",
            "bind = \"localhost\"",
            "ports = \"9999-9001\"",
            "ports = \"0-1\"",
            "ports = \"1-65536\"",
            "ports = 9001",
            "[limits]\nstreams = 0",
            "[limits]\nconnections = -1",
            "[limits]\nhours = 1",
            "[recordings]\nkeep-days = -1",
            "[recordings]\nmax-gib = 0.5",
            "[proxy]\naddresses = [\"localhost\"]",
            "[proxy]\nclient-address = \"forwarded\"",
            "[security]\nsandbox = true",
            "[security]\nsandbox = \"strict\"",
            "[room]\nlevelling = \"on\"",
            "[stream]\nchunk-ms = 1020",
            "[stream]\nchunk-ms = \"40\"",
            "[stream]\ncodec = \"mp3\"",
            "[stream]\ncodec = true",
            "host",
            "host = \"a\"\nhost = \"b\"",
            "\u{0}",
        ] {
            let refused = load(bad).unwrap_err();
            assert!(refused.line().is_some(), "{bad}: {refused}");
            assert!(!refused.to_string().contains('\n'), "{refused}");
        }
    }

    #[test]
    fn a_host_is_a_dns_name_or_an_address() {
        for host in ["voice", "voice.example.org", "v-1_a.example.", "192.0.2.1", "::1", "2001:db8::1"] {
            assert_eq!(load(&format!("host = \"{host}\"")).unwrap().host, host);
        }
    }

    #[test]
    fn a_file_that_is_not_utf_8_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(SERVER_FILE), b"host = \"\xff\"").unwrap();
        assert!(Server::load(dir.path()).is_err());
    }
}
