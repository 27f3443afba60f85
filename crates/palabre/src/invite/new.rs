//! A new participant of an invitation: the settings, and the checks before the file is written.

use palabre_config::{Key, KeyHash, Participant, Server};
use palabre_host::exit::Failure;
use palabre_room::{Name, display_name_is_valid};

use crate::admission;
use crate::cli::Expiry;

/// The settings that an invitation asks for. A missing setting has its default for a new participant, and isn't changed for an existing one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: Name,
    pub(super) room: Option<Name>,
    pub(super) display_name: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) expires: Option<Expiry>,
    pub(super) listen_only: Option<bool>,
    pub(super) once: bool,
}

impl Wanted {
    /// Checks everything except the port.
    pub(super) fn check(&self, server: &Server) -> Result<(), String> {
        admission::check_name(&self.name, server)?;
        match &self.display_name {
            Some(text) if !display_name_is_valid(text) => {
                Err("a display name has 1 to 64 characters, not only spaces, and no control characters".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Returns a new participant with these settings.
    pub(super) fn participant(&self, port: u16, key: KeyHash) -> Participant {
        let mut participant = Participant::new(self.name.clone(), port, key);
        participant.display_name.clone_from(&self.display_name);
        participant.key_once = self.once;
        participant.key_expires = self.expires.and_then(Expiry::moment);
        participant.listen_only = self.listen_only.unwrap_or_default();
        if let Some(room) = &self.room {
            participant.room = room.clone();
        }
        participant
    }
}

/// Makes an access key.
pub(super) fn key() -> Result<Key, Failure> {
    Key::generate().map_err(|error| Failure::system(format!("unable to make an access key: {error}")))
}
