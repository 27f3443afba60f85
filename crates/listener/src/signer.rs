//! The connection to palabre-signer, which has the private key and signs the handshakes of this listener.
//!
//! The threads of this listener's connections ask one after another. If the signer is restarted, requests wait in the socket. A request that the
//! previous signer has read but not answered is sent again.

use anyhow::{Result, anyhow};
use log::Level;
use palabre_config::signing::{Chain, ChainId, Content, MAX_CHAIN_BYTES, MAX_REPLY_BYTES, Reply, Request, ToSign};
use palabre_host::log_limit::LogLimit;
use palabre_host::packet::Packet;
use palabre_host::wait;
use rustls::sign::SigningKey;
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Timeout for the chain when the listener starts. It is shorter than 10 s, the supervisor's timeout for a listener that replaces another.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(8);
/// Timeout for the check whether the signer has another chain.
pub(crate) const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout for a signature.
const SIGN_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after which a request without a reply is sent again for the first time. It doubles each time.
const RESEND: Duration = Duration::from_millis(300);

/// The connection to the signer.
#[derive(Debug)]
pub(crate) struct Signer {
    socket: Packet,
    /// Number of the last request; `None` while a thread waits for a reply.
    turn: Mutex<Option<u64>>,
    freed: Condvar,
    /// Limit of the log lines about unanswered requests for the chain.
    unanswered: LogLimit,
}

/// The signer's answer to a request for the chain.
pub(crate) struct Got {
    /// Why the files of the certificate and its key can't be used; `None` if they are used.
    pub(crate) fault: Option<String>,
    /// The chain, if it differs from the known one.
    pub(crate) chain: Option<Chain>,
}

impl Signer {
    pub(crate) fn new(socket: Packet) -> Self {
        Self { socket, turn: Mutex::new(Some(0)), freed: Condvar::new(), unanswered: LogLimit::new(0.1, 1.0) }
    }

    /// Asks for the signer's certificate chain if it differs from the chain `known`.
    pub(crate) fn chain(&self, known: Option<ChainId>, timeout: Duration) -> Result<Got> {
        let unable = |cause: String| {
            anyhow!(
                "unable to get the certificate from palabre-signer: {cause}; read the log of the signer, which 'palabre status' shows"
            )
        };
        match self.ask(known, None, MAX_CHAIN_BYTES, timeout).map_err(unable)? {
            Content::Chain { fault, chain } => Ok(Got { fault: Some(fault).filter(|fault| !fault.is_empty()), chain }),
            Content::Refused(why) => Err(unable(why.to_string())),
            Content::Signature(_) => Err(unable("unexpected reply".to_owned())),
        }
    }

    /// Logs that a request for the chain failed.
    pub(crate) fn log_unanswered(&self, error: &anyhow::Error) {
        self.unanswered.log(Level::Warn, Instant::now(), format_args!("{error}; keeping the previous certificate"));
    }

    fn sign(&self, chain: ChainId, scheme: u16, message: &[u8]) -> Result<Vec<u8>, String> {
        let sign = ToSign { scheme, message: message.to_vec() };
        match self.ask(Some(chain), Some(sign), MAX_REPLY_BYTES, SIGN_TIMEOUT)? {
            Content::Signature(signature) => Ok(signature),
            Content::Refused(why) => Err(why.to_string()),
            Content::Chain { .. } => Err("unexpected reply".to_owned()),
        }
    }

    /// Sends a request when no other thread waits for a reply, and waits for the reply.
    fn ask(
        &self,
        chain: Option<ChainId>,
        sign: Option<ToSign>,
        max_bytes: usize,
        timeout: Duration,
    ) -> Result<Content, String> {
        let deadline = Instant::now() + timeout;
        let late = || format!("no answer within {} s", timeout.as_secs());
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.freed.wait_timeout_while(turn, timeout, |turn| turn.is_none());
        let last = waited.unwrap_or_else(PoisonError::into_inner).0.take().ok_or_else(late)?;
        let request = Request { number: last + 1, chain, sign };
        let answered = self.exchange(&request, max_bytes, deadline);
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = Some(request.number);
        self.freed.notify_one();
        answered.map_err(|error| error.to_string())?.ok_or_else(late)
    }

    /// Sends the request and returns the content of the reply, or `None` after the deadline.
    fn exchange(&self, request: &Request, max_bytes: usize, deadline: Instant) -> io::Result<Option<Content>> {
        let (message, mut buffer, mut resend) = (request.encode(), vec![0; max_bytes], RESEND);
        loop {
            match self.socket.send(&message) {
                // `WouldBlock`: the socket is full of unread requests. Wait as for a reply, and send the request again.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
            let until = (Instant::now() + resend).min(deadline);
            if let Some(content) = self.receive(request.number, &mut buffer, until)? {
                return Ok(Some(content));
            }
            if until == deadline {
                return Ok(None);
            }
            resend *= 2;
        }
    }

    /// Waits until `until` for the reply with this number. Discards late replies to earlier requests.
    fn receive(&self, number: u64, buffer: &mut [u8], until: Instant) -> io::Result<Option<Content>> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            if !wait::is_readable(&self.socket, left)? {
                continue;
            }
            let received = match self.socket.recv(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                other => other?,
            };
            let length = received.ok_or_else(|| io::Error::other("the connection is closed"))?;
            let reply = Reply::parse(buffer.get(..length).unwrap_or_default());
            if let Some(reply) = reply.filter(|reply| reply.number == number) {
                return Ok(Some(reply.content));
            }
        }
    }
}

