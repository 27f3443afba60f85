//! Commands with several names: a failure for one name doesn't keep the command from acting on the others.

use std::fmt::Display;

use palabre_host::exit::Failure;
use palabre_room::Name;

/// Collects the outcome for each name of a command.
#[derive(Debug)]
pub(crate) struct Each {
    count: usize,
    failed: Vec<(String, Failure)>,
}

impl Each {
    /// Starts a series of `count` names.
    pub(crate) fn of(count: usize) -> Self {
        Self { count, failed: Vec::new() }
    }

    /// Performs `act` for each name, and returns the outcome of all.
    pub(crate) fn run(names: &[Name], mut act: impl FnMut(&Name) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut each = Self::of(names.len());
        for name in names {
            each.note(name, act(name));
        }
        each.end()
    }

    /// Notes the outcome for a name. If there are several names, prints a failure at once; a failure with the same text as an earlier one,
    /// for example that no supervisor runs, is printed once.
    pub(crate) fn note(&mut self, name: impl Display, outcome: Result<(), Failure>) {
        let Err(failure) = outcome else { return };
        if self.count > 1 && self.failed.iter().all(|(_, earlier)| *earlier != failure) {
            eprintln!("palabre: {failure}");
        }
        self.failed.push((name.to_string(), failure));
    }

    /// Returns the failures so far, with their names.
    pub(crate) fn failed(&self) -> &[(String, Failure)] {
        &self.failed
    }

    /// Returns an error if a name failed: for a command with one name its failure, otherwise a failure that lists the names.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        match (self.count, self.failed.pop()) {
            (_, None) => Ok(()),
            (0 | 1, Some((_, failure))) => Err(failure),
            (count, Some(last)) => {
                self.failed.push(last);
                let names: Vec<&str> = self.failed.iter().map(|(name, _)| name.as_str()).collect();
                Err(Failure::refused(format!("{} of {count} failed: {}", names.len(), names.join(", "))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(outcomes: &[(&str, Result<(), Failure>)]) -> Result<(), Failure> {
        let mut each = Each::of(outcomes.len());
        for (name, outcome) in outcomes {
            each.note(name, outcome.clone());
        }
        each.end()
    }

    #[test]
    fn one_name_keeps_its_failure_and_several_names_are_listed() {
        let down = || Err(Failure::system("no supervisor"));
        assert_eq!(outcome(&[("alice", Ok(()))]), Ok(()));
        assert_eq!(outcome(&[("alice", down())]), down());
        let some = [("alice", Ok(())), ("bob", down()), ("carol", Err(Failure::config("bad file")))];
        assert_eq!(outcome(&some), Err(Failure::refused("2 of 3 failed: bob, carol")));
    }
}
