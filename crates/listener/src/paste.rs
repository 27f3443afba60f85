//! `POST /paste`: the field on the page for unauthenticated browsers, into which a user pastes an invitation link.
//!
//! A web app on the home screen of a phone has cookies of its own, and no address bar. The request needs no authentication, and pages of
//! other origins may send it, because it changes nothing: the response redirects to the link, if the link is for this host.

use crate::auth::pages;
use crate::connection::{After, Connection};
use crate::http::{Head, Response};
use palabre_config::Key;
use std::io;

/// Maximum length of the body of `POST /paste`, which contains a link.
const MAX_BODY_BYTES: usize = 1024;

/// Answers a request to `/paste`.
pub(crate) fn serve(connection: &mut Connection, head: &Head) -> io::Result<After> {
    let response = match head.method.as_str() {
        "POST" => match connection.read_body(head, MAX_BODY_BYTES)? {
            Ok(body) => post(head, &body),
            Err(response) => response,
        },
        _ => Response::method_not_allowed("POST"),
    };
    response.write(&mut connection.stream, head.method == "HEAD", false)?;
    Ok(After::Close)
}

fn post(head: &Head, body: &[u8]) -> Response {
    let link = std::str::from_utf8(body).ok().and_then(|body| body.trim().strip_prefix("link="));
    match link.zip(head.field("host")).and_then(|(link, host)| address(link.trim(), host)) {
        Some(address) => Response::new(303).with("Location", address),
        None => pages::no_such_link(head),
    }
}

/// Returns the address to which a pasted link leads. Returns `None` if the link is not an invitation link of `host`, whatever its port: each
/// participant has a port.
fn address(link: &str, host: &str) -> Option<String> {
    let (authority, rest) = link.strip_prefix("https://")?.split_once('/')?;
    let (path, query) = rest.split_once('?')?;
    let (linked, port) = split_port(authority)?;
    if !linked.eq_ignore_ascii_case(split_port(host)?.0) {
        return None;
    }
    if !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte)) {
        return None;
    }
    let key = query.split(['&', '#']).find_map(|pair| pair.strip_prefix("key="))?;
    let key = Key::parse(key).ok()?;
    Some(format!("https://{linked}{port}/{path}?key={}", key.as_str()))
}

/// Splits `HOST:PORT` into the host, and the port with its colon, which may be missing. Returns `None` if one of them is invalid.
fn split_port(authority: &str) -> Option<(&str, &str)> {
    let end = authority.rfind(':').filter(|&colon| !authority[colon..].contains(']')).unwrap_or(authority.len());
    let (host, port) = authority.split_at(end);
    let digits = port.get(1..).unwrap_or_default();
    let is_port =
        port.is_empty() || digits.parse::<u16>().is_ok_and(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let is_host = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte));
    (is_port && is_host && !host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn links_of_this_host_are_accepted_on_any_port_and_path() {
        for (link, host) in [
            (format!("https://voice.example:9001/?key={KEY}"), "voice.example:9002"),
            (format!("https://voice.example/alice/?key={KEY}"), "Voice.Example"),
            (format!("https://[::1]:9001/?key={KEY}"), "[::1]"),
        ] {
            assert_eq!(address(&link, host).map(|address| address.to_ascii_lowercase()), Some(link));
        }
    }

    #[test]
    fn other_links_are_refused() {
        for link in [
            format!("https://elsewhere.example/?key={KEY}"),
            format!("http://voice.example/?key={KEY}"),
            format!("https://voice.example@elsewhere.example/?key={KEY}"),
            format!("https://voice.example:9001@elsewhere.example/?key={KEY}"),
            format!("https://voice.example:+443/?key={KEY}"),
            format!("https://voice.example\\@elsewhere.example/?key={KEY}"),
            format!("https://voice.example/a\r\nSet-Cookie: x/?key={KEY}"),
            format!("https://voice.example?key={KEY}"),
            "https://voice.example/?key=short".to_owned(),
            "https://voice.example/".to_owned(),
            "hello".to_owned(),
        ] {
            assert_eq!(address(&link, "voice.example:9001"), None, "{link}");
        }
    }
}
