//! The protocols between palabre-signer, which alone has the private key, and listeners, and between palabre-signer and the supervisor.
//!
//! All connections have the type SOCK_SEQPACKET, which keeps messages separate. A listener sends a [`Request`] and gets a [`Reply`] with the
//! same number. Integers are big-endian.
//!
//! ```text
//! request: version 1 byte, kind 1 byte, number 8 bytes, chain ID 32 bytes (zeros: no chain), then:
//!   1 chain       nothing
//!   2 sign        signature scheme 2 bytes, the message to be signed
//! reply: version 1 byte, kind 1 byte, number 8 bytes, then:
//!   1 chain       length of the fault 2 bytes, fault, chain ID 32 bytes, number of schemes 1 byte, schemes 2 bytes each;
//!                 then for each certificate: length 4 bytes, DER
//!   2 signature   the signature
//!   3 refused     reason 1 byte
//! ```
//!
//! The supervisor sends an [`Order`], and the signer sends a [`SignerReport`], each as JSON.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Version of the protocol between a listener and the signer.
const VERSION: u8 = 1;
/// Maximum length of a request, in bytes.
pub const MAX_REQUEST_BYTES: usize = 512;
/// Maximum length of a reply with a certificate chain, in bytes.
pub const MAX_CHAIN_BYTES: usize = 64 * 1024;
/// Maximum length of a reply without a certificate chain, in bytes. A signature of an RSA key with 8192 bits has 1024 bytes.
pub const MAX_REPLY_BYTES: usize = 2 * HEAD_BYTES + 1024;
/// Maximum length of an [`Order`] or a [`SignerReport`], in bytes.
pub const MAX_REPORT_BYTES: usize = 8192;
/// Maximum length of [`SignerReport::fault`], in characters.
pub const MAX_FAULT_CHARS: usize = 600;

/// Length of the version, the kind and the number, in bytes.
const HEAD_BYTES: usize = 10;

/// SHA-256 of the certificates of a chain, which identifies the chain and its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainId(pub [u8; 32]);

impl ChainId {
    const NONE: [u8; 32] = [0; 32];
}

/// A listener's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Number of the request, which the reply repeats.
    pub number: u64,
    /// The chain that the listener presents; `None` if it has none.
    pub chain: Option<ChainId>,
    /// The message to be signed. `None` asks for the chain of the signer if it differs from `chain`.
    pub sign: Option<ToSign>,
}

/// A message that a listener wants to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToSign {
    /// Code of the signature scheme (RFC 8446 §4.2.3).
    pub scheme: u16,
    /// The message.
    pub message: Vec<u8>,
}

/// The signer's reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Number of the request.
    pub number: u64,
    /// The content.
    pub content: Content,
}

/// The content of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The answer to a request for the chain.
    Chain {
        /// Why the signer can't use the certificate and the key that it read last, at most [`MAX_FAULT_CHARS`] characters; empty if it uses them.
        fault: String,
        /// The chain; `None` if the listener has this chain already, or if the signer has no chain.
        chain: Option<Chain>,
    },
    /// The signature.
    Signature(Vec<u8>),
    /// The signer didn't sign.
    Refused(Refusal),
}

/// A certificate chain whose key the signer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// SHA-256 of the certificates.
    pub id: ChainId,
    /// Codes of the signature schemes that the key supports, in order of preference.
    pub schemes: Vec<u16>,
    /// The certificates, in DER. The first one is the server's certificate.
    pub certificates: Vec<Vec<u8>>,
}

/// Why the signer didn't sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The message isn't one that a TLS server signs.
    NotTls,
    /// This listener, or all listeners together, have exceeded a rate limit.
    TooOften,
    /// The signer doesn't have the key of this chain. The listener must ask for the present chain.
    OtherChain,
    /// The key doesn't support the signature scheme.
    Scheme,
    /// The signature failed.
    Failed,
}

const REFUSALS: [Refusal; 5] =
    [Refusal::NotTls, Refusal::TooOften, Refusal::OtherChain, Refusal::Scheme, Refusal::Failed];

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTls => "the message to be signed is not one that a TLS server signs in a handshake",
            Self::TooOften => "too many requests per second from this listener, or from all listeners together",
            Self::OtherChain => "the signer doesn't have the key of this certificate",
            Self::Scheme => "the key doesn't support the signature scheme",
            Self::Failed => "the key can't sign",
        })
    }
}

