//! Responses with a complete body. The handlers of endless streams write their bodies themselves.

use super::head::Refusal;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

/// A response with a complete body.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    fields: Vec<(&'static str, String)>,
    body: Cow<'static, [u8]>,
}

impl Response {
    /// Creates a response without a body.
    pub(crate) fn new(status: u16) -> Self {
        Self { status, fields: Vec::new(), body: Cow::Borrowed(&[]) }
    }

    /// Creates a response with a line of plain text.
    pub(crate) fn text(status: u16, line: impl std::fmt::Display) -> Self {
        Self::new(status).with_body("text/plain; charset=utf-8", format!("{line}\n").into_bytes())
    }

    /// Creates a 405 response that names the allowed methods.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        Self::text(405, format_args!("method not allowed; this address supports {allow}")).with("Allow", allow)
    }

    /// Adds a header field.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Sets the body.
    pub(crate) fn with_body(mut self, content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        self.body = body.into();
        self.with("Content-Type", content_type)
    }

    /// Writes head and body in one call. `head_only` is for HEAD requests.
    pub(crate) fn write(&self, to: &mut impl Write, head_only: bool, keep_alive: bool) -> io::Result<()> {
        let mut head = head(self.status, &self.fields);
        if self.status != 304 && self.status != 204 {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        if !keep_alive {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if !head_only {
            bytes.extend_from_slice(&self.body);
        }
        to.write_all(&bytes)?;
        to.flush()
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        Self::text(refusal.status, refusal.why)
    }
}

/// Header fields that are added to every response that doesn't set them itself.
const DEFAULTS: [(&str, &str); 3] = [
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
];

/// Returns the status line, the common fields and `fields`, without the empty line at the end.
pub(crate) fn head(status: u16, fields: &[(&'static str, String)]) -> String {
    let mut head = format!(
        "HTTP/1.1 {status} {}\r\nX-Content-Type-Options: nosniff\r\n\
         Cross-Origin-Resource-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\n\
         Origin-Agent-Cluster: ?1\r\nPermissions-Policy: microphone=(self)\r\n",
        reason(status)
    );
    for (name, default) in DEFAULTS {
        if !fields.iter().any(|(field, _)| *field == name) {
            let _ = write!(head, "{name}: {default}\r\n");
        }
    }
    for (name, value) in fields {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head
}

fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        204 => "No Content",
        303 => "See Other",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn written(response: &Response, head_only: bool, keep_alive: bool) -> String {
        let mut bytes = Vec::new();
        response.write(&mut bytes, head_only, keep_alive).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn response_has_length_and_security_fields() {
        let text = written(&Response::text(404, "nothing here"), false, true);
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n"));
        for field in ["nosniff", "no-referrer", "same-origin", "microphone=(self)", "Content-Length: 13", "no-store"] {
            assert!(text.contains(field), "{field}");
        }
        assert!(text.ends_with("\r\n\r\nnothing here\n"));
        assert!(!text.contains("Connection: close"));
    }

    #[test]
    fn response_to_head_has_length_and_no_body() {
        let text = written(&Response::text(200, "hello"), true, false);
        assert!(text.contains("Content-Length: 6\r\nConnection: close\r\n\r\n"));
        assert!(text.ends_with("\r\n\r\n"));
    }

    #[test]
    fn response_204_has_no_length() {
        assert!(!written(&Response::new(204), false, true).contains("Content-Length"));
    }
}
