//! The section `[bridge]` of `palabre.toml`.

use std::path::{Path, PathBuf};

use palabre_room::{MAX_MACHINE_CHARS, Name, NameError, machine_name};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::text;

/// Maximum number of entries of `bridge.servers`, and of `bridge.rooms`.
const MAX_ENTRIES: usize = 100;

/// How `palabre-bridge` shares rooms with other machines. [`Bridge::default`] shares none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bridge {
    /// `bridge.machine`: name of this machine, different on each machine, default none.
    #[serde(deserialize_with = "machine")]
    pub machine: Option<Name>,
    /// `bridge.servers`: addresses of the NATS servers of one cluster, default none.
    #[serde(deserialize_with = "servers")]
    pub servers: Vec<String>,
    /// `bridge.rooms`: the rooms that are shared, default none.
    #[serde(deserialize_with = "rooms")]
    pub rooms: Vec<Name>,
    /// `bridge.credentials`: credentials file of NATS (JWT and seed), default none.
    #[serde(deserialize_with = "path")]
    pub credentials: Option<PathBuf>,
    /// `bridge.nkey`: file with the seed of an nkey, default none.
    #[serde(deserialize_with = "path")]
    pub nkey: Option<PathBuf>,
    /// `bridge.ca`: certificates of the authorities that may sign the server's certificate, in addition to the system's, default none.
    #[serde(deserialize_with = "path")]
    pub ca: Option<PathBuf>,
    /// `bridge.message-ms`: length of the sound in a message in ms, default 20.
    #[serde(deserialize_with = "text::message_ms")]
    pub message_ms: u64,
    /// `bridge.codec`: codec of the sound that this machine sends, default [`BridgeCodec::Pcm`].
    pub codec: BridgeCodec,
    /// `bridge.opus-kbps`: bit rate of Opus in kbit/s, default 64.
    #[serde(deserialize_with = "text::bridge_kbps")]
    pub opus_kbps: u32,
}

/// Codec of the sound that this machine sends to other machines. A machine can always receive both codecs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BridgeCodec {
    /// The exact samples.
    #[default]
    Pcm,
    /// Opus, with the bit rate [`Bridge::opus_kbps`].
    Opus,
}

impl Default for Bridge {
    fn default() -> Self {
        Self {
            machine: None,
            servers: Vec::new(),
            rooms: Vec::new(),
            credentials: None,
            nkey: None,
            ca: None,
            message_ms: palabre_room::FRAME_MS,
            codec: BridgeCodec::default(),
            opus_kbps: 64,
        }
    }
}

impl Bridge {
    /// Returns the settings with each relative path resolved against `dir`.
    pub(crate) fn resolved(self, dir: &Path) -> Self {
        let resolve = |path: Option<PathBuf>| path.map(|path| dir.join(path));
        let (credentials, nkey, ca) = (resolve(self.credentials), resolve(self.nkey), resolve(self.ca));
        Self { credentials, nkey, ca, ..self }
    }
}

fn machine<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Name>, D::Error> {
    let text = String::deserialize(from)?;
    match machine_name(&text) {
        _ if text.is_empty() => Ok(None),
        None => Err(D::Error::custom(match text.parse::<Name>() {
            Err(reserved @ NameError::Reserved(_)) => reserved.to_string(),
            _ => format!(
                "'{text}' is not a machine's name; use 1 to {MAX_MACHINE_CHARS} characters of a-z, 0-9, '_' and '-', and begin with a letter or a digit"
            ),
        })),
        name => Ok(name),
    }
}

fn rooms<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Name>, D::Error> {
    let mut names = Vec::new();
    for text in list(from)? {
        let name = text.parse().map_err(|error| D::Error::custom(format!("'{text}' is not a room's name: {error}")))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn servers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let servers = list(from)?;
    for server in &servers {
        let rest = server.strip_prefix("nats://").or_else(|| server.strip_prefix("tls://"));
        let is_valid = rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic()));
        if !is_valid {
            let allowed = "use nats://HOST[:PORT], or tls://HOST[:PORT], which requires TLS";
            return Err(D::Error::custom(format!("'{server}' is not the address of a NATS server; {allowed}")));
        }
        if server.contains('@') {
            return Err(D::Error::custom(
                "the address of a NATS server contains a user name, a password or a token; use 'credentials' or 'nkey'",
            ));
        }
    }
    Ok(servers)
}

fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let list = Vec::<String>::deserialize(from)?;
    if list.len() > MAX_ENTRIES {
        return Err(D::Error::custom(format!(
            "the list 'rooms' or 'servers' in [bridge] has {} entries; use at most {MAX_ENTRIES}",
            list.len()
        )));
    }
    Ok(list)
}

fn path<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(Some(PathBuf::deserialize(from)?).filter(|path| !path.as_os_str().is_empty()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Server;

    fn parse(lines: &str) -> Result<Bridge, String> {
        Server::from_toml(Path::new("/etc/palabre"), &format!("[bridge]\n{lines}"))
            .map(|server| server.bridge)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_is_read_and_empty_values_mean_none() {
        let bridge = parse(
            "machine = \"paris\"\nservers = [\"nats://a.example\", \"tls://192.0.2.1:4223\"]\nrooms = [\"main\", \"studio\", \"main\"]\n\
             credentials = \"nats.creds\"\nnkey = \"/k\"\nca = \"ca.pem\"\nmessage-ms = 40\n\
             codec = \"opus\"\nopus-kbps = 96\n",
        )
        .unwrap();
        assert_eq!(bridge.machine, machine_name("paris"));
        assert_eq!((bridge.servers.len(), bridge.message_ms), (2, 40));
        assert_eq!((bridge.codec, bridge.opus_kbps), (BridgeCodec::Opus, 96));
        assert_eq!(bridge.rooms.iter().map(ToString::to_string).collect::<Vec<_>>(), ["main", "studio"]);
        let paths = [bridge.credentials, bridge.nkey, bridge.ca].map(|path| path.unwrap().display().to_string());
        assert_eq!(paths, ["/etc/palabre/nats.creds", "/k", "/etc/palabre/ca.pem"]);
        let empty = "machine = \"\"\nservers = []\nrooms = []\ncredentials = \"\"\nnkey = \"\"\nca = \"\"\n";
        assert_eq!(parse(empty).unwrap(), Bridge::default());
    }

    #[test]
    fn invalid_values_are_refused_with_what_is_allowed() {
        for (line, part) in [
            ("machine = \"Paris\"", "use 1 to 27 characters of a-z"),
            ("machine = \"a2345678901234567890123456789\"", "use 1 to 27 characters of a-z"),
            ("machine = \"-a\"", "begin with a letter or a digit"),
            ("machine = \"names\"", "choose another name"),
            ("servers = \"nats://a\"", "expected a sequence"),
            ("servers = [\"http://a\"]", "use nats://HOST[:PORT]"),
            ("servers = [\"nats://\"]", "use nats://HOST[:PORT]"),
            ("servers = [\"nats://alice:secret@a\"]", "use 'credentials' or 'nkey'"),
            ("rooms = [\"Main\"]", "'Main' is not a room's name"),
            ("message-ms = 30", "a multiple of 20 from 20 to 100"),
            ("message-ms = 0", "a multiple of 20 from 20 to 100"),
            ("codec = \"mp3\"", "expected `pcm` or `opus`"),
            ("opus-kbps = 15", "use 16 to 256"),
            ("opus-kbps = 257", "use 16 to 256"),
            ("opus-kbps = \"64\"", "\"64\" is not a bit rate in kbit/s; use 16 to 256, without quotes"),
            ("room = \"main\"", "unknown field `room`"),
        ] {
            let refusal = parse(line).unwrap_err();
            assert!(refusal.contains(part) && refusal.contains("line 2"), "{line}: {refusal}");
            assert!(!refusal.contains("secret"), "{refusal}");
        }
        let many = format!("rooms = [{}]", "\"a\",".repeat(101));
        assert!(parse(&many).unwrap_err().contains("at most 100"));
    }
}