/// The private key of a chain. The key itself is in the signer.
#[derive(Debug, Clone)]
pub(crate) struct RemoteKey {
    signer: Arc<Signer>,
    chain: ChainId,
    schemes: Vec<SignatureScheme>,
    algorithm: SignatureAlgorithm,
}

impl RemoteKey {
    /// Returns the key with which the signer signs for this chain. `None` if the chain's key has no signature scheme.
    pub(crate) fn of(signer: &Arc<Signer>, chain: &Chain) -> Option<Self> {
        let schemes: Vec<_> = chain.schemes.iter().map(|code| SignatureScheme::from(*code)).collect();
        let algorithm = match schemes.first()? {
            SignatureScheme::ED25519 => SignatureAlgorithm::ED25519,
            SignatureScheme::ECDSA_NISTP256_SHA256 | SignatureScheme::ECDSA_NISTP384_SHA384 => {
                SignatureAlgorithm::ECDSA
            }
            _ => SignatureAlgorithm::RSA,
        };
        Some(Self { signer: Arc::clone(signer), chain: chain.id, schemes, algorithm })
    }
}

impl SigningKey for RemoteKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        let scheme = *self.schemes.iter().find(|scheme| offered.contains(scheme))?;
        Some(Box::new(RemoteSigner { key: self.clone(), scheme }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

/// Signs one handshake.
#[derive(Debug)]
struct RemoteSigner {
    key: RemoteKey,
    scheme: SignatureScheme,
}

impl rustls::sign::Signer for RemoteSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signed = self.key.signer.sign(self.key.chain, self.scheme.into(), message);
        signed.map_err(|cause| Error::General(format!("unable to get a signature from palabre-signer: {cause}")))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::thread;

    const ID: ChainId = ChainId([3; 32]);

    /// Waits for the next request.
    fn next(socket: &Packet) -> Request {
        let mut buffer = [0; 512];
        wait::is_readable(socket, Duration::from_secs(10)).unwrap();
        let length = socket.recv(&mut buffer).unwrap().unwrap();
        Request::parse(&buffer[..length]).unwrap()
    }

    fn answer(socket: &Packet, number: u64, signature: &[u8]) {
        socket.send(&Reply { number, content: Content::Signature(signature.to_vec()) }.encode()).unwrap();
    }

    #[test]
    fn request_that_a_killed_signer_had_read_is_sent_again() {
        let (ours, theirs) = Packet::pair().unwrap();
        let signer = Arc::new(Signer::new(ours));
        let asking = thread::spawn({
            let signer = Arc::clone(&signer);
            move || signer.sign(ID, 0x0403, b"message")
        });
        let lost = next(&theirs);
        // The test now acts as the next signer, on a duplicate of the signer's end of the socket. In operation, the supervisor keeps a duplicate.
        let theirs = theirs.try_clone().unwrap();
        let again = next(&theirs);
        assert_eq!(lost, again);
        answer(&theirs, again.number - 1, b"late");
        answer(&theirs, again.number, b"signature");
        assert_eq!(asking.join().unwrap(), Ok(b"signature".to_vec()));
    }

    #[test]
    fn connections_ask_in_turn_and_get_their_own_signatures() {
        let (ours, theirs) = Packet::pair().unwrap();
        let signer = Arc::new(Signer::new(ours));
        let threads: Vec<_> = (0..8u8)
            .map(|text| {
                let signer = Arc::clone(&signer);
                thread::spawn(move || signer.sign(ID, 1, &[text]).unwrap() == [text])
            })
            .collect();
        for _ in 0..8 {
            let request = next(&theirs);
            answer(&theirs, request.number, &request.sign.unwrap().message);
        }
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
    }

    #[test]
    fn without_an_answer_each_request_fails_at_its_own_deadline() {
        let (ours, theirs) = Packet::pair().unwrap();
        let signer = Arc::new(Signer::new(ours));
        let begun = Instant::now();
        let timeout = Duration::from_millis(400);
        let threads = [(); 3].map(|()| {
            let signer = Arc::clone(&signer);
            thread::spawn(move || signer.ask(None, None, 100, timeout).is_err())
        });
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
        assert!(begun.elapsed() >= timeout);
        drop(theirs);
        assert!(signer.chain(None, timeout).is_err());
    }
}
