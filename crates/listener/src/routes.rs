//! Chooses the handler of each request, as in the table at the top of `docs/injected-stream.md`.

use crate::connection::{After, Connection};
use crate::http::{Head, Response};
use crate::state::Listener;
use crate::{api, enter, page, speak, stream, wav_stream};
use std::io;

/// Methods that exist (RFC 9110 §9, RFC 5789): a path that doesn't support one answers 405. Other methods are answered 501.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// Answers one request. Calls `on_authenticated` as soon as the request is authenticated.
pub(crate) fn answer(
    connection: &mut Connection,
    head: &Head,
    listener: &Listener,
    on_authenticated: impl FnOnce(),
) -> io::Result<After> {
    if !METHODS.contains(&head.method.as_str()) {
        return connection.answer(head, &Response::text(501, "this method is not known here"), false);
    }
    if head.path == "/enter" && listener.auth.has_invitation() {
        return enter::serve(connection, head, listener);
    }
    let Some(credential) = listener.auth.authenticate(head) else {
        // One unauthenticated request per connection: the next attempt must get a connection slot again.
        return connection.answer(head, &listener.auth.unauthorized(head), false);
    };
    on_authenticated();
    let is_get = matches!(head.method.as_str(), "GET" | "HEAD");
    match head.path.as_str() {
        "/listen" if is_get => stream::serve(connection, head, listener),
        "/listen.wav" if is_get => wav_stream::serve(connection, head, listener),
        "/speak" if head.method == "HEAD" => {
            connection.answer(head, &Response::method_not_allowed("GET, POST, PUT"), listener.keeps())
        }
        "/speak" | "/say" | "/show" | "/without" | "/report"
            if !only_reads(head, is_get) && !credential.may_write(head) =>
        {
            connection.answer(head, &Response::text(403, "this request comes from another page"), listener.keeps())
        }
        "/speak" => speak::serve(connection, head, listener),
        "/say" | "/show" | "/without" | "/report" => api::serve(connection, head, listener),
        _ => connection.answer(head, &file(head, listener, is_get), listener.keeps()),
    }
}

/// Returns whether the request changes nothing. A GET of `/speak` does: it opens the WebSocket for the microphone.
fn only_reads(head: &Head, is_get: bool) -> bool {
    is_get && head.path != "/speak"
}

fn file(head: &Head, listener: &Listener, is_get: bool) -> Response {
    let name = head.path.strip_prefix("/page/");
    let is_known = matches!(head.path.as_str(), "/" | "/me" | "/listen" | "/listen.wav") || name.is_some();
    match (head.path.as_str(), head.parameter("key")) {
        _ if !is_known => Response::text(404, "there is nothing here"),
        _ if !is_get => Response::method_not_allowed("GET, HEAD"),
        ("/", Some(key)) => listener.auth.sign_in(key),
        ("/", None) => page::index(head),
        ("/me", _) => Response::new(200).with_body("application/json", listener.me_json.clone().into_bytes()),
        _ => page::file(head, name.unwrap_or_default()),
    }
}
