//! A link that opens once: who used it is written down before they come in, and told to each listener that starts.

use std::time::SystemTime;

use palabre_config::Entrance;
use palabre_config::control::LinkUse;

use super::Seat;
use crate::site::Site;

impl Seat {
    /// Reads who has used the link that the file has now.
    pub(super) fn recall(&mut self, site: &Site) {
        let read = match self.participant.key_once {
            true => Entrance::load(&site.links, &self.participant.name),
            false => Ok(None),
        };
        self.link_fault = read.as_ref().err().map(ToString::to_string);
        if let Some(fault) = &self.link_fault {
            log::error!("{fault}");
        }
        self.entrance = read.ok().flatten().filter(|entrance| entrance.link == self.participant.key_sha256);
    }

    /// Somebody has used the link, says the process `pid`. It is asked again by whoever didn't hear the answer.
    ///
    /// # Errors
    /// Why they can't come in, in words.
    pub fn enter(&mut self, pid: u32, entrance: Entrance, site: &Site) -> Result<(), String> {
        let serves = self.current.as_ref().is_some_and(|process| process.pid() == pid);
        // Whoever replaces it was started with what was so before.
        if !serves || self.successor.is_some() {
            return Err("its listener is being replaced; press the button again".to_owned());
        }
        let theirs = &self.participant;
        let expired = theirs.key_expires.is_some_and(|expires| expires.has_passed(SystemTime::now()));
        if !theirs.key_once || theirs.key_sha256 != entrance.link || expired {
            return Err("this link is not, or no longer, theirs".to_owned());
        }
        match Entrance::load(&site.links, &theirs.name).map_err(|error| self.fault(error.to_string()))? {
            Some(used) if used == entrance => {}
            Some(used) if used.link == entrance.link => return Err("the link has been used".to_owned()),
            _ => entrance.write(&site.links, &self.participant.name).map_err(|error| self.fault(error.to_string()))?,
        }
        log::info!("the link of '{}' has been used", self.participant.name);
        (self.entrance, self.link_fault) = (Some(entrance), None);
        Ok(())
    }

    fn fault(&mut self, cause: String) -> String {
        log::error!("{cause}");
        self.link_fault = Some(cause.clone());
        cause
    }

    /// What can't be written or read about the link.
    pub fn link_fault(&self) -> Option<&str> {
        self.link_fault.as_deref()
    }

    /// Whether the link was used, where it opens once.
    pub(super) fn link_use(&self) -> Option<LinkUse> {
        self.participant.key_once.then(|| if self.entrance.is_some() { LinkUse::Used } else { LinkUse::Unused })
    }

    /// Whether this process is the one that serves, or one before it that leaves.
    pub fn has(&self, pid: u32) -> bool {
        self.processes().any(|process| process.pid() == pid)
    }
}
