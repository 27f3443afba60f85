//! `/speak`: what the participant says, by WebSocket or as a WAV, into the pipe `mic`.

mod microphone;
mod post;
mod ws;

pub use microphone::{Claim, Kind, Lost, Microphone};

use crate::connection::{After, Connection};
use crate::http::{Head, Response};
use crate::state::Listener;
use std::io;
use std::sync::Arc;

/// Serves a request that was allowed in.
///
/// # Errors
/// What the connection says.
pub fn serve(connection: &mut Connection, head: &Head, listener: &Listener) -> io::Result<After> {
    let Some(microphone) = &listener.microphone else {
        let response = Response::text(404, "there is no microphone here, only something to hear");
        return connection.answer(head, &response, listener.keeps());
    };
    let page = match head.parameter("page") {
        Some(page) if !is_page_id(page) => {
            let response = Response::text(400, "'page' must be 1 to 32 characters of a-z and 0-9");
            return connection.answer(head, &response, listener.keeps());
        }
        page => page,
    };
    match head.method.as_str() {
        "GET" => ws::serve(connection, head, listener, microphone, page),
        "POST" | "PUT" => post::serve(connection, head, listener, microphone, page),
        _ => connection.answer(head, &Response::method_not_allowed("GET, POST, PUT"), listener.keeps()),
    }
}

/// Tells the supervisor when a source begins and when it ends.
fn claimed<T>(listener: &Listener, claim: Arc<Claim>, speak: impl FnOnce(&Claim) -> T) -> T {
    listener.status.changed();
    let result = speak(&claim);
    drop(claim);
    listener.status.changed();
    result
}

fn is_page_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::is_page_id;

    #[test]
    fn a_page_id_is_short_and_plain() {
        assert!(is_page_id("a") && is_page_id("0123456789abcdefghijklmnopqrstuv"));
        for bad in ["", "A", "a-b", "é", "0123456789abcdefghijklmnopqrstuvw"] {
            assert!(!is_page_id(bad), "{bad}");
        }
    }
}
