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
    // Sending may fail: the server closes the connection before it has read the whole request.
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
    let unauthenticated = [rig.connect(), rig.connect(), rig.connect()];
    // All three slots for unauthenticated clients are in use, so the server refuses this client.
    assert!(Client::connect(rig.port, &rig.certificate.cert_pem).is_err());
    assert_eq!(own.get(&rig, "/me").status, 200);
    drop(unauthenticated);
    let clients = [(); 5].map(|()| {
        // A connection's slot becomes free when the connection's thread notices that the client has disconnected.
        let mut client = wait_for(|| Client::connect(rig.port, &rig.certificate.cert_pem).ok());
        assert_eq!(client.get(&rig, "/me").status, 200);
        client
    });
    assert!(Client::connect(rig.port, &rig.certificate.cert_pem).is_err());
    drop((own, clients));
}

/// Opens a connection as a trusted proxy that reports this address of a client, and sends these bytes of TLS.
fn proxied(rig: &Rig, address: &str, bytes: &[u8]) -> TcpStream {
    let mut tcp = raw(rig);
    let kind = if address.contains(':') { "TCP6" } else { "TCP4" };
    let own = if address.contains(':') { "::1" } else { "127.0.0.1" };
    tcp.write_all(&[format!("PROXY {kind} {address} {own} 50000 9001\r\n").as_bytes(), bytes].concat()).unwrap();
    tcp
}

#[test]
fn clients_without_a_complete_hello_use_no_thread_and_do_not_keep_the_participant_out() {
    let rig = Rig::with("[proxy]\naddresses = [\"127.0.0.1\"]\nclient-address = \"proxy-protocol\"\n");
    let threads = || std::fs::read_dir(format!("/proc/{}/task", rig.child.id())).unwrap().count();
    let owner = || {
        let header = b"PROXY TCP4 192.0.2.8 127.0.0.1 50000 9001\r\n";
        let client = Client::connect_after(header, rustls::DEFAULT_VERSIONS, rig.port, &rig.certificate.cert_pem);
        client.is_ok_and(|mut client| client.request("GET", "/me", &rig.bearer()).status == 200)
    };
    // 500 connections of one address, then 2000 of the addresses of a /64, each silent or with half a ClientHello.
    let of_one = |_| "192.0.2.7".to_owned();
    let of_many = |number| format!("2001:db8::{number:x}");
    for (count, address) in [(500, &of_one as &dyn Fn(u32) -> String), (2000, &of_many)] {
        let (mut clients, mut served, mut tried) = (Vec::new(), 0, 0);
        for number in 0..count {
            let bytes: &[u8] = if number % 2 == 0 { b"" } else { b"\x16\x03\x01\x02\x00\x01" };
            clients.push(proxied(&rig, &address(number), bytes));
            // Keep only the newest 100 clients, so that the test needs few file descriptors. The listener has closed older connections.
            clients.drain(..clients.len().saturating_sub(100));
            if number % 50 == 49 {
                (served, tried) = (served + u32::from(owner()), tried + 1);
            }
        }
        assert_eq!(served, tried, "{count} unauthenticated clients");
        wait_for(|| (threads() < 5).then_some(()));
        drop(clients);
    }
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
