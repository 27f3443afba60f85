//! Parses the head of a request: request line and header fields.

/// Maximum length of the head of a request.
pub(crate) const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Maximum number of header fields in a request.
pub(crate) const MAX_HEADERS: usize = 64;
/// Maximum length of a request line; a longer one is answered 414.
const MAX_LINE_BYTES: usize = 4 * 1024;

/// A parsed head, with the names of fields in lower case.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// The path, without the query.
    pub(crate) path: String,
    /// The text after the first `?` of the request target.
    pub(crate) query: String,
    /// Whether the request's HTTP version is 1.1; otherwise it is 1.0.
    pub(crate) is_http_1_1: bool,
    fields: Vec<(String, String)>,
}

/// The response to a request that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The reason, which is the body of the response.
    pub(crate) why: &'static str,
}

/// Parses the bytes received so far. Returns the head and its length in bytes, or `None` if the head is incomplete.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
    check_line(bytes)?;
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut fields);
    let window = &bytes[..bytes.len().min(MAX_HEAD_BYTES)];
    match request.parse(window) {
        Ok(httparse::Status::Complete(length)) if has_bare_newline(&window[..length]) => {
            Err(refuse(400, "each line of the request's head must end with CR LF"))
        }
        Ok(httparse::Status::Complete(length)) => Head::from_parsed(&request).map(|head| Some((head, length))),
        Ok(httparse::Status::Partial) if bytes.len() >= MAX_HEAD_BYTES => Err(TOO_LARGE),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(TOO_LARGE),
        Err(_) => Err(refuse(400, "invalid HTTP/1.1 request")),
    }
}

const TOO_LARGE: Refusal = Refusal { status: 431, why: "the head of the request is too large" };

const fn refuse(status: u16, why: &'static str) -> Refusal {
    Refusal { status, why }
}

/// Returns whether a line ends with LF alone, which proxies and servers may understand in different ways: RFC 9112 §2.2.
fn has_bare_newline(head: &[u8]) -> bool {
    let mut before = 0;
    head.iter().any(|&byte| std::mem::replace(&mut before, byte) != b'\r' && byte == b'\n')
}

/// Removes the white space that HTTP allows around values, and no other: RFC 9110 §5.6.3.
fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

fn check_line(bytes: &[u8]) -> Result<(), Refusal> {
    // Empty lines before the request line are allowed: RFC 9112 §2.2.
    let start = bytes.iter().take_while(|&&b| b == b'\r' || b == b'\n').count();
    let line = bytes[start..].iter().take(MAX_LINE_BYTES + 1);
    if line.clone().count() > MAX_LINE_BYTES && !line.clone().any(|&b| b == b'\n') {
        return Err(refuse(414, "the address in the request is too long"));
    }
    Ok(())
}

impl Head {
    fn from_parsed(request: &httparse::Request<'_, '_>) -> Result<Self, Refusal> {
        let target = request.path.unwrap_or_default();
        let (path, query) = split_target(target)?;
        let head = Self {
            method: request.method.unwrap_or_default().to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            is_http_1_1: request.version == Some(1),
            fields: request
                .headers
                .iter()
                .map(|field| (field.name.to_ascii_lowercase(), trim(&String::from_utf8_lossy(field.value)).to_owned()))
                .collect(),
        };
        let hosts = head.all("host").count();
        if hosts > 1 || (head.is_http_1_1 && hosts == 0) {
            return Err(refuse(400, "the request must have exactly one 'Host' field"));
        }
        Ok(head)
    }

    /// Returns the value of the first field of this name (lower case).
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Returns the values of all fields of this name (lower case).
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Returns whether the comma-separated list in the field `name` contains this token, ignoring case.
    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name).flat_map(|value| value.split(',')).any(|item| trim(item).eq_ignore_ascii_case(token))
    }

    /// Returns the value of a query parameter as it was sent: no valid value needs percent-decoding.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })
    }

    /// Returns whether the client wants to keep the connection.
    pub(crate) fn keeps_alive(&self) -> bool {
        if self.is_http_1_1 {
            !self.has_token("connection", "close")
        } else {
            self.has_token("connection", "keep-alive")
        }
    }
}

