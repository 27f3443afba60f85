//! The signer's end of a listener's connection to the signer.

use palabre_host::packet::Packet;

/// Number of the link to the signer that the supervisor's previous program has passed on.
pub(crate) const RESTORED_LINK: u64 = 1;

/// The signer's end of a listener's connection. The supervisor keeps it for the next signer.
#[derive(Debug)]
pub(crate) struct End {
    socket: Packet,
    /// Number of the link over which the supervisor last passed this end to a signer; 0 if it has not.
    pub(crate) link: u64,
}

impl End {
    /// Creates an end that the supervisor has not passed to a signer yet.
    pub(crate) fn new(socket: Packet) -> Self {
        Self { socket, link: 0 }
    }

    /// Creates an end that the supervisor's previous program has passed to the signer.
    pub(crate) fn restored(socket: Packet) -> Self {
        Self { socket, link: RESTORED_LINK }
    }

    /// Returns the socket.
    pub(crate) fn socket(&self) -> &Packet {
        &self.socket
    }
}