impl Request {
    /// Returns the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = head(if self.sign.is_some() { 2 } else { 1 }, self.number);
        bytes.extend(self.chain.map_or(ChainId::NONE, |id| id.0));
        if let Some(ToSign { scheme, message }) = &self.sign {
            bytes.extend(scheme.to_be_bytes());
            bytes.extend(message);
        }
        bytes
    }

    /// Parses a message. Returns `None` if it is not a request of this version.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (kind, number, mut rest) = parse_head(bytes)?;
        let chain = Some(take(&mut rest)?).filter(|id| *id != ChainId::NONE).map(ChainId);
        let sign = match kind {
            1 if rest.is_empty() => None,
            2 => Some(ToSign { scheme: u16::from_be_bytes(take(&mut rest)?), message: rest.to_vec() }),
            _ => return None,
        };
        Some(Self { number, chain, sign })
    }
}

impl Reply {
    /// Returns the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let kind = match &self.content {
            Content::Chain { .. } => 1,
            Content::Signature(_) => 2,
            Content::Refused(_) => 3,
        };
        let mut bytes = head(kind, self.number);
        match &self.content {
            Content::Chain { fault, chain } => {
                bytes.extend(u16::try_from(fault.len()).unwrap_or(0).to_be_bytes());
                bytes.extend(fault.as_bytes());
                bytes.extend(chain.as_ref().map_or(ChainId::NONE, |chain| chain.id.0));
                chain.iter().for_each(|chain| chain.encode(&mut bytes));
            }
            Content::Signature(signature) => bytes.extend(signature),
            Content::Refused(why) => {
                let code = REFUSALS.iter().position(|known| known == why).unwrap_or(REFUSALS.len());
                bytes.extend(u8::try_from(code));
            }
        }
        bytes
    }

    /// Parses a message. Returns `None` if it is not a reply of this version.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (kind, number, mut rest) = parse_head(bytes)?;
        let content = match kind {
            1 => {
                let length = u16::from_be_bytes(take(&mut rest)?);
                let fault = String::from_utf8(take_slice(&mut rest, length.into())?.to_vec()).ok()?;
                let id = take(&mut rest)?;
                let chain = if id == ChainId::NONE { None } else { Some(Chain::parse(ChainId(id), rest)?) };
                Content::Chain { fault, chain }
            }
            2 => Content::Signature(rest.to_vec()),
            3 => Content::Refused(*REFUSALS.get(usize::from(*rest.first()?))?),
            _ => return None,
        };
        Some(Self { number, content })
    }
}

impl Chain {
    /// Returns whether a reply with this chain and the longest fault has at most [`MAX_CHAIN_BYTES`].
    #[must_use]
    pub fn fits(&self) -> bool {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        HEAD_BYTES + 2 + 4 * MAX_FAULT_CHARS + 32 + bytes.len() <= MAX_CHAIN_BYTES
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(u8::try_from(self.schemes.len()));
        bytes.extend(self.schemes.iter().flat_map(|scheme| scheme.to_be_bytes()));
        for certificate in &self.certificates {
            bytes.extend(u32::try_from(certificate.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend(certificate);
        }
    }

    fn parse(id: ChainId, mut rest: &[u8]) -> Option<Self> {
        let [count] = take(&mut rest)?;
        let schemes = (0..count).map(|_| take(&mut rest).map(u16::from_be_bytes)).collect::<Option<_>>()?;
        let mut certificates = Vec::new();
        while !rest.is_empty() {
            let length = u32::from_be_bytes(take(&mut rest)?);
            certificates.push(take_slice(&mut rest, usize::try_from(length).ok()?)?.to_vec());
        }
        (!certificates.is_empty()).then_some(Self { id, schemes, certificates })
    }
}

fn head(kind: u8, number: u64) -> Vec<u8> {
    let mut bytes = vec![VERSION, kind];
    bytes.extend(number.to_be_bytes());
    bytes
}

fn parse_head(mut bytes: &[u8]) -> Option<(u8, u64, &[u8])> {
    let [version, kind] = take(&mut bytes)?;
    let number = u64::from_be_bytes(take(&mut bytes)?);
    (version == VERSION).then_some((kind, number, bytes))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    take_slice(bytes, N)?.try_into().ok()
}

fn take_slice<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// An order of the supervisor to the signer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Sign for a listener, whose connection comes with this order.
    Serve {
        /// The participant, for the log.
        name: String,
    },
    /// Read `palabre.toml`, the certificate and the key again, and report the result.
    Read,
    /// Read `palabre.toml`, the certificate and the key, and report whether they could be used. Continue to use the present certificate and key.
    Check,
    /// Read the certificate and the key again if these files have changed, and report the result. `palabre.toml` isn't read.
    Refresh,
}

/// The signer's report to the supervisor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SignerReport {
    /// Number of signatures since the signer was started.
    pub signatures: u64,
    /// Number of requests that the signer has refused.
    pub refused: u64,
    /// Why the signer can't use the certificate and the key that it read last, at most [`MAX_FAULT_CHARS`] characters; empty if it uses them.
    pub fault: String,
    /// Whether the signer has a certificate and its key: those that it read last, or the previous ones.
    pub has_certificate: bool,
    /// Number of orders other than [`Order::Serve`] that the signer has executed since it connected to the supervisor.
    pub orders: u64,
    /// The result of the last [`Order::Check`]: why the certificate and the key can't be used. Empty if they can, or if `palabre.toml` is invalid.
    pub checked: String,
    /// The parts of the signer's sandbox that the kernel enforces.
    pub sandbox: String,
}

