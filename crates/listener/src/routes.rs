//! Chooses the handler for each request by path and method. The table at the top of `docs/injected-stream.md` lists the requests.

use crate::auth::Credential;
use crate::connection::{After, Connection};
use crate::http::{Head, Response};
use crate::state::Listener;
use crate::{api, enter, page, paste, program_stream, speak, stream};
use std::io;
use std::time::Instant;

/// The methods of HTTP (RFC 9110 §9, RFC 5789). A path that doesn't support one of these methods answers 405. Other methods get 501.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// The response to a request that has the participant's cookie but that another page sent.
const FOREIGN: &str = "refused: a page of another origin sent this request";

/// Answers one request. Calls `on_authenticated` as soon as the request is authenticated.
pub(crate) fn answer(
    connection: &mut Connection,
    head: &Head,
    listener: &Listener,
    on_authenticated: impl FnOnce(),
) -> io::Result<After> {
    if !METHODS.contains(&head.method.as_str()) {
        return connection.answer(head, &Response::text(501, "this server doesn't know this HTTP method"), false);
    }
    if head.path == "/paste" {
        return paste::serve(connection, head);
    }
    if head.path == "/enter" && listener.auth.has_invitation() {
        return enter::serve(connection, head, listener);
    }
    let client = listener.access.client(connection.stream.sock.client(), head);
    let Some(credential) = listener.auth.authenticate(head) else {
        if let Some((fault, key)) = listener.auth.key_fault(head).zip(listener.auth.given_key(head)) {
            listener.access.refused(fault, key, client, Instant::now());
        }
        // Close the connection after one unauthenticated request, so that the client needs a new connection slot for its next attempt.
        return connection.answer(head, &listener.auth.unauthorized(head), false);
    };
    if !credential.may_ask(head) {
        return connection.answer(head, &Response::text(403, FOREIGN), false);
    }
    on_authenticated();
    // A page asks for `/me` again and again, also before its user joins. These requests are no part of a visit.
    let _request = (head.path != "/me").then(|| listener.access.request(client, Instant::now()));
    let is_get = matches!(head.method.as_str(), "GET" | "HEAD");
    match head.path.as_str() {
        "/listen" if is_get => stream::serve(connection, head, listener),
        "/listen.wav" if is_get => program_stream::serve_wav(connection, head, listener),
        "/listen.ogg" if is_get => program_stream::serve_ogg(connection, head, listener),
        "/speak" if head.method == "HEAD" => {
            connection.answer(head, &Response::method_not_allowed("GET, POST, PUT"), listener.keeps())
        }
        "/speak" | "/say" | "/show" | "/gains" | "/name" | "/report"
            if !only_reads(head, is_get) && !credential.may_write(head) =>
        {
            connection.answer(head, &Response::text(403, FOREIGN), listener.keeps())
        }
        "/speak" => speak::serve(connection, head, listener),
        "/say" | "/show" | "/gains" | "/name" | "/report" => api::serve(connection, head, listener),
        _ => {
            let response = file(head, listener, is_get);
            let hsts = listener
                .hsts
                .field(listener.certificate.is_self_signed())
                .filter(|_| !listener.access.is_http_proxy(connection.stream.sock.client()));
            let response = match hsts {
                Some(value) => response.with("Strict-Transport-Security", value),
                None => response,
            };
            let response = match listener.auth.new_cookie().filter(|_| credential == Credential::FormerCookie) {
                Some(cookie) => response.with("Set-Cookie", cookie),
                None => response,
            };
            connection.answer(head, &response, listener.keeps())
        }
    }
}

/// Returns whether the request changes nothing. A GET of `/speak` opens the WebSocket for the microphone, so it counts as a change.
fn only_reads(head: &Head, is_get: bool) -> bool {
    is_get && head.path != "/speak"
}

fn file(head: &Head, listener: &Listener, is_get: bool) -> Response {
    let name = head.path.strip_prefix("/page/");
    let is_known =
        matches!(head.path.as_str(), "/" | "/me" | "/listen" | "/listen.wav" | "/listen.ogg") || name.is_some();
    match (head.path.as_str(), head.parameter("key")) {
        _ if !is_known => Response::text(404, "there is no page at this address"),
        _ if !is_get => Response::method_not_allowed("GET, HEAD"),
        ("/", Some(key)) => listener.auth.sign_in(key),
        ("/", None) => page::index(head),
        ("/me", _) => Response::new(200).with_body("application/json", listener.me_now().into_bytes()),
        _ => page::file(head, name.unwrap_or_default()),
    }
}
