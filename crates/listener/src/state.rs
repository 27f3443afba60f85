//! What the threads of a listener share.

use crate::auth::Authenticator;
use crate::desk::Desk;
use crate::ear::{Ear, HAND_OVER};
use crate::mic::MicWriter;
use crate::status::Status;
use palabre_room::Format;
use rustls::ServerConfig;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Instant;

/// The JSON of `GET /me`.
#[derive(Debug, Clone, Serialize)]
pub struct Me {
    /// Login name.
    pub name: String,
    /// Display name.
    pub display: String,
    /// Name of the room.
    pub room: String,
    /// The room's rate.
    pub rate_hz: u32,
    /// Length of a chunk of the injected stream.
    pub chunk_ms: u64,
    /// Whether the mixer brings this participant's speech to one loudness, so that the page needn't.
    pub levelling: bool,
    /// Whether the page joins with its microphone muted.
    pub join_muted: bool,
    /// There is no microphone here: a file is heard, or the participant only listens.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub listen_only: bool,
}

/// Everything that a connection needs.
#[derive(Debug)]
pub struct Listener {
    /// The text of `GET /me`.
    pub me_json: String,
    /// What flows here.
    pub format: Format,
    /// Length of a chunk of the injected stream.
    pub chunk_ms: u64,
    /// Checks access keys.
    pub auth: Authenticator,
    /// What is heard.
    pub ear: Arc<Ear>,
    /// What is said; none where there is no microphone.
    pub microphone: Option<Arc<MicWriter>>,
    /// What is written and shown; none where a file is heard.
    pub desk: Option<Desk>,
    /// What the supervisor is told.
    pub status: Arc<Status>,
    tls: RwLock<Arc<ServerConfig>>,
    leaving: AtomicBool,
    /// When the microphones are told to go, once this process leaves.
    end: OnceLock<Instant>,
}

impl Listener {
    /// A listener that accepts nothing yet.
    pub fn new(
        me: &Me,
        format: Format,
        auth: Authenticator,
        ear: Arc<Ear>,
        (microphone, desk): (Option<Arc<MicWriter>>, Option<Desk>),
        tls: Arc<ServerConfig>,
        status: Arc<Status>,
    ) -> Self {
        Self {
            me_json: serde_json::to_string(me).unwrap_or_default(),
            format,
            chunk_ms: me.chunk_ms,
            auth,
            ear,
            microphone,
            desk,
            status,
            tls: RwLock::new(tls),
            leaving: AtomicBool::new(false),
            end: OnceLock::new(),
        }
    }

    /// The present certificate.
    pub fn tls(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.tls.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Uses another certificate for connections that come from now on.
    pub fn set_tls(&self, tls: Arc<ServerConfig>) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// From now on no connection is kept for another request.
    pub fn keep_no_more(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// The planned leave: streams and microphones are told.
    pub fn leave(&self) {
        self.keep_no_more();
        self.end.get_or_init(Instant::now);
        self.ear.leave();
    }

    /// The planned leave where another process has the socket too: streams and microphones go on until they have one to it.
    pub fn hand_over(&self) {
        self.keep_no_more();
        self.end.get_or_init(|| Instant::now() + HAND_OVER);
        self.ear.hand_over();
    }

    /// Whether the time of those who speak is over.
    pub fn is_over(&self) -> bool {
        self.end.get().is_some_and(|end| Instant::now() >= *end)
    }

    /// Whether the planned leave has begun.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Whether a connection may be kept for another request.
    pub fn keeps(&self) -> bool {
        !self.is_leaving()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol_doc::example;

    #[test]
    fn me_is_the_documented_json() {
        let me = |name: &str, display: &str, room: &str, is_file: bool| Me {
            name: name.into(),
            display: display.into(),
            room: room.into(),
            rate_hz: 24000,
            chunk_ms: 40,
            levelling: !is_file,
            join_muted: is_file,
            listen_only: is_file,
        };
        let json = |me: Me| serde_json::to_string(&me).unwrap();
        assert_eq!(json(me("alice", "Alice", "main", false)), example("json me"));
        assert_eq!(json(me("source", "dat.wav", "source", true)), example("json me of a file"));
    }
}
