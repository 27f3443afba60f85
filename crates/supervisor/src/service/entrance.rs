//! One-time invitation links. The supervisor writes the use of a link to disk before the listener accepts the browser, and passes the use
//! to each listener that it starts.

use std::time::SystemTime;

use palabre_config::Entrance;
use palabre_config::control::LinkUse;

use super::Service;
use crate::config::Config;

impl Service {
    /// Reads from disk whether the link in the participant's present file was used.
    pub(super) fn load_entrance(&mut self, config: &Config) {
        let read = match self.participant.key_once {
            true => Entrance::load(&config.links, &self.participant.name),
            false => Ok(None),
        };
        self.link_fault = read.as_ref().err().map(ToString::to_string);
        if let Some(fault) = &self.link_fault {
            log::error!("{fault}");
        }
        self.entrance = read.ok().flatten().filter(|entrance| entrance.link == self.participant.key_sha256);
    }

    /// Stores that the link was used, as reported by the listener process `pid`. A listener that did not receive the answer reports the same
    /// use again, which succeeds. An error says why the browser is not accepted.
    pub(crate) fn enter(&mut self, pid: u32, entrance: Entrance, config: &Config) -> Result<(), String> {
        let serves = self.current.as_ref().is_some_and(|process| process.pid() == pid);
        // A successor was started without the use of this link, so it would not accept the browser.
        if !serves || self.successor.is_some() {
            return Err("the listener is being replaced; the participant must press the button again".to_owned());
        }
        let participant = &self.participant;
        let expired = participant.key_expires.is_some_and(|expires| expires.has_passed(SystemTime::now()));
        if !participant.key_once || participant.key_sha256 != entrance.link || expired {
            return Err("the link has expired or was replaced by a newer one".to_owned());
        }
        match Entrance::load(&config.links, &participant.name).map_err(|error| self.fault(error.to_string()))? {
            Some(used) if used == entrance => {}
            Some(used) if used.link == entrance.link => {
                return Err("the link was already used in another browser".to_owned());
            }
            _ => {
                entrance.write(&config.links, &self.participant.name).map_err(|error| self.fault(error.to_string()))?;
            }
        }
        log::info!(PALABRE_INSTANCE:% = self.participant.name; "a browser has used the one-time link of '{}'", self.participant.name);
        (self.entrance, self.link_fault) = (Some(entrance), None);
        Ok(())
    }

    fn fault(&mut self, cause: String) -> String {
        log::error!("{cause}");
        self.link_fault = Some(cause.clone());
        cause
    }

    /// Returns why the file with the use of the link can't be read or written.
    pub(crate) fn link_fault(&self) -> Option<&str> {
        self.link_fault.as_deref()
    }

    /// Returns whether the link was used; `None` if it is not a one-time link, or if the record can't be read or written.
    pub(super) fn link_use(&self) -> Option<LinkUse> {
        let of_link = if self.entrance.is_some() { LinkUse::Used } else { LinkUse::Unused };
        (self.participant.key_once && self.link_fault.is_none()).then_some(of_link)
    }

    /// Whether `pid` is a listener process of this service.
    pub(crate) fn has(&self, pid: u32) -> bool {
        self.processes().any(|process| process.pid() == pid)
    }
}
