//! Serves the page's files. They are compiled in, so a listener needs no access to them at run time.

use crate::http::{Head, Response};
use palabre_config::hex;
use sha2::{Digest as _, Sha256};

/// A file of the page.
struct File {
    name: &'static str,
    bytes: &'static [u8],
}

/// The file at `/`.
const INDEX: &str = "index.html";

/// All files of `crates/listener/page/`, and the list of languages. `build.rs` makes this table.
const FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// Returns the response to `GET /`.
pub(crate) fn index(head: &Head) -> Response {
    file(head, INDEX)
}

/// Returns the response to `GET /page/NAME`.
pub(crate) fn file(head: &Head, name: &str) -> Response {
    let Some(file) = FILES.iter().find(|file| file.name == name) else {
        return Response::text(404, "no such file");
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

fn entity_tag(bytes: &[u8]) -> String {
    format!("\"{}\"", hex::encode(&Sha256::digest(bytes)[..8]))
}

/// Allows only what this host and port serve. It names `wss:` because `'self'` doesn't include it in Safari 15.
fn content_security_policy(head: &Head) -> String {
    let plain = |host: &&str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-[]".contains(&b));
    let socket = head.field("host").filter(plain).map(|host| format!(" wss://{host}")).unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'{socket}; \
         frame-src 'self'; media-src 'self' data: blob:; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
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

    fn head(fields: &str) -> Head {
        parse(format!("GET / HTTP/1.1\r\nhost: a:9001\r\n{fields}\r\n").as_bytes()).unwrap().unwrap().0
    }

    fn written(response: &Response) -> String {
        let mut bytes = Vec::new();
        response.write(&mut bytes, true, true).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn table_has_every_file_of_the_folder() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/page");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut there: BTreeSet<String> = names.filter(|name| !name.starts_with('.')).collect();
        there.insert("languages.js".into());
        let table: BTreeSet<String> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(table, there);
    }

    #[test]
    fn languages_are_those_with_a_file() {
        let list = FILES.iter().find(|file| file.name == "languages.js").unwrap();
        assert_eq!(std::str::from_utf8(list.bytes).unwrap(), "export default [\"en\", \"fr\"];\n");
    }

    #[test]
    fn every_file_has_a_specific_content_type() {
        assert!(FILES.iter().all(|file| content_type(file.name) != "application/octet-stream"));
    }

    #[test]
    fn index_has_content_security_policy() {
        let text = written(&index(&head("")));
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(text.contains("connect-src 'self' wss://a:9001;"));
        assert!(text.contains("Content-Type: text/html; charset=utf-8\r\n"));
    }

    #[test]
    fn file_with_known_entity_tag_is_304() {
        let first = written(&index(&head("")));
        let tag = first.split("ETag: ").nth(1).unwrap().split('\r').next().unwrap();
        let second = written(&index(&head(&format!("If-None-Match: \"x\", {tag}\r\n"))));
        assert!(second.starts_with("HTTP/1.1 304 Not Modified\r\n"));
        assert!(second.contains(tag) && !second.contains("Content-Length"));
    }

    #[test]
    fn names_outside_the_folder_are_404() {
        for name in ["", "../Cargo.toml", "..%2fCargo.toml", "/etc/passwd", "index.html/"] {
            assert_eq!(file(&head(""), name).status, 404, "{name}");
        }
    }
}
