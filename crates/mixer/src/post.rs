//! The post of the mixer: a file among the rooms whose lock says which process mixes there, for `palabre restart mixer`.
//!
//! It says since when this program serves, and in a second line why it could not be replaced last. Its name begins with a
//! dot, so it is no room's.

use std::io;
use std::path::Path;

use palabre_host::claim::Claim;
use palabre_host::clock;
use palabre_host::exit::Failure;
use palabre_room::MIXER_POST;

/// The post, held.
pub struct Post {
    /// None where the directory can't be written: then nobody can ask for a restart by it.
    claim: Option<Claim>,
}

impl Post {
    /// Takes the post in the directory of the rooms.
    ///
    /// # Errors
    /// [`Failure::Refused`] where another mixer has it.
    pub fn take(rooms: &Path) -> Result<Self, Failure> {
        match Claim::take(&rooms.join(MIXER_POST)) {
            Ok(Some(claim)) => Ok(Self { claim: Some(claim) }),
            Ok(None) => Err(Failure::Refused(format!(
                "unable to mix in '{}': another palabre-mixer does; stop it, or give another directory with --rooms",
                rooms.display()
            ))),
            // That there is no such directory is told by whoever is to watch it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { claim: None }),
            Err(error) => {
                log::warn!("unable to say in '{}' which process mixes there: {error}", rooms.display());
                Ok(Self { claim: None })
            }
        }
    }

    /// From now on every room is served.
    pub fn serves(&self) {
        self.say("");
    }

    /// Somebody has removed the file. It must be closed: a directory that was removed is told of when nothing in it is open.
    pub fn lose(&mut self) {
        self.claim = None;
    }

    /// The program could not be replaced.
    pub fn refuses(&self, why: &str) {
        self.say(why);
    }

    fn say(&self, why: &str) {
        let text = format!("{}\n{why}\n", clock::boottime_ms());
        if let Some(Err(error)) = self.claim.as_ref().map(|claim| claim.say(&text)) {
            log::warn!("unable to write '{MIXER_POST}': {error}");
        }
    }
}