/// Returns path and query of a request target in origin-form or absolute-form: RFC 9112 §3.2.
fn split_target(target: &str) -> Result<(&str, &str), Refusal> {
    let target = match target.split_once("://") {
        Some(("http" | "https", rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        _ => target,
    };
    if !target.starts_with('/') {
        return Err(refuse(400, "the path of the request must begin with '/'"));
    }
    Ok(target.split_once('?').unwrap_or((target, "")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        parse(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn request_line_and_fields_are_parsed() {
        let text =
            "GET /listen?from=17&key=abc HTTP/1.1\r\nHost: a:9001\r\nConnection: keep-alive, Upgrade\r\n\r\nrest";
        let (head, length) = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.path.as_str()), ("GET", "/listen"));
        assert_eq!(head.parameter("from"), Some("17"));
        assert_eq!(head.parameter("key"), Some("abc"));
        assert_eq!(head.parameter("ke"), None);
        assert!(head.has_token("connection", "upgrade"));
        assert!(head.keeps_alive());
        assert_eq!(&text[length..], "rest");
    }

    #[test]
    fn absolute_form_target_is_parsed() {
        assert_eq!(head("GET https://a:9001/me?x HTTP/1.1\r\nhost: a\r\n\r\n").path, "/me");
        assert_eq!(head("GET https://a HTTP/1.1\r\nhost: a\r\n\r\n").path, "/");
    }

    #[test]
    fn every_prefix_of_a_valid_head_is_incomplete() {
        let text = b"POST /speak HTTP/1.1\r\nHost: a:9001\r\nContent-Length: 5\r\n\r\n";
        for end in 0..text.len() {
            assert!(parse(&text[..end]).unwrap().is_none(), "{end}");
        }
    }

    #[test]
    fn header_of_a_megabyte_is_431() {
        let text = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "y".repeat(1 << 20));
        assert_eq!(parse(text.as_bytes()).unwrap_err().status, 431);
    }

    #[test]
    fn head_has_at_most_64_fields() {
        let with = |n: usize| format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(n - 1));
        assert_eq!(parse(with(65).as_bytes()).unwrap_err().status, 431);
        assert!(parse(with(64).as_bytes()).unwrap().is_some());
    }

    #[test]
    fn long_request_line_is_414() {
        let text = format!("GET /{} HTTP/1.1\r\n", "y".repeat(5000));
        assert_eq!(parse(text.as_bytes()).unwrap_err().status, 414);
    }

    #[test]
    fn invalid_request_is_400() {
        for text in ["\u{16}\u{3}\u{1}", "GET\r\n\r\n", "GET / HTTP/3\r\n\r\n", "GET me HTTP/1.1\r\nhost: a\r\n\r\n"] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().status, 400, "{text}");
        }
    }

    #[test]
    fn line_that_ends_with_lf_alone_is_400() {
        for text in [
            "GET / HTTP/1.1\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\n",
            "\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().status, 400, "{text:?}");
        }
    }

    #[test]
    fn only_space_and_tab_are_white_space() {
        let value = |text: &str| {
            head(&format!("GET / HTTP/1.1\r\nhost: a\r\nx: {text}\r\n\r\n")).field("x").unwrap().to_owned()
        };
        assert_eq!(value(" \tchunked \t"), "chunked");
        for space in ["\u{a0}", "\u{2003}", "\u{85}", "\u{feff}"] {
            assert_eq!(value(&format!("{space}chunked")), format!("{space}chunked"), "{space:?}");
        }
    }

    #[test]
    fn exactly_one_host_is_required() {
        assert_eq!(parse(b"GET / HTTP/1.1\r\n\r\n").unwrap_err().status, 400);
        assert_eq!(parse(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").unwrap_err().status, 400);
        assert!(parse(b"GET / HTTP/1.0\r\n\r\n").unwrap().is_some());
    }

    proptest::proptest! {
        #[test]
        fn parser_accepts_or_refuses_any_bytes(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"GET / HTTP/1.1\r\nhost: a\r\n", &bytes[..], b"\r\n\r\n"].concat());
        }

        #[test]
        fn parser_accepts_or_refuses_any_target(target in "[!-~]{1,80}") {
            if let Ok(Some((head, _))) = parse(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()) {
                assert!(head.path.starts_with('/') && !head.path.contains('?'));
                let _ = head.parameter("key");
            }
        }
    }
}
