//! The header of the PROXY protocol, version 1 or 2, with which a proxy reports the address of a client:
//! <https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt>.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The first bytes of a header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Maximum length of a header of version 1, with its end of line.
const MAX_LINE_BYTES: usize = 107;
/// Maximum length of the addresses and further fields in a header of version 2.
const MAX_FIELDS_BYTES: usize = 1024;

/// Reads a header and nothing after it. Returns the address of the client, or `None` if the header contains no address, as in a
/// health check by the proxy itself.
pub(crate) fn read(socket: &mut impl Read) -> io::Result<Option<IpAddr>> {
    let mut begin = [0; SIGNATURE.len()];
    socket.read_exact(&mut begin)?;
    if begin == SIGNATURE {
        return read_version_2(socket);
    }
    if !begin.starts_with(b"PROXY ") {
        return Err(invalid(
            "a trusted proxy sent no header of the PROXY protocol; see 'client-address' in palabre.toml",
        ));
    }
    let mut line = begin.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= MAX_LINE_BYTES {
            return Err(invalid("the header of the PROXY protocol is too long"));
        }
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        line.extend(byte);
    }
    parse_version_1(&line)
}

/// Parses `PROXY TCP4 192.0.2.7 192.0.2.1 50000 9001\r\n`.
fn parse_version_1(line: &[u8]) -> io::Result<Option<IpAddr>> {
    let line = std::str::from_utf8(line).map_err(|_| invalid(MALFORMED))?;
    match line.trim_end().split(' ').collect::<Vec<_>>()[..] {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", "TCP4", client, _, _, _] => client.parse().map(|ip: Ipv4Addr| Some(ip.into())),
        ["PROXY", "TCP6", client, _, _, _] => client.parse().map(|ip: Ipv6Addr| Some(ip.into())),
        _ => return Err(invalid(MALFORMED)),
    }
    .map_err(|_| invalid(MALFORMED))
}

/// Reads the header after the signature: version and command, protocol, length, and the addresses.
fn read_version_2(socket: &mut impl Read) -> io::Result<Option<IpAddr>> {
    let mut head = [0; 4];
    socket.read_exact(&mut head)?;
    let [command, protocol, length @ ..] = head;
    let length = usize::from(u16::from_be_bytes(length));
    if length > MAX_FIELDS_BYTES {
        return Err(invalid("the header of the PROXY protocol is too long"));
    }
    let mut fields = vec![0; length];
    socket.read_exact(&mut fields)?;
    match (command, protocol) {
        // With the command LOCAL, or a protocol other than TCP over IP, the header has no address of a client.
        (0x20, _) => Some(None),
        (0x21, 0x11) => fields.first_chunk::<4>().map(|ip| Some(Ipv4Addr::from(*ip).into())),
        (0x21, 0x21) => fields.first_chunk::<16>().map(|ip| Some(Ipv6Addr::from(*ip).into())),
        (0x21, _) => Some(None),
        _ => None,
    }
    .ok_or_else(|| invalid(MALFORMED))
}

const MALFORMED: &str = "the header of the PROXY protocol is invalid";

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn version_2(command: u8, protocol: u8, fields: &[u8]) -> Vec<u8> {
        let length = u16::try_from(fields.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, protocol], &length, fields].concat()
    }

    #[test]
    fn header_gives_the_address_of_the_client_and_nothing_after_it_is_read() {
        let v4 = [192, 0, 2, 7, 127, 0, 0, 1, 195, 80, 35, 41];
        let v6 = [&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets()[..], &[0; 20]].concat();
        for (header, client) in [
            (b"PROXY TCP4 192.0.2.7 127.0.0.1 50000 9001\r\n".to_vec(), Some("192.0.2.7")),
            (b"PROXY TCP6 2001:db8::7 ::1 50000 9001\r\n".to_vec(), Some("2001:db8::7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (version_2(0x21, 0x11, &v4), Some("192.0.2.7")),
            (version_2(0x21, 0x21, &v6), Some("2001:db8::7")),
            (version_2(0x20, 0, b""), None),
            (version_2(0x21, 0x31, &[0; 216]), None),
        ] {
            let bytes = [&header[..], b"\x16\x03TLS"].concat();
            let mut rest = &bytes[..];
            assert_eq!(read(&mut rest).unwrap(), client.map(|ip| ip.parse().unwrap()), "{header:?}");
            assert_eq!(rest, b"\x16\x03TLS");
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        let long = format!("PROXY TCP4 {}", "1".repeat(200));
        for bytes in [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00".to_vec(),
            b"PROXY TCP4 192.0.2.7\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7\n192.0.2.1 1 2\r\n".to_vec(),
            long.into_bytes(),
            b"PROXY TCP".to_vec(),
            version_2(0x11, 0x11, &[0; 12]),
            version_2(0x21, 0x11, &[0; 3]),
            version_2(0x21, 0x11, &[0; 2000]),
        ] {
            assert!(read(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
    }
}
