//! Unit tests of the control protocol, over real socket pairs.

use super::*;
use proptest::prelude::*;
use std::thread;

const SOON: Duration = Duration::from_secs(10);

fn received(text: &[u8]) -> Result<Request, ControlError> {
    let (server, mut client) = UnixStream::pair().unwrap();
    client.write_all(text).unwrap();
    drop(client);
    read_request(&server, SOON)
}

#[test]
fn request_is_read_and_answered() {
    let (server, client) = UnixStream::pair().unwrap();
    let asked = Request::Restart(Target::Listener("alice".parse().unwrap()));
    write_line(&client, &RequestLine { version: VERSION, request: asked.clone() }, Deadline::within(SOON)).unwrap();
    assert_eq!(read_request(&server, SOON).unwrap(), asked);
    let answer = Response::Refused { why: "unable to restart 'alice': no such participant".into() };
    write_response(&server, &answer, SOON).unwrap();
    assert_eq!(read_line::<ResponseLine>(&client, Deadline::within(SOON)).unwrap().response, answer);
}

#[test]
fn line_begins_with_the_version() {
    let line = serde_json::to_string(&RequestLine { version: VERSION, request: Request::Reload }).unwrap();
    assert_eq!(line, r#"{"version":3,"request":"reload"}"#);
}

#[test]
fn lines_in_the_module_header_are_valid() {
    assert_eq!(received(b"{\"version\":3,\"request\":\"status\"}\n").unwrap(), Request::Status);
    let restart = received(b"{\"version\":3,\"request\":{\"restart\":{\"listener\":\"alice\"}}}\n").unwrap();
    assert_eq!(
        received(b"{\"version\":3,\"request\":{\"restart\":\"mixer\"}}\n").unwrap(),
        Request::Restart(Target::Mixer)
    );
    assert_eq!(restart, Request::Restart(Target::Listener("alice".parse().unwrap())));
}

#[test]
fn other_version_has_its_own_error() {
    let error = received(b"{\"version\":4,\"request\":\"unheard of\"}\n").unwrap_err();
    assert!(matches!(error, ControlError::Version { theirs: 4 }), "{error}");
}

#[test]
fn name_that_could_leave_its_directory_is_refused() {
    let error = received(b"{\"version\":3,\"request\":{\"restart\":{\"listener\":\"../etc\"}}}\n").unwrap_err();
    assert!(error.to_string().contains("is not a valid name"), "{error}");
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
        assert!(matches!(received(bad), Err(ControlError::Malformed(_))), "{bad:?}");
    }
    assert!(matches!(received(b"{\"version\":3"), Err(ControlError::Closed)));
}

#[test]
fn line_without_end_is_refused_at_the_maximum() {
    let (server, mut client) = UnixStream::pair().unwrap();
    let writer = thread::spawn(move || while client.write_all(&[b' '; 4096]).is_ok() {});
    assert!(matches!(read_request(&server, SOON), Err(ControlError::TooLong)));
    drop(server);
    writer.join().unwrap();
}

#[test]
fn client_that_sends_nothing_times_out() {
    let (server, _client) = UnixStream::pair().unwrap();
    assert!(matches!(read_request(&server, Duration::from_millis(10)), Err(ControlError::TimedOut(_))));
}

#[test]
fn client_that_sends_slowly_times_out() {
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
fn error_without_a_supervisor_says_what_to_do() {
    let error = request(Path::new("/nonexistent/control.sock"), &Request::Status, SOON).unwrap_err();
    assert!(error.to_string().ends_with("is palabre-supervisor running?"), "{error}");
}

proptest! {
    #[test]
    fn any_line_is_a_request_or_an_error(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        // `received` must return, without a panic, for any line.
        let _ = received(&line);
    }
}
