//! Unit tests of the control protocol, over real socket pairs.

use super::*;
use proptest::prelude::*;
use std::thread;

const SOON: Duration = Duration::from_secs(10);

fn said(text: &[u8]) -> Result<Request, ControlError> {
    let (server, mut client) = UnixStream::pair().unwrap();
    client.write_all(text).unwrap();
    drop(client);
    read_request(&server, SOON)
}

#[test]
fn a_request_is_understood_and_answered() {
    let (server, client) = UnixStream::pair().unwrap();
    let asked = Request::Restart { name: "alice".parse().unwrap() };
    write_line(&client, &Asked { version: VERSION, request: asked.clone() }, Deadline::within(SOON)).unwrap();
    assert_eq!(read_request(&server, SOON).unwrap(), asked);
    let answer = Response::Refused { why: "unable to restart 'alice': no such participant".into() };
    write_response(&server, &answer, SOON).unwrap();
    assert_eq!(read_line::<Answered>(&client, Deadline::within(SOON)).unwrap().response, answer);
}

#[test]
fn the_version_stands_first_in_the_line() {
    let line = serde_json::to_string(&Asked { version: VERSION, request: Request::Reload }).unwrap();
    assert_eq!(line, r#"{"version":3,"request":"reload"}"#);
}

#[test]
fn the_lines_of_the_module_s_header_mean_what_they_say() {
    assert_eq!(said(b"{\"version\":3,\"request\":\"status\"}\n").unwrap(), Request::Status);
    let restart = said(b"{\"version\":3,\"request\":{\"restart\":{\"name\":\"alice\"}}}\n").unwrap();
    assert_eq!(restart, Request::Restart { name: "alice".parse().unwrap() });
}

#[test]
fn another_version_has_its_own_message() {
    let error = said(b"{\"version\":4,\"request\":\"unheard of\"}\n").unwrap_err();
    assert!(matches!(error, ControlError::Version { theirs: 4 }), "{error}");
}

#[test]
fn a_name_that_could_leave_its_directory_is_refused() {
    let error = said(b"{\"version\":3,\"request\":{\"restart\":{\"name\":\"../etc\"}}}\n").unwrap_err();
    assert!(error.to_string().contains("is not a name"), "{error}");
}

#[test]
fn malformed_lines_are_refused() {
    for bad in [
        &b"\n"[..],
        b"{}\n",
        b"{\"version\":3}\n",
        b"{\"version\":-1}\n",
        b"\xff\n",
        b"[[[[\n",
        b"{\"version\":3,\"request\":\"x\"}\n",
    ] {
        assert!(matches!(said(bad), Err(ControlError::Malformed(_))), "{bad:?}");
    }
    assert!(matches!(said(b"{\"version\":3"), Err(ControlError::Closed)));
}

#[test]
fn a_line_without_end_is_cut_off_at_the_maximum() {
    let (server, mut client) = UnixStream::pair().unwrap();
    let writer = thread::spawn(move || while client.write_all(&[b' '; 4096]).is_ok() {});
    assert!(matches!(read_request(&server, SOON), Err(ControlError::TooLong)));
    drop(server);
    writer.join().unwrap();
}

#[test]
fn a_client_that_says_nothing_is_not_waited_for() {
    let (server, _client) = UnixStream::pair().unwrap();
    assert!(matches!(read_request(&server, Duration::from_millis(10)), Err(ControlError::TimedOut(_))));
}

#[test]
fn a_client_that_speaks_slowly_has_no_longer_than_one_that_is_silent() {
    let (server, mut client) = UnixStream::pair().unwrap();
    let writer = thread::spawn(move || {
        while client.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
    });
    assert!(matches!(read_request(&server, Duration::from_millis(20)), Err(ControlError::TimedOut(_))));
    drop(server);
    writer.join().unwrap();
}

#[test]
fn where_nobody_listens_the_message_says_what_to_do() {
    let error = request(Path::new("/nonexistent/control.sock"), &Request::Status, SOON).unwrap_err();
    assert!(error.to_string().ends_with("is palabre-supervisor running?"), "{error}");
}

proptest! {
    #[test]
    fn any_line_is_a_request_or_an_error(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        // What comes back matters less than that something does.
        let _ = said(&line);
    }
}
