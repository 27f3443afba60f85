//! Handlers of the requests `/say`, `/show`, `/gains`, `/name` and `/report`, which `docs/injected-stream.md` specifies.

use super::{Api, Report, own_name, shown, too_many_requests};
use crate::connection::{After, Connection};
use crate::http::{Head, Response};
use crate::page_id;
use crate::state::Listener;
use palabre_room::{MAX_GAINS, MAX_MESSAGE_CHARS, Message, Name, PersonalGain};
use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

/// Answers an authenticated request to one of these paths.
pub(crate) fn serve(connection: &mut Connection, head: &Head, listener: &Listener) -> io::Result<After> {
    let Some(api) = &listener.api else {
        let response = Response::text(404, "not available: this server streams a file and has no room");
        return connection.answer(head, &response, listener.keeps());
    };
    let reads = matches!(head.method.as_str(), "GET" | "HEAD");
    match (head.path.as_str(), head.method.as_str()) {
        ("/gains", _) if reads => connection.answer(head, &gains(api), listener.keeps()),
        (_, "POST") => post(connection, head, listener, api),
        ("/gains", _) => connection.answer(head, &Response::method_not_allowed("GET, HEAD, POST"), listener.keeps()),
        _ => connection.answer(head, &Response::method_not_allowed("POST"), listener.keeps()),
    }
}

fn post(connection: &mut Connection, head: &Head, listener: &Listener, api: &Api) -> io::Result<After> {
    let max_bytes = match head.path.as_str() {
        "/say" => 4 * MAX_MESSAGE_CHARS,
        "/gains" => 40 * MAX_GAINS,
        "/report" => 4096,
        _ => 256,
    };
    let body = match connection.read_body(head, max_bytes)? {
        Ok(body) => body,
        Err(response) => return connection.answer(head, &response, false),
    };
    let response = match head.path.as_str() {
        "/say" => say(api, head, &body),
        "/show" => show(listener, api, head, &body),
        "/gains" => set_gains(api, &body),
        "/name" => own_name::choose(api, &body),
        _ => report(api, &body),
    };
    listener.main_thread.wake();
    let keep = listener.keeps() && head.keeps_alive();
    response.write(&mut connection.stream, false, keep)?;
    Ok(if keep { After::Keep } else { After::Close })
}

fn say(api: &Api, head: &Head, body: &[u8]) -> Response {
    let message = std::str::from_utf8(body).ok().and_then(|text| Message::new(api.name.clone().into(), text));
    let Some(message) = message else {
        return Response::text(
            400,
            format_args!("invalid message: it must be one line of 1 to {MAX_MESSAGE_CHARS} characters"),
        );
    };
    let is_kept = head.parameter("keep") != Some("no");
    let message = match head.parameter("id") {
        None => message,
        Some(_) if !is_kept => return Response::text(400, "a message with 'keep=no' must have no 'id'"),
        Some(id) => match message.with_id(id) {
            Some(message) => message,
            None => return Response::text(400, "the parameter 'id' must be 1 to 32 lower-case letters or digits"),
        },
    };
    if api.is_for_another_room(head) {
        return Response::text(409, "the participant is in another room now, so the message was not sent");
    }
    if !api.lock().messages.admit(Instant::now()) {
        return too_many_requests("1");
    }
    let said = if is_kept { api.meeting.say(message) } else { api.meeting.say_once(&message).map(|()| true) };
    match said {
        Ok(true) => Response::new(204),
        Ok(false) => Response::text(409, "another message with this 'id' was sent; use another 'id'"),
        Err(error) => {
            log::warn!("{error}");
            Response::text(503, "unable to send the message to the room; try again later")
        }
    }
}

fn show(listener: &Listener, api: &Api, head: &Head, body: &[u8]) -> Response {
    let page = match page_id::of(head) {
        Ok(page) => page,
        Err(response) => return response,
    };
    let Some(shown) = shown::parse(body) else {
        return Response::text(
            400,
            "invalid body: it must be {\"hand\":true|false,\"microphone\":\"open|muted|none\",\"weak\":true|false}",
        );
    };
    let now = Instant::now();
    if listener.handover.is_news(shown) && !api.lock().changes.admit(now) {
        return too_many_requests("2");
    }
    listener.handover.show(shown, page, now);
    Response::new(204)
}

fn gains(api: &Api) -> Response {
    match api.directory.gains() {
        Ok(gains) => {
            let lines: String = gains.iter().map(|line| format!("{line}\n")).collect();
            Response::new(200).with_body("text/plain; charset=utf-8", lines.into_bytes())
        }
        Err(error) => {
            log::warn!("{error}");
            Response::text(503, "unable to read your volumes for the other participants; try again later")
        }
    }
}

fn set_gains(api: &Api, body: &[u8]) -> Response {
    let lines = std::str::from_utf8(body).unwrap_or("not a name").lines().filter(|line| !line.is_empty());
    let gains: Result<BTreeMap<Name, PersonalGain>, _> =
        lines.map(|line| line.parse::<PersonalGain>().map(|line| (line.name.clone(), line))).collect();
    let Some(gains) = gains.ok().filter(|gains| gains.len() <= MAX_GAINS) else {
        return Response::text(
            400,
            format_args!("invalid body: at most {MAX_GAINS} lines with a login name, a tab, and decibels or 'mute'"),
        );
    };
    if !api.lock().changes.admit(Instant::now()) {
        return too_many_requests("2");
    }
    match api.directory.set_gains(&gains.into_values().collect::<Vec<_>>()) {
        Ok(()) => Response::new(204),
        Err(error) => {
            log::warn!("{error}");
            Response::text(503, "unable to store your volumes for the other participants; try again later")
        }
    }
}

fn report(api: &Api, body: &[u8]) -> Response {
    let Some(report) = Report::parse(body) else {
        return Response::text(400, "invalid body: it must be the JSON of a page's report");
    };
    let mut state = api.lock();
    if !state.reports.admit(Instant::now()) {
        return too_many_requests("5");
    }
    log::debug!("{}", report.line());
    state.report = Some(report);
    Response::new(204)
}
