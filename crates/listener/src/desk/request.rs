//! The requests of the desk: `/say`, `/show`, `/without`, `/report`.

use super::{Desk, Report, Shown};
use crate::connection::{After, Connection};
use crate::http::{Head, Response};
use crate::state::Listener;
use palabre_room::{MAX_MESSAGE_CHARS, Message, Name};
use std::io;
use std::time::Instant;

/// The most names of `/without`.
const MAX_WITHOUT: usize = 1000;

/// Serves a request to one of the desk's paths that was allowed in.
///
/// # Errors
/// What the connection says.
pub fn serve(connection: &mut Connection, head: &Head, listener: &Listener) -> io::Result<After> {
    let Some(desk) = &listener.desk else {
        let response = Response::text(404, "there is no room here; this is a file that is heard");
        return connection.answer(head, &response, listener.keeps());
    };
    let reads = matches!(head.method.as_str(), "GET" | "HEAD");
    match (head.path.as_str(), head.method.as_str()) {
        ("/without", _) if reads => connection.answer(head, &without(desk), listener.keeps()),
        (_, "POST") => post(connection, head, listener, desk),
        ("/without", _) => connection.answer(head, &Response::method_not_allowed("GET, HEAD, POST"), listener.keeps()),
        _ => connection.answer(head, &Response::method_not_allowed("POST"), listener.keeps()),
    }
}

fn post(connection: &mut Connection, head: &Head, listener: &Listener, desk: &Desk) -> io::Result<After> {
    let max_bytes = match head.path.as_str() {
        "/say" => 4 * MAX_MESSAGE_CHARS,
        "/without" => 34 * MAX_WITHOUT,
        "/report" => 4096,
        _ => 256,
    };
    let body = match connection.read_body(head, max_bytes)? {
        Ok(body) => body,
        Err(response) => return connection.answer(head, &response, false),
    };
    let response = match head.path.as_str() {
        "/say" => say(desk, &body),
        "/show" => show(desk, &body),
        "/without" => set_without(desk, &body),
        _ => report(desk, &body),
    };
    listener.status.changed();
    let keep = listener.keeps() && head.keeps_alive();
    response.write(&mut connection.stream, false, keep)?;
    Ok(if keep { After::Keep } else { After::Close })
}

fn say(desk: &Desk, body: &[u8]) -> Response {
    let message = std::str::from_utf8(body).ok().and_then(|text| Message::new(desk.name.clone(), text));
    let Some(message) = message else {
        return Response::text(400, format_args!("a message is a line of 1 to {MAX_MESSAGE_CHARS} characters"));
    };
    if !desk.lock().messages.admit(Instant::now()) {
        return too_often();
    }
    match desk.room.tell(&message) {
        Ok(_) => Response::new(204),
        Err(error) => {
            log::warn!("{error}");
            Response::text(503, "the message can't be sent just now")
        }
    }
}

fn show(desk: &Desk, body: &[u8]) -> Response {
    let Ok(shown) = serde_json::from_slice::<Shown>(body) else {
        return Response::text(400, "this is not {\"hand\":true|false,\"microphone\":\"open|muted|none\"}");
    };
    let mut state = desk.lock();
    if state.shown == shown {
        return Response::new(204);
    }
    if !state.changes.admit(Instant::now()) {
        return too_often();
    }
    state.shown = shown;
    Response::new(204)
}

fn without(desk: &Desk) -> Response {
    match desk.directory.without() {
        Ok(names) => {
            let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
            Response::new(200).with_body("text/plain; charset=utf-8", lines.into_bytes())
        }
        Err(error) => {
            log::warn!("{error}");
            Response::text(503, "the list can't be read just now")
        }
    }
}

fn set_without(desk: &Desk, body: &[u8]) -> Response {
    let lines = std::str::from_utf8(body).unwrap_or("not a name").lines().filter(|line| !line.is_empty());
    let names: Result<Vec<Name>, _> = lines.map(str::parse).collect();
    let Some(mut names) = names.ok().filter(|names| names.len() <= MAX_WITHOUT) else {
        return Response::text(
            400,
            format_args!("this is not a list of at most {MAX_WITHOUT} login names, one a line"),
        );
    };
    names.sort();
    names.dedup();
    if !desk.lock().changes.admit(Instant::now()) {
        return too_often();
    }
    match desk.directory.set_without(&names) {
        Ok(()) => Response::new(204),
        Err(error) => {
            log::warn!("{error}");
            Response::text(503, "the list can't be written just now")
        }
    }
}

fn report(desk: &Desk, body: &[u8]) -> Response {
    let Some(report) = Report::parse(body) else {
        return Response::text(400, "this is not a report");
    };
    let mut state = desk.lock();
    if !state.reports.admit(Instant::now()) {
        return too_often();
    }
    log::debug!("{}", report.line());
    state.report = Some(report);
    Response::new(204)
}

fn too_often() -> Response {
    Response::text(429, "too often; wait a little").with("Retry-After", "2")
}
