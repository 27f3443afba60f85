//! Access links as `palabre try` prints them.

use anyhow::{Result, anyhow};

/// A participant's access link.
#[derive(Clone, Debug)]
pub struct Link {
    /// Name of the participant.
    pub name: String,
    /// `https://HOST:PORT/?key=KEY`.
    pub url: String,
    /// The participant's port.
    pub port: u16,
    /// The participant's access key.
    pub key: String,
}

impl Link {
    /// Parses a line `NAME LINK`, as in `DIR/links`.
    pub fn parse(line: &str) -> Result<Self> {
        let invalid = || anyhow!("'{line}' is not 'NAME https://HOST:PORT/?key=KEY'");
        let (name, url) = line.split_once(' ').ok_or_else(invalid)?;
        let parsed: url::Url = url.parse()?;
        let key = parsed.query_pairs().find(|(name, _)| name == "key").ok_or_else(invalid)?.1.into_owned();
        let port = parsed.port().ok_or_else(invalid)?;
        Ok(Self { name: name.into(), url: url.into(), port, key })
    }
}
