//! A listener for which the signer signs: its connection and its rate limit.

use std::time::Instant;

use palabre_config::signing::{Content, MAX_REQUEST_BYTES, Refusal, Reply, Request, ToSign};
use palabre_host::packet::Packet;
use palabre_host::rate_limit::RateLimit;
use rustls::SignatureScheme;

use crate::form::Form;
use crate::pair::{KeyFiles, Pair};

/// Maximum number of signatures for one listener per second, on average. A listener has at most 48 connections by default.
const PER_SECOND: f64 = 500.0;
/// Maximum number of signatures for one listener in a burst.
const BURST: f64 = 1500.0;
/// Maximum number of requests of one listener for the certificate per second, on average. A listener asks at most every 2 s, and after SIGHUP.
const CHAINS_PER_SECOND: f64 = 5.0;
/// Maximum number of requests of one listener for the certificate in a burst.
const CHAINS_BURST: f64 = 50.0;
/// Maximum number of signatures for all listeners together per second, on average.
const ALL_PER_SECOND: f64 = 500.0;
/// Maximum number of signatures for all listeners together in a burst. After a restart of all listeners, the pages of 1000 participants connect anew.
const ALL_BURST: f64 = 5000.0;
/// Number of signatures per second, on average, that a listener gets even while the others have used up the common limit.
const RESERVED_PER_SECOND: f64 = 5.0;
/// Number of signatures in a burst that a listener gets even while the others have used up the common limit.
const RESERVED_BURST: f64 = 50.0;
/// Number of signatures as which a signature with an RSA key counts.
const RSA_COST: usize = 5;

/// A listener's connection and its rate limits.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: String,
    socket: Packet,
    limit: RateLimit,
    /// The signatures that the listener gets even while the others have used up the common limit.
    reserved: RateLimit,
    /// A separate limit for requests for the certificate: a listener whose clients use up the signatures must still get a renewed certificate.
    chains: RateLimit,
}

/// The result of serving one message of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There was no message.
    None,
    /// The connection is closed.
    Closed,
    /// The listener got the chain, or the answer that it has the chain already.
    Chain,
    Signed,
    Refused(Refusal),
    /// The message isn't a request.
    Malformed,
}

impl Client {
    pub(crate) fn new(name: String, socket: Packet) -> Self {
        let limit = RateLimit::new(PER_SECOND, BURST);
        let reserved = RateLimit::new(RESERVED_PER_SECOND, RESERVED_BURST);
        Self { name, socket, limit, reserved, chains: RateLimit::new(CHAINS_PER_SECOND, CHAINS_BURST) }
    }

    /// Returns an unused rate limit of the signatures for all listeners together.
    pub(crate) const fn limit_of_all() -> RateLimit {
        RateLimit::new(ALL_PER_SECOND, ALL_BURST)
    }

    pub(crate) fn socket(&self) -> &Packet {
        &self.socket
    }

    /// Reads one message of the listener, and answers it. `all` is the limit of signatures for all listeners together.
    pub(crate) fn serve(&mut self, files: &mut KeyFiles, all: &mut RateLimit, now: Instant) -> Outcome {
        let mut buffer = [0; MAX_REQUEST_BYTES + 1];
        let length = match self.socket.recv(&mut buffer) {
            Ok(Some(length)) => length,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Outcome::None,
            Ok(None) | Err(_) => return Outcome::Closed,
        };
        let message = buffer.get(..length).filter(|message| message.len() <= MAX_REQUEST_BYTES);
        let Some(request) = message.and_then(Request::parse) else { return Outcome::Malformed };
        let content = self.answer(&request, files, all, now);
        let outcome = match &content {
            Content::Chain { .. } => Outcome::Chain,
            Content::Signature(_) => Outcome::Signed,
            Content::Refused(why) => Outcome::Refused(*why),
        };
        match self.socket.send(&Reply { number: request.number, content }.encode()) {
            // If the listener doesn't read its replies, this reply is lost: the listener asks again, or ends.
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => Outcome::Closed,
            _ => outcome,
        }
    }

