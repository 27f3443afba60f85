//! `POST /name`: the participant chooses a display name. The supervisor compares the name with the names of the other participants and records it.

use super::{Api, too_many_requests};
use crate::http::Response;
use palabre_config::control::{self, Request};
use palabre_room::own_display_name_is_valid;
use std::time::{Duration, Instant};

/// Timeout for the answer of the supervisor, which writes to the disk before it answers.
const SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends the name in the body of a request to the supervisor. Returns the response to the request.
pub(super) fn choose(api: &Api, body: &[u8]) -> Response {
    let Some(supervisor) = &api.supervisor else {
        return Response::text(403, "the operator doesn't allow you to change your display name");
    };
    let display = std::str::from_utf8(body).unwrap_or_default().trim();
    if !own_display_name_is_valid(display) {
        return Response::text(
            400,
            "invalid display name: it must have 1 to 64 characters, at least one visible, and none that changes the direction of writing",
        );
    }
    if !api.lock().names.admit(Instant::now()) {
        return too_many_requests("10");
    }
    let request = Request::DisplayName { name: api.name.clone(), display: Some(display.to_owned()) };
    let cause = match control::request(supervisor, &request, SUPERVISOR_TIMEOUT) {
        Ok(control::Response::Ok) => return Response::new(204),
        Ok(control::Response::Taken) => {
            return Response::text(
                409,
                "another participant has this display name or a similar one; choose another name",
            );
        }
        Ok(control::Response::Refused { why }) => why,
        Ok(other) => format!("the supervisor sent an unexpected answer, {other:?}; use programs of one release"),
        Err(error) => error.to_string(),
    };
    log::warn!("unable to store the chosen display name: {cause}; the page shows an error");
    Response::text(503, "unable to change your display name; try again later")
}
