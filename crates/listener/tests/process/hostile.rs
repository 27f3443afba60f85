//! Tests of hostile and broken clients, which must not disturb other clients.

use crate::client::Client;
use crate::rig::{PATIENCE, Rig, wait_for};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

fn raw(rig: &Rig) -> TcpStream {
    let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, rig.port)).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp
}

fn is_closed(mut tcp: TcpStream) -> bool {
    let mut discarded = [0; 1024];
    loop {
        match tcp.read(&mut discarded) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn incomplete_handshake_times_out_and_others_are_served() {
    let rig = Rig::new();
    let mut silent = raw(&rig);
    let slow = raw(&rig);
    silent.write_all(&[0x16, 0x03, 0x01]).unwrap();
    assert_eq!(rig.connect().get(&rig, "/me").status, 200);
    assert!(is_closed(silent) && is_closed(slow));
}

#[test]
fn connection_without_tls_is_closed() {
    let rig = Rig::new();
    let mut plain = raw(&rig);
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(is_closed(plain));
    assert_eq!(rig.connect().get(&rig, "/me").status, 200);
}

#[test]
fn oversized_head_is_refused() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let junk = "x: y\r\n".repeat(1 << 17);
    // The server closes the connection before it has read the whole request.
    let _ = client.try_send(format!("GET / HTTP/1.1\r\nHost: a\r\n{junk}\r\n"));
    assert_eq!(client.answer().status, 431);
    assert!(client.is_closed());
    let mut client = rig.connect();
    let _ = client.try_send(format!("GET /{} HTTP/1.1\r\n", "x".repeat(1 << 16)));
    assert_eq!(client.answer().status, 414);
}

#[test]
fn slow_head_times_out() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nx: ");
    // Sending single bytes must not extend the timeout for the head.
    for _ in 0..200 {
        if client.try_send("y").is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        client.stream.sock.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        if client.is_closed() {
            return;
        }
    }
    panic!("the connection was still open after 20 s");
}

#[test]
fn unauthenticated_clients_get_half_of_the_slots() {
    let rig = Rig::with("[limits]\nconnections = 6\n");
    let mut own = rig.connect();
    assert_eq!(own.get(&rig, "/me").status, 200);
    let unauthenticated = [raw(&rig), raw(&rig), raw(&rig)];
    // All three slots for unauthenticated clients are in use, so the server refuses this client.
    assert!(is_closed(raw(&rig)));
    assert_eq!(own.get(&rig, "/me").status, 200);
    drop(unauthenticated);
    let clients = [(); 5].map(|()| {
        // A connection's slot becomes free when the connection's thread notices that the client has disconnected.
        let mut client = wait_for(|| Client::connect(rig.port, &rig.certificate.cert_pem).ok());
        assert_eq!(client.get(&rig, "/me").status, 200);
        client
    });
    assert!(is_closed(raw(&rig)));
    drop((own, clients));
}

#[test]
fn unauthenticated_body_is_not_read() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send("POST /speak HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000000\r\n\r\n");
    let _ = client.try_send(vec![0; 100_000]);
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("connection")), (401, Some("close")));
    assert!(client.is_closed());
}