    fn answer(&mut self, request: &Request, files: &mut KeyFiles, all: &mut RateLimit, now: Instant) -> Content {
        let is_admitted = match request.sign {
            Some(_) => self.admits_signature(files, all, now),
            None => self.chains.admit(now),
        };
        if !is_admitted {
            return Content::Refused(Refusal::TooOften);
        }
        let Some(sign) = &request.sign else {
            files.check(now);
            let chain = files.current().map(|pair| &pair.chain).filter(|chain| request.chain != Some(chain.id));
            return Content::Chain { fault: files.fault().unwrap_or_default().to_owned(), chain: chain.cloned() };
        };
        let Some(pair) = request.chain.and_then(|id| files.of_chain(id)) else {
            return Content::Refused(Refusal::OtherChain);
        };
        signature(pair, sign).map_or_else(Content::Refused, Content::Signature)
    }

    fn admits_signature(&mut self, files: &KeyFiles, all: &mut RateLimit, now: Instant) -> bool {
        let cost = if files.current().is_some_and(Pair::is_rsa) { RSA_COST } else { 1 };
        let admits = |limit: &mut RateLimit| (0..cost).all(|_| limit.admit(now));
        admits(&mut self.limit) && (admits(all) || self.reserved.admit(now))
    }
}

fn signature(pair: &Pair, ToSign { scheme, message }: &ToSign) -> Result<Vec<u8>, Refusal> {
    let form = Form::of(message).ok_or(Refusal::NotTls)?;
    let scheme = SignatureScheme::from(*scheme);
    if !form.allows(scheme) {
        return Err(Refusal::Scheme);
    }
    pair.sign(scheme, message).ok_or(Refusal::Scheme)?.map_err(|_| Refusal::Failed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use palabre_config::certificate::self_signed;
    use palabre_config::signing::{Chain, ChainId, MAX_CHAIN_BYTES};
    use std::time::Duration;

    struct Rig {
        _directory: tempfile::TempDir,
        files: KeyFiles,
        client: Client,
        listener: Packet,
        all: RateLimit,
        now: Instant,
    }

    fn rig() -> Rig {
        let (directory, now) = (tempfile::tempdir().unwrap(), Instant::now());
        std::fs::create_dir(directory.path().join("tls")).unwrap();
        self_signed(&["localhost".into()]).unwrap().write(&directory.path().join("tls")).unwrap();
        let files = KeyFiles::load(directory.path(), now);
        let (listener, socket) = Packet::pair().unwrap();
        let (client, all) = (Client::new("alice".into(), socket), Client::limit_of_all());
        Rig { _directory: directory, files, client, listener, all, now }
    }

    impl Rig {
        fn ask(&mut self, chain: Option<ChainId>, sign: Option<ToSign>) -> Content {
            self.listener.send(&Request { number: 9, chain, sign }.encode()).unwrap();
            self.client.serve(&mut self.files, &mut self.all, self.now);
            let mut buffer = vec![0; MAX_CHAIN_BYTES];
            let length = self.listener.recv(&mut buffer).unwrap().unwrap();
            let reply = Reply::parse(&buffer[..length]).unwrap();
            assert_eq!(reply.number, 9);
            reply.content
        }

        fn chain(&mut self) -> Chain {
            match self.ask(None, None) {
                Content::Chain { chain: Some(chain), fault } if fault.is_empty() => chain,
                other => panic!("{other:?}"),
            }
        }
    }

    fn of_server() -> Vec<u8> {
        [vec![b' '; 64], b"TLS 1.3, server CertificateVerify\0".to_vec(), vec![5; 32]].concat()
    }

    const P256: u16 = 0x0403;

    #[test]
    fn listener_gets_the_chain_once_and_a_signature() {
        let mut rig = rig();
        let chain = rig.chain();
        assert_eq!((chain.schemes.as_slice(), chain.certificates.len()), (&[P256][..], 1));
        let again = rig.ask(Some(chain.id), None);
        assert_eq!(again, Content::Chain { fault: String::new(), chain: None });
        let signed = rig.ask(Some(chain.id), Some(ToSign { scheme: P256, message: of_server() }));
        assert!(matches!(signed, Content::Signature(signature) if signature.len() > 64));
    }

    #[test]
    fn signer_refuses_everything_but_a_handshake_with_its_chain() {
        let mut rig = rig();
        let id = Some(rig.chain().id);
        let client = [vec![b' '; 64], b"TLS 1.3, client CertificateVerify\0".to_vec(), vec![5; 32]].concat();
        let cases = [
            (id, P256, b"arbitrary bytes".to_vec(), Refusal::NotTls),
            (id, P256, client, Refusal::NotTls),
            (id, P256, [of_server(), vec![0]].concat(), Refusal::NotTls),
            (id, P256, Vec::new(), Refusal::NotTls),
            (id, 0x0804, of_server(), Refusal::Scheme),
            (id, 0x0401, of_server(), Refusal::Scheme),
            (None, P256, of_server(), Refusal::OtherChain),
            (Some(ChainId([1; 32])), P256, of_server(), Refusal::OtherChain),
        ];
        for (chain, scheme, message, refusal) in cases {
            assert_eq!(rig.ask(chain, Some(ToSign { scheme, message })), Content::Refused(refusal));
        }
        for message in [vec![1], vec![0; MAX_REQUEST_BYTES + 1], vec![1; 100_000]] {
            rig.listener.send(&message).unwrap();
            assert_eq!(rig.client.serve(&mut rig.files, &mut rig.all, rig.now), Outcome::Malformed);
        }
        assert_eq!(rig.client.serve(&mut rig.files, &mut rig.all, rig.now), Outcome::None);
        let (_, other) = Packet::pair().unwrap();
        rig.listener = other;
        assert_eq!(rig.client.serve(&mut rig.files, &mut rig.all, rig.now), Outcome::Closed);
    }

    fn refused(rig: &mut Rig, id: ChainId, count: usize, sign: Option<&ToSign>) -> usize {
        (0..count).filter(|_| rig.ask(Some(id), sign.cloned()) == Content::Refused(Refusal::TooOften)).count()
    }

    #[test]
    fn listener_that_asks_too_often_is_refused_until_time_has_passed() {
        let mut rig = rig();
        let id = rig.chain().id;
        let sign = Some(&ToSign { scheme: P256, message: b"x".to_vec() });
        assert_eq!(refused(&mut rig, id, 2000, sign), 500, "1500 at once");
        assert_eq!(refused(&mut rig, id, 49, None), 0, "requests for the certificate have another limit");
        assert_eq!(refused(&mut rig, id, 10, None), 10, "50 at once");
        rig.now += Duration::from_millis(10);
        assert_eq!(refused(&mut rig, id, 10, sign), 5);
    }

    #[test]
    fn handshakes_at_many_listeners_are_limited_and_every_other_listener_has_a_reserve() {
        let mut rig = rig();
        let id = rig.chain().id;
        let sign = Some(&ToSign { scheme: P256, message: b"x".to_vec() });
        let others = (0..6000).filter(|_| rig.all.admit(rig.now)).count();
        assert_eq!(others, 5000, "at once for all listeners");
        assert_eq!(refused(&mut rig, id, 60, sign), 10, "50 are reserved for each listener");
        rig.now += Duration::from_millis(200);
        assert_eq!((0..200).filter(|_| rig.all.admit(rig.now)).count(), 100, "500 per second for all listeners");
        assert_eq!(refused(&mut rig, id, 10, sign), 9, "5 per second are reserved for each listener");
    }
}
