//! Whether the changes of a service are complete, and why its listener serves with earlier settings.

use palabre_config::control::State;

use super::Service;
use super::outcome::Refusal;
use crate::config::Config;

impl Service {
    /// Whether a start, a stop or a replacement of the listener is in progress, or the listener is getting the certificate again.
    pub(crate) fn is_pending(&self) -> bool {
        let is_replaced = self.current.as_ref().is_some_and(|process| process.generation != self.wanted);
        self.successor.is_some()
            || !self.leaving.is_empty()
            || self.is_ending
            || matches!(self.state, State::Starting | State::Draining)
            || self.renewal.deadline().is_some()
            || (self.state.is_up() && is_replaced && !self.is_refused())
    }

    /// Returns why the listener serves with an earlier configuration, certificate or program.
    pub(crate) fn kept(&self) -> Option<String> {
        let name = &self.participant.name;
        let refusal = self.refused.as_ref().filter(|_| self.state.is_up() && self.is_refused());
        if let Some(Refusal { why, .. }) = refusal {
            return Some(format!(
                "unable to replace the listener of '{name}' by a newer one: {why}; the previous process keeps running; \
                 correct the cause, then run 'palabre restart {name}'"
            ));
        }
        let report = self.report.as_ref().filter(|report| report.certificate_refused);
        let certificate = |why: &str| {
            format!(
                "unable to use the renewed certificate in the listener of '{name}': {why}; the listener keeps the previous certificate"
            )
        };
        match report {
            Some(report) if report.certificate_fault.is_empty() => Some(certificate("see the listener's log")),
            Some(report) => Some(certificate(&report.certificate_fault)),
            None if self.renewal.has_timed_out => Some(certificate("the listener does not answer")),
            None => self.unmoved.clone(),
        }
    }

    /// Whether the last successor, with the present configuration, could not be started.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.as_ref().is_some_and(|refusal| refusal.generation == self.wanted)
    }

    /// Whether the listener was started with earlier settings than the present ones.
    pub(crate) fn is_behind(&self, config: &Config) -> bool {
        self.current.as_ref().is_some_and(|process| process.settings != Some(config.settings))
    }
}
