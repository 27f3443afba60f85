//! Tests of sending sound by WebSocket to `/speak`.

use crate::client::Counted;
use crate::rig::{PATIENCE, Rig, read_samples};
use std::time::Instant;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

pub type Socket = WebSocket<rustls::StreamOwned<rustls::ClientConnection, Counted>>;

pub fn connect(rig: &Rig, page: &str) -> Socket {
    let mut request = format!("wss://localhost:{}/speak{page}", rig.port).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", rig.key.as_str()).parse().unwrap());
    tungstenite::client(request, rig.connect().stream).unwrap().0
}

fn chunk(number: u32, captured_ms: f64, samples: &[i16]) -> Message {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend([0; 4]);
    bytes.extend(captured_ms.to_le_bytes());
    bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    Message::Binary(bytes.into())
}

pub fn close_code(socket: &mut Socket) -> CloseCode {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        match socket.read() {
            Ok(Message::Close(frame)) => return frame.unwrap().code,
            Ok(_) => {}
            Err(error) => panic!("closed without a code: {error}"),
        }
    }
    panic!("never closed");
}

#[test]
fn chunks_reach_the_mixer_as_they_are() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    let mut socket = connect(&rig, "?page=a");
    // These samples last 280 ms. The listener would drop more than 300 ms that arrive at once.
    let samples: Vec<i16> = (0..6720).map(|i| (i * 7) as i16).collect();
    for (number, piece) in samples.chunks(960).enumerate() {
        socket.send(chunk(number as u32, number as f64 * 40.0, piece)).unwrap();
        assert_eq!(read_samples(&mut mic, 960), piece);
    }
    socket.close(None).unwrap();
    assert_eq!(closing_code(&mut socket), None);
}

fn closing_code(socket: &mut Socket) -> Option<CloseCode> {
    loop {
        match socket.read() {
            Ok(Message::Close(frame)) => return frame.map(|frame| frame.code),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

#[test]
fn sound_for_another_room_is_refused() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    let mut other = connect(&rig, "?page=a&room=other");
    let _ = other.send(chunk(0, 0.0, &[1; 480]));
    assert_eq!(close_code(&mut other), CloseCode::Library(4002));
    let post = |room: &str| {
        let target = format!("/speak?page=a&room={room}&t=0");
        rig.connect().post(&target, &rig.bearer(), &palabre_sound::wav::little(24_000, &[2; 480])).status
    };
    assert_eq!([post("other"), post("main")], [412, 204]);
    assert_eq!(read_samples(&mut mic, 480), [2; 480], "the sound for the other room was written");
    let mut own = connect(&rig, "?page=a&room=main");
    own.send(chunk(0, 0.0, &[3; 480])).unwrap();
    assert_eq!(read_samples(&mut mic, 480), [3; 480]);
}

#[test]
fn newest_page_has_the_microphone() {
    let rig = Rig::new();
    let mut mic = rig.mic();
    let mut old = connect(&rig, "?page=a");
    old.send(chunk(0, 0.0, &[1; 480])).unwrap();
    assert_eq!(read_samples(&mut mic, 480), [1; 480]);
    let mut new = connect(&rig, "?page=b");
    assert_eq!(close_code(&mut old), CloseCode::Library(4001));
    new.send(chunk(0, 0.0, &[2; 480])).unwrap();
    assert_eq!(read_samples(&mut mic, 480), [2; 480]);
    // The older page reconnects, but doesn't get the microphone back.
    assert_eq!(close_code(&mut connect(&rig, "?page=a")), CloseCode::Library(4001));
    // The newer page reconnects and keeps the microphone.
    let mut again = connect(&rig, "?page=b");
    assert_eq!(close_code(&mut new), CloseCode::Normal);
    again.send(chunk(0, 0.0, &[3; 480])).unwrap();
    assert_eq!(read_samples(&mut mic, 480), [3; 480]);
    rig.wait_for_status("streams=0 speaking=ws");
    drop(again);
    rig.wait_for_status("streams=0 speaking=no");
}

#[test]
fn invalid_message_closes_with_its_code() {
    let rig = Rig::new();
    let _mic = rig.mic();
    let cases = [
        (Message::text("hello"), CloseCode::Unsupported),
        (Message::Binary(vec![0; 3].into()), CloseCode::Unsupported),
        (Message::Binary(vec![0; 16].into()), CloseCode::Unsupported),
        (Message::Binary(vec![0; 101].into()), CloseCode::Unsupported),
        (chunk(0, 0.0, &[0; 4801]), CloseCode::Unsupported),
        (Message::Binary(vec![0; 64 * 1024 + 1].into()), CloseCode::Size),
        (Message::Binary(vec![0; 1 << 20].into()), CloseCode::Size),
    ];
    for (message, code) in cases {
        let mut socket = connect(&rig, "?page=a");
        let length = message.len();
        // The server may close the connection before the client has sent a large message.
        let _ = socket.send(message);
        assert_eq!(close_code(&mut socket), code, "{length} bytes");
    }
}

#[test]
fn pings_are_answered() {
    let rig = Rig::new();
    let mut socket = connect(&rig, "");
    socket.send(Message::Ping(b"x"[..].into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong(b"x"[..].into()));
}

#[test]
fn invalid_page_id_and_version_are_refused() {
    let rig = Rig::new();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (target, fields, status) in [
        ("/speak?page=A", format!("{upgrade}{version}{key}"), 400),
        ("/speak?page=", format!("{upgrade}{version}{key}"), 400),
        ("/speak?page=a", format!("{upgrade}{key}Sec-WebSocket-Version: 8\r\n"), 426),
        ("/speak?page=a", format!("{upgrade}{version}"), 400),
        ("/speak?page=a", format!("{version}{key}"), 426),
    ] {
        let answer = rig.connect().request("GET", target, &format!("{}{fields}", rig.bearer()));
        assert_eq!(answer.status, status, "{target} {fields}");
    }
}

#[test]
fn restarted_mixer_hears_later_chunks() {
    let rig = Rig::new();
    let mut socket = connect(&rig, "?page=a");
    for n in 0..3u32 {
        let mut mic = rig.mic();
        let mut heard = Vec::new();
        // Samples that the previous pass of this loop has sent may still be in the listener's queue and arrive first.
        while heard.last() != Some(&(n as i16 + 1)) {
            socket.send(chunk(n, f64::from(n), &[n as i16 + 1; 480])).unwrap();
            palabre_host::wait::is_readable(&mic, std::time::Duration::from_millis(20)).unwrap();
            mic.read(Instant::now(), &mut heard, 1 << 16).unwrap();
        }
    }
}

#[test]
fn lost_connection_frees_the_microphone() {
    let rig = Rig::new();
    let socket = connect(&rig, "?page=a");
    rig.wait_for_status("streams=0 speaking=ws");
    socket.get_ref().sock.shutdown(std::net::Shutdown::Both).unwrap();
    rig.wait_for_status("streams=0 speaking=no");
}