/// Encodes an [`Order`] or a [`SignerReport`].
#[must_use]
pub fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// Parses an [`Order`] or a [`SignerReport`].
///
/// # Errors
/// The bytes aren't a message of this release. Contains the cause.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ID: ChainId = ChainId([7; 32]);

    #[test]
    fn every_message_is_read_as_it_was_written() {
        let sign = ToSign { scheme: 0x0403, message: vec![1; 130] };
        for (chain, sign) in [(None, None), (Some(ID), None), (Some(ID), Some(sign))] {
            let request = Request { number: 1 << 40, chain, sign };
            assert_eq!(Request::parse(&request.encode()), Some(request));
        }
        let chain =
            Chain { id: ID, schemes: vec![0x0804, 0x0401], certificates: vec![vec![1; 70_000], vec![2], vec![3]] };
        assert!(!chain.fits() && Chain { certificates: vec![vec![1; 60_000]], ..chain.clone() }.fits());
        let contents = [
            Content::Chain { fault: "no permission: é".into(), chain: None },
            Content::Chain { fault: String::new(), chain: Some(chain) },
            Content::Signature(vec![9; 72]),
        ];
        for content in contents.into_iter().chain(REFUSALS.map(Content::Refused)) {
            let reply = Reply { number: 3, content };
            assert_eq!(Reply::parse(&reply.encode()), Some(reply));
        }
    }

    #[test]
    fn every_cut_or_unknown_message_is_refused() {
        let sign = Some(ToSign { scheme: 1, message: Vec::new() });
        let request = Request { number: 5, chain: Some(ID), sign }.encode();
        let chain = Chain { id: ID, schemes: vec![1], certificates: vec![vec![1, 2, 3]] };
        let reply = Reply { number: 5, content: Content::Chain { fault: "x".into(), chain: Some(chain) } }.encode();
        assert!((0..request.len()).all(|length| Request::parse(&request[..length]).is_none()));
        assert!((0..reply.len()).all(|length| Reply::parse(&reply[..length]).is_none()));
        for (index, value) in [(0, 2), (1, 3), (1, 0)] {
            let mut other = request.clone();
            other[index] = value;
            assert_eq!(Request::parse(&other), None);
        }
        assert_eq!(Request::parse(&[request, vec![0]].concat()).unwrap().sign.unwrap().message, [0]);
        let more = [Request { number: 5, chain: None, sign: None }.encode(), vec![0]].concat();
        assert_eq!(Request::parse(&more), None, "a request for the chain with more bytes");
        assert_eq!(Reply::parse(&[head(3, 1), vec![9]].concat()), None);
    }

    #[test]
    fn orders_and_reports_are_lines_of_json() {
        let order = encode(&Order::Serve { name: "alice".into() });
        assert_eq!(order, br#"{"serve":{"name":"alice"}}"#);
        assert_eq!(parse::<Order>(br#""read""#).unwrap(), Order::Read);
        let report: SignerReport = parse(br#"{"signatures":3,"later":true}"#).unwrap();
        assert_eq!(report.signatures, 3);
        let fault = "\u{1}".repeat(MAX_FAULT_CHARS);
        let longest = SignerReport { checked: fault.clone(), fault, ..SignerReport::default() };
        assert!(encode(&longest).len() < MAX_REPORT_BYTES);
    }
}
