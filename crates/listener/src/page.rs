//! Serves the page's files. They are compiled into the program, so the sandboxed process reads no files of the page at run time.

use crate::http::{Head, Response};
use palabre_config::hex;
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

struct File {
    /// Path of the file below `page/`, with `/` between folders.
    name: &'static str,
    bytes: &'static [u8],
}

const INDEX: &str = "index.html";

/// All files of `crates/listener/page/`, and `text/languages.js`. `build.rs` generates the table.
const FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// Returns the version of the page's files: a hash of all names and contents.
pub(crate) fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let mut hash = Sha256::new();
        for file in FILES {
            hash.update(file.name);
            hash.update(file.bytes);
        }
        hex::encode(&hash.finalize()[..8])
    });
    &VERSION
}

/// Returns the response to `GET /`.
pub(crate) fn index(head: &Head) -> Response {
    file(head, INDEX)
}

/// Returns the response to `GET /page/NAME`. Only names in the table are served; NAME is never used as a path.
pub(crate) fn file(head: &Head, name: &str) -> Response {
    let Some(file) = FILES.iter().find(|file| file.name == name) else {
        return moved(name).unwrap_or_else(|| Response::text(404, "the page has no file with this name"));
    };
    let tag = entity_tag(file.bytes);
    let known = head.all("if-none-match").flat_map(|tags| tags.split(',')).any(|known| known.trim() == tag);
    let response =
        if known { Response::new(304) } else { Response::new(200).with_body(content_type(name), file.bytes) };
    response
        .with("ETag", tag)
        .with("Cache-Control", "no-cache")
        .with("Content-Security-Policy", content_security_policy(head))
}

/// Returns a redirect from a file name without folder to the file in its folder. A page from an older version, whose files had no
/// folders, still loads worklets and icons by such names.
fn moved(name: &str) -> Option<Response> {
    let file = FILES.iter().find(|file| file.name.rsplit_once('/').is_some_and(|(_, last)| last == name))?;
    Some(Response::new(303).with("Location", file.name))
}

fn entity_tag(bytes: &[u8]) -> String {
    format!("\"{}\"", hex::encode(&Sha256::digest(bytes)[..8]))
}

/// Returns a `Content-Security-Policy` that allows only this origin. It names the `wss:` address because `'self'` doesn't include
/// WebSockets in Safari 15.
fn content_security_policy(head: &Head) -> String {
    let host = head.field("host").filter(|host| is_host(host));
    let socket = host.map(|host| format!(" wss://{host}")).unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'{socket}; \
         frame-src 'self'; media-src 'self' data: blob:; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

/// Returns whether this is a host name or an IP address, with or without a port, that a Content-Security-Policy may name.
fn is_host(text: &str) -> bool {
    let consists_of = |text: &str, others: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || others.contains(&b))
    };
    let (host, port) = text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).unwrap_or((text, "443"));
    let is_valid = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => consists_of(address, b".:"),
        None => consists_of(host, b".-"),
    };
    is_valid && port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit())
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("json") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http::head::parse;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn head(fields: &str) -> Head {
        parse(format!("GET / HTTP/1.1\r\nhost: a:9001\r\n{fields}\r\n").as_bytes()).unwrap().unwrap().0
    }

    fn written(response: &Response) -> String {
        let mut bytes = Vec::new();
        response.write(&mut bytes, true, true).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn names_below(folder: &Path, prefix: &str) -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        entries
            .flat_map(|entry| {
                let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
                if entry.path().is_dir() {
                    names_below(&entry.path(), &format!("{name}/"))
                } else {
                    BTreeSet::from([name])
                }
            })
            .collect()
    }

    #[test]
    fn table_has_every_file_of_every_folder() {
        let mut expected = names_below(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/page")), "");
        expected.insert("text/languages.js".into());
        let table: BTreeSet<String> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(table, expected);
    }

    #[test]
    fn languages_are_those_with_a_text_file() {
        let list = FILES.iter().find(|file| file.name == "text/languages.js").unwrap();
        assert_eq!(std::str::from_utf8(list.bytes).unwrap(), "export default [\"en\", \"fr\"];\n");
    }

    #[test]
    fn every_file_has_a_content_type() {
        assert!(FILES.iter().all(|file| content_type(file.name) != "application/octet-stream"));
    }

    #[test]
    fn index_has_its_type_and_policy() {
        let text = written(&index(&head("")));
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(text.contains("connect-src 'self' wss://a:9001;"));
        assert!(text.contains("Content-Type: text/html; charset=utf-8\r\n"));
    }

    #[test]
    fn policy_names_the_host_only_if_it_is_valid() {
        let policy = |host: &str| {
            let head = parse(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).unwrap().unwrap().0;
            content_security_policy(&head)
        };
        for host in ["a", "voice.example.org:9001", "192.0.2.1", "[::1]", "[2001:db8::1]:9001"] {
            assert!(policy(host).contains(&format!("connect-src 'self' wss://{host};")), "{}", policy(host));
        }
        for host in ["", ":9001", "a:", "a:b", "a:+1", "a:65536", "::1", "[]", "[", "[::1]9001", "a b", "a;b", "*", "'"]
        {
            assert!(policy(host).contains("connect-src 'self';"), "{}", policy(host));
        }
    }

    #[test]
    fn matching_entity_tag_gets_304_without_a_body() {
        let first = written(&index(&head("")));
        let tag = first.split("ETag: ").nth(1).unwrap().split('\r').next().unwrap();
        let second = written(&index(&head(&format!("If-None-Match: \"x\", {tag}\r\n"))));
        assert!(second.starts_with("HTTP/1.1 304 Not Modified\r\n"));
        assert!(second.contains(tag) && !second.contains("Content-Length"));
    }

    #[test]
    fn names_outside_the_table_get_404() {
        let outside = [
            "",
            "/",
            "../Cargo.toml",
            "..%2fCargo.toml",
            "/etc/passwd",
            "index.html/",
            "player",
            "player/",
            "player/../app.js",
        ];
        for name in
            outside.into_iter().chain(["player//player.js", "./app.js", "player%2fplayer.js", "stream/player.js"])
        {
            assert_eq!(file(&head(""), name).status, 404, "{name}");
        }
    }

    #[test]
    fn bare_name_is_redirected_into_its_folder() {
        let text = written(&file(&head(""), "player-worklet.js"));
        assert!(text.starts_with("HTTP/1.1 303 "));
        assert!(text.contains("Location: player/player-worklet.js\r\n"));
        assert_eq!(file(&head(""), "player/player-worklet.js").status, 200);
    }
}
