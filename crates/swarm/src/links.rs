//! Invitation links. A link contains the address of a participant's page and the access key.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use palabre_config::{Key, PageAddress};
use palabre_host::exit::Failure;

/// Maximum size of a file of links, in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// An invitation link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Login name, or the number of the line if the file has no names.
    pub(crate) name: String,
    pub(crate) address: PageAddress,
    pub(crate) key: Key,
}

impl Link {
    /// Parses `https://HOST[:PORT]/PATH/?key=KEY`.
    pub(crate) fn parse(name: &str, link: &str) -> Result<Self, String> {
        let (page, key) = link.split_once("?key=").ok_or("the link has no '?key='; use a link of 'palabre invite'")?;
        let key = Key::parse(key).map_err(|error| error.to_string())?;
        Ok(Self { name: name.to_owned(), address: page.parse()?, key })
    }

    /// Returns the value of the header `Host`.
    pub(crate) fn host(&self) -> String {
        let PageAddress { host, port, .. } = &self.address;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Reads a file with lines `LINK` or `NAME LINK`. Empty lines and lines that begin with `#` are ignored.
pub(crate) fn read(path: &Path) -> Result<Vec<Link>, Failure> {
    let unable = |cause: String| Failure::refused(format!("unable to use the links in '{}': {cause}", path.display()));
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text));
    if read.map_err(|error| unable(error.to_string()))? as u64 > MAX_BYTES {
        return Err(unable(format!("the file is larger than {MAX_BYTES} bytes")));
    }
    let links = parse_lines(&text).map_err(unable)?;
    if links.is_empty() {
        return Err(unable("the file has no link; write the links that 'palabre invite' printed into it".to_owned()));
    }
    Ok(links)
}

fn parse_lines(text: &str) -> Result<Vec<Link>, String> {
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let parse = |(index, line): (usize, &str)| {
        let number = index + 1;
        let (name, link) = match line.rsplit_once([' ', '\t']) {
            Some((name, link)) => (name.trim().to_owned(), link),
            None => (format!("line {number}"), line),
        };
        Link::parse(&name, link).map_err(|cause| format!("line {number}: {cause}"))
    };
    lines.map(parse).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn lines_with_and_without_a_name_are_parsed() {
        let text = format!(
            "# links\nalice https://[::1]:9001/?key={KEY}\n\nhttps://a.org/bob/?key={KEY}\n  carol\thttps://a.org:1/?key={KEY}\n"
        );
        let links = parse_lines(&text).unwrap();
        let shown: Vec<_> =
            links.iter().map(|link| (link.name.as_str(), link.host(), link.address.path.as_str())).collect();
        let host = |host: &str| host.to_owned();
        let expected = [
            ("alice", host("[::1]:9001"), "/"),
            ("line 4", host("a.org:443"), "/bob/"),
            ("carol", host("a.org:1"), "/"),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn endless_file_is_refused() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert!(error.to_string().contains("the file is larger than"), "{error}");
    }

    #[test]
    fn invalid_line_is_named_with_its_cause() {
        for (line, cause) in [
            ("alice", "the link has no '?key='"),
            ("https://a.org/?key=x", "line 2: "),
            (&format!("http://a.org/?key={KEY}"), "must begin with 'https://'"),
        ] {
            let error = parse_lines(&format!("\n{line}\n")).unwrap_err();
            assert!(error.starts_with("line 2: ") && error.contains(cause), "{error}");
        }
    }
}
