//! `POST /enter`: the button behind a link that opens once.
//!
//! To look at the link (a preview, a scanner of mail) does nothing. The button carries the link's key and a new one, which the
//! page with the button brought; the supervisor writes its hash down, and from then on it opens to nobody else.

use crate::auth::{Door, Entered, pages};
use crate::connection::{After, Connection};
use crate::http::{Head, Response};
use crate::state::Listener;
use palabre_config::{Entrance, Key, control};
use std::io;
use std::path::Path;
use std::time::Duration;

/// Two keys with their names, and some.
const MAX_BYTES: usize = 256;
/// The supervisor answers in milliseconds; it writes to a disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves a request to `/enter`, from anybody.
///
/// # Errors
/// What the connection says.
pub fn serve(connection: &mut Connection, head: &Head, listener: &Listener) -> io::Result<After> {
    let response = match head.method.as_str() {
        "POST" => match connection.read_body(head, MAX_BYTES)? {
            Ok(body) => post(&listener.door, head, &body),
            Err(response) => response,
        },
        _ => Response::method_not_allowed("POST"),
    };
    response.write(&mut connection.stream, head.method == "HEAD", false)?;
    Ok(After::Close)
}

fn post(door: &Door, head: &Head, body: &[u8]) -> Response {
    // Programs send none; no browser sends a form without it, or from another page with this one's.
    if head.field("origin").is_some() && !crate::auth::is_own_origin(head) {
        return Response::text(403, "this request comes from another page");
    }
    let body = std::str::from_utf8(body).unwrap_or_default();
    let field = |name: &str| body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let (Some(link), Some(Ok(key))) = (field("link"), field("key").map(Key::parse)) else {
        return Response::text(400, "this is not link=KEY&key=KEY");
    };
    match door.enter(link, &key, ask) {
        Entered::In => door.welcome(key.as_str()),
        Entered::NotNow => pages::door(link, &key, true),
        Entered::Not(why) => why.response(head),
    }
}

fn ask(entrance: Entrance, supervisor: &Path) -> bool {
    let cause = match control::request(supervisor, &control::Request::Enter(entrance), PATIENCE) {
        Ok(control::Response::Ok) => return true,
        Ok(control::Response::Refused { why }) => why,
        Ok(other) => format!("the supervisor says {other:?}"),
        Err(error) => error.to_string(),
    };
    log::warn!("{cause}");
    false
}
