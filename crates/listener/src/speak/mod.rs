//! `/speak`: receives the participant's sound by WebSocket or as a WAV in a POST, and writes the samples to the pipe `mic`.

mod post;
mod ws;

use crate::connection::{After, Connection};
use crate::http::{Head, Response};
use crate::state::Listener;
use std::io;

/// Answers an authenticated request of `/speak`.
pub(crate) fn serve(connection: &mut Connection, head: &Head, listener: &Listener) -> io::Result<After> {
    let Some(mic) = &listener.microphone else {
        let response = Response::text(404, "not available: this participant has no microphone and only listens");
        return connection.answer(head, &response, listener.keeps());
    };
    let page = match head.parameter("page") {
        Some(page) if !is_page_id(page) => {
            let response = Response::text(400, "the parameter 'page' must be 1 to 32 characters of a-z and 0-9");
            return connection.answer(head, &response, listener.keeps());
        }
        page => page,
    };
    let is_for_another_room = listener.api.as_ref().is_some_and(|api| api.is_for_another_room(head));
    match head.method.as_str() {
        "POST" | "PUT" if is_for_another_room => {
            let response =
                Response::text(412, "the participant is in another room now, so the sound was not sent; ask for '/me'");
            connection.answer(head, &response, false)
        }
        // A browser doesn't tell a page why a WebSocket was refused, so `ws` opens the WebSocket and closes it with a code.
        "GET" => ws::serve(connection, head, listener, mic, page, is_for_another_room),
        "POST" | "PUT" => post::serve(connection, head, listener, mic, page),
        _ => connection.answer(head, &Response::method_not_allowed("GET, POST, PUT"), listener.keeps()),
    }
}

fn is_page_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::is_page_id;

    #[test]
    fn page_id_has_1_to_32_lower_case_letters_and_digits() {
        assert!(is_page_id("a") && is_page_id("0123456789abcdefghijklmnopqrstuv"));
        for bad in ["", "A", "a-b", "é", "0123456789abcdefghijklmnopqrstuvw"] {
            assert!(!is_page_id(bad), "{bad}");
        }
    }
}
