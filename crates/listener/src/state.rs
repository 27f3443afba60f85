//! The objects that all connections of a listener share.

use crate::access::Access;
use crate::api::Api;
use crate::auth::Authenticator;
use crate::certificate::Certificate;
use crate::ear::Ear;
use crate::handover::Handover;
use crate::hsts::Hsts;
use crate::me::Me;
use crate::mic::MicWriter;
use crate::waker::Waker;
use palabre_config::{CodecSetting, Proxy};
use palabre_host::priority::Niceness;
use palabre_room::Format;
use rustls::ServerConfig;
use std::sync::Arc;
use std::time::Instant;

/// The objects that all connections of a listener share.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The participant, with the display name in the participant's file.
    me: Me,
    pub(crate) format: Format,
    /// The codecs that streams may have.
    pub(crate) codec: CodecSetting,
    /// Length of a chunk of the injected stream, in ms.
    pub(crate) chunk_ms: u64,
    /// Authenticates requests.
    pub(crate) auth: Authenticator,
    pub(crate) access: Access,
    pub(crate) handover: Arc<Handover>,
    pub(crate) ear: Arc<Ear>,
    /// The writer of the pipe `mic`; `None` if the source is a file or the participant only listens.
    pub(crate) microphone: Option<Arc<MicWriter>>,
    /// The handlers of the requests that carry no sound; `None` if the source is a file.
    pub(crate) api: Option<Api>,
    /// Wakes the main thread to report to the supervisor.
    pub(crate) main_thread: Arc<Waker>,
    pub(crate) hsts: Hsts,
    pub(crate) certificate: Certificate,
    /// The niceness of threads that serve authenticated clients. `None` if all threads keep the same niceness.
    pub(crate) niceness: Option<Niceness>,
}

impl Listener {
    pub(crate) fn new(
        me: &Me,
        (format, codec): (Format, CodecSetting),
        (auth, proxy, hsts): (Authenticator, Proxy, Hsts),
        (handover, ear): (Arc<Handover>, Arc<Ear>),
        (microphone, api): (Option<Arc<MicWriter>>, Option<Api>),
        certificate: Certificate,
        main_thread: Arc<Waker>,
    ) -> Self {
        let chunk_ms = me.chunk_ms;
        let access = Access::new(proxy, Arc::clone(&main_thread));
        Self {
            me: me.clone(),
            format,
            codec,
            chunk_ms,
            auth,
            access,
            handover,
            ear,
            microphone,
            api,
            main_thread,
            hsts,
            certificate,
            niceness: Niceness::restorable(),
        }
    }

    /// Returns the TLS configuration for a new connection. Uses a new certificate if there is one.
    pub(crate) fn tls(&self) -> Arc<ServerConfig> {
        if self.certificate.check(Instant::now()) {
            self.main_thread.wake();
        }
        self.certificate.config()
    }

    /// Reads the certificate again in another thread, because palabre-signer may need time for its answer.
    pub(crate) fn read_certificate(self: &Arc<Self>) {
        let listener = Arc::clone(self);
        let read = move || {
            listener.certificate.read();
            listener.main_thread.wake();
        };
        if let Err(error) = std::thread::Builder::new().name("certificate".into()).spawn(read) {
            log::error!(
                "unable to start a thread that reads the certificate: {error}; keeping the previous certificate"
            );
        }
    }

    /// Returns the participant, as in the record `hello`.
    pub(crate) fn me(&self) -> Me {
        let display = self.api.as_ref().and_then(Api::own_name).unwrap_or_else(|| self.me.display.clone());
        Me { display, ..self.me.clone() }
    }

    /// Returns the response to `GET /me`. Unlike the record `hello`, it says whether the room is being recorded.
    pub(crate) fn me_now(&self) -> String {
        Me { recording: self.api.as_ref().is_some_and(|api| api.meeting.is_recorded()), ..self.me() }.json()
    }

    /// Returns whether microphones must end because this process stops or is replaced.
    pub(crate) fn is_over(&self) -> bool {
        self.handover.ends_microphones(Instant::now())
    }

    /// Returns whether a connection may be kept for another request.
    pub(crate) fn keeps(&self) -> bool {
        self.handover.is_serving()
    }
}
