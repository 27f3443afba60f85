//! Which request gets which answer: the table at the top of `docs/injected-stream.md`.

use crate::connection::{After, Connection};
use crate::http::{Head, Response};
use crate::state::Listener;
use crate::{desk, enter, page, speak, stream, wav_stream};
use std::io;

/// Methods that exist (RFC 9110 §9, RFC 5789); others are not implemented rather than not allowed.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// Answers one request. `proven` is called as soon as it has shown the key.
///
/// # Errors
/// What the connection says.
pub fn answer(
    connection: &mut Connection,
    head: &Head,
    listener: &Listener,
    proven: impl FnOnce(),
) -> io::Result<After> {
    if !METHODS.contains(&head.method.as_str()) {
        return connection.answer(head, &Response::text(501, "this method is not known here"), false);
    }
    if head.path == "/enter" && listener.door.opens_once() {
        return enter::serve(connection, head, listener);
    }
    let Some(proof) = listener.door.proof(head) else {
        // A stranger gets one answer: who asks again waits for a place again.
        return connection.answer(head, &listener.door.refusal(head), false);
    };
    proven();
    let reads = matches!(head.method.as_str(), "GET" | "HEAD");
    match head.path.as_str() {
        "/listen" if reads => stream::serve(connection, head, listener),
        "/listen.wav" if reads => wav_stream::serve(connection, head, listener),
        "/speak" if head.method == "HEAD" => {
            connection.answer(head, &Response::method_not_allowed("GET, POST, PUT"), listener.keeps())
        }
        "/speak" | "/say" | "/show" | "/without" | "/report" if !reads_only(head, reads) && !proof.may_write(head) => {
            connection.answer(head, &Response::text(403, "this request comes from another page"), listener.keeps())
        }
        "/speak" => speak::serve(connection, head, listener),
        "/say" | "/show" | "/without" | "/report" => desk::serve(connection, head, listener),
        _ => connection.answer(head, &at_hand(head, listener, reads), listener.keeps()),
    }
}

/// To read from `/speak` is to open the WebSocket that writes.
fn reads_only(head: &Head, reads: bool) -> bool {
    reads && head.path != "/speak"
}

fn at_hand(head: &Head, listener: &Listener, reads: bool) -> Response {
    let name = head.path.strip_prefix("/page/");
    let is_known = matches!(head.path.as_str(), "/" | "/me" | "/listen" | "/listen.wav") || name.is_some();
    match (head.path.as_str(), head.parameter("key")) {
        _ if !is_known => Response::text(404, "there is nothing here"),
        _ if !reads => Response::method_not_allowed("GET, HEAD"),
        ("/", Some(key)) => listener.door.welcome(key),
        ("/", None) => page::index(head),
        ("/me", _) => Response::new(200).with_body("application/json", listener.me_json.clone().into_bytes()),
        _ => page::file(head, name.unwrap_or_default()),
    }
}
