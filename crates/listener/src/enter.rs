//! `POST /enter`: the button on the page of an invitation link.
//!
//! Opening the link doesn't use it, because link previews and mail scanners open links too. The button sends the link's key and the new
//! access key that the page contains. The supervisor records the hash of the new key; from then on only the new key is valid.

use crate::auth::pages::{self, Denial};
use crate::auth::{KeyFault, Redemption, is_own_origin};
use crate::connection::{After, Connection};
use crate::http::{Head, Response};
use crate::state::Listener;
use palabre_config::{Entrance, Key, control};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Maximum length of the body of `POST /enter`, which contains two keys.
const MAX_BODY_BYTES: usize = 256;
/// Timeout for the answer of the supervisor, which writes to the disk first.
const SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers a request to `/enter`. The request needs no authentication.
pub(crate) fn serve(connection: &mut Connection, head: &Head, listener: &Listener) -> io::Result<After> {
    let response = match head.method.as_str() {
        "POST" => match connection.read_body(head, MAX_BODY_BYTES)? {
            Ok(body) => post(connection, head, listener, &body),
            Err(response) => response,
        },
        _ => Response::method_not_allowed("POST"),
    };
    response.write(&mut connection.stream, head.method == "HEAD", false)?;
    Ok(After::Close)
}

fn post(connection: &Connection, head: &Head, listener: &Listener, body: &[u8]) -> Response {
    // A browser always sends the field 'Origin' with a form; a program doesn't send this field.
    if head.field("origin").is_some() && !is_own_origin(head) {
        return Response::text(403, "refused: a page of another origin sent this request");
    }
    let body = std::str::from_utf8(body).unwrap_or_default();
    let field = |name: &str| body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let (Some(link), Some(Ok(key))) = (field("link"), field("key").map(Key::parse)) else {
        return Response::text(400, "invalid body: it must be link=KEY&key=KEY");
    };
    match listener.auth.redeem(link, &key, record) {
        Redemption::Accepted => listener.auth.sign_in(key.as_str()),
        Redemption::NotRecorded => pages::invitation(link, &key, true),
        Redemption::Denied(denial) => {
            let fault = match denial {
                Denial::Unauthenticated => KeyFault::Wrong,
                Denial::Suspended => KeyFault::Suspended,
                Denial::Expired | Denial::Used | Denial::NeedsBrowser => KeyFault::Old,
            };
            let client = listener.access.client(connection.stream.sock.client(), head);
            listener.access.refused(fault, link, client, Instant::now());
            denial.response(head)
        }
    }
}

/// Asks the supervisor to record the use of the invitation link. Returns whether the supervisor recorded it.
fn record(entrance: Entrance, supervisor: &Path) -> bool {
    let cause = match control::request(supervisor, &control::Request::Enter(entrance), SUPERVISOR_TIMEOUT) {
        Ok(control::Response::Ok) => return true,
        Ok(control::Response::Refused { why }) => why,
        Ok(other) => format!("the supervisor sent an unexpected answer, {other:?}; use programs of one release"),
        Err(error) => error.to_string(),
    };
    log::warn!("unable to record the use of the invitation link: {cause}; the page shows the button again");
    false
}
