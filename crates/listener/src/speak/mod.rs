//! `/speak`: receives the participant's sound by WebSocket or by POST, as samples or Opus, and writes the samples to the pipe `mic`.

mod body;
mod chunk;
mod paced;
mod packets;
mod post;
mod sound;
mod ws;

use crate::connection::{After, Connection};
use crate::http::{Head, Response};
use crate::page_id;
use crate::state::Listener;
use std::io;

/// Answers an authenticated request of `/speak`.
pub(crate) fn serve(connection: &mut Connection, head: &Head, listener: &Listener) -> io::Result<After> {
    let Some(mic) = &listener.microphone else {
        let response = Response::text(404, "not available: this participant has no microphone and only listens");
        return connection.answer(head, &response, listener.keeps());
    };
    let page = match page_id::of(head) {
        Ok(page) => page,
        Err(response) => return connection.answer(head, &response, listener.keeps()),
    };
    let is_for_another_room = listener.api.as_ref().is_some_and(|api| api.is_for_another_room(head));
    match head.method.as_str() {
        "POST" | "PUT" if is_for_another_room => {
            let response =
                Response::text(412, "the participant is in another room now, so the sound was dropped; request '/me'");
            connection.answer(head, &response, false)
        }
        // A browser doesn't tell a page why a WebSocket was refused. So, for another room, `ws::serve` opens the WebSocket and closes it with a code.
        "GET" => ws::serve(connection, head, listener, mic, page, is_for_another_room),
        "POST" | "PUT" => post::serve(connection, head, listener, mic, page),
        _ => connection.answer(head, &Response::method_not_allowed("GET, POST, PUT"), listener.keeps()),
    }
}
