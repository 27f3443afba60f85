//! Tests of requests that a page of another site can make a browser send: with another host name, with hostile texts, and for a frame.

use crate::client::Answer;
use crate::rig::Rig;

/// Sends a request with this host name and these header fields, and reads the response.
fn ask(rig: &Rig, request: &str, host: &str, fields: &str, body: &str) -> Answer {
    let mut client = rig.connect();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    client.send(format!("{request} HTTP/1.1\r\nHost: {host}\r\n{fields}{length}\r\n{body}"));
    client.answer()
}

/// A site may let its own name lead to this machine (DNS rebinding). Its page has the origin of this host name, and no cookie.
#[test]
fn name_of_another_site_gives_no_access_and_is_only_in_the_policy_of_the_response() {
    let rig = Rig::new();
    let link = format!("link=https://{}/?key={}", rig.host(), rig.key.as_str());
    for host in ["elsewhere.example", "elsewhere.example:443", "elsewhere.example; script-src *", "a\"><script>"] {
        let origin = format!("Origin: https://{host}\r\nSec-Fetch-Site: same-origin\r\n");
        for request in ["GET /", "GET /me", "GET /listen", "GET /page/app.js", "POST /say", "POST /speak"] {
            let answer = ask(&rig, request, host, &origin, "");
            assert_eq!((answer.status, answer.field("set-cookie")), (401, None), "{request} {host}");
        }
        // An invitation link of another host is refused as invalid.
        assert_eq!(ask(&rig, "POST /paste", host, &origin, &link).status, 400, "{host}");
        let page = ask(&rig, "GET /", host, &rig.bearer(), "");
        let policy = page.field("content-security-policy").unwrap();
        assert!(policy.contains("script-src 'self';") && !policy.contains('*') && !policy.contains('<'), "{policy}");
        let socket = format!(" wss://{host};");
        let is_plain = !host.contains([' ', '<']);
        assert_eq!((page.status, policy.contains(&socket)), (200, is_plain), "{policy}");
        let signed_in = ask(&rig, &format!("GET /?key={}", rig.key.as_str()), host, "", "");
        assert_eq!((signed_in.status, signed_in.field("location")), (303, Some("./")), "{host}");
    }
}

#[test]
fn responses_contain_no_text_of_the_request() {
    let rig = Rig::new();
    for text in ["<img/src=x/onerror=sign()>", "%3Cscript%3Esign()%3C/script%3E", "'\"`;sign()//", "javascript:sign()"]
    {
        let fields = format!(
            "Referer: {text}\r\nUser-Agent: {text}\r\nCookie: __Host-palabre-alice={text}\r\nX-Forwarded-For: {text}\r\n"
        );
        for (request, body) in [
            (format!("GET /{text}"), ""),
            (format!("GET /page/{text}"), ""),
            (format!("GET /?{text}={text}"), ""),
            (format!("GET /?key={text}"), ""),
            (format!("GET /listen?page={text}"), ""),
            (format!("GET /listen?from={text}"), ""),
            (format!("POST /say?id={text}"), text),
            ("POST /say?room=other&id=1".into(), text),
            ("POST /show".into(), text),
            ("POST /gains".into(), text),
            ("POST /name".into(), text),
            ("POST /report".into(), text),
            ("POST /paste".into(), text),
            (format!("{text} /"), ""),
        ] {
            for credential in [String::new(), rig.bearer()] {
                let answer = ask(&rig, &request, &rig.host(), &format!("{fields}{credential}"), body);
                let all = format!("{}{}", answer.head, answer.text());
                assert!(!all.contains("sign()"), "{request}: {all}");
                assert_eq!(answer.field("x-content-type-options"), Some("nosniff"), "{request}");
            }
        }
    }
}

#[test]
fn request_with_the_cookie_for_a_frame_of_another_origin_is_refused() {
    let rig = Rig::new();
    let cookie = rig.cookie();
    for site in ["same-site", "cross-site"] {
        for destination in ["iframe", "frame", "object", "embed", "empty", "script", "image"] {
            let fields = format!(
                "{cookie}Sec-Fetch-Site: {site}\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: {destination}\r\n"
            );
            let answer = ask(&rig, "GET /", &rig.host(), &fields, "");
            assert_eq!(answer.status, 403, "{site} {destination}");
            assert!(answer.field("content-security-policy").unwrap().ends_with("frame-ancestors 'none'"));
        }
    }
}
