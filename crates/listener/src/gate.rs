//! How many connections there are at once, and how many of them by strangers.
//!
//! A stranger is a connection that has not shown the key yet. Strangers get half of the places at most, so however many
//! come, the participant's own page finds one. When there is no place the newest is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The places.
#[derive(Debug)]
pub struct Gate {
    max: usize,
    all: AtomicUsize,
    strangers: AtomicUsize,
    busy: AtomicUsize,
}

impl Gate {
    /// A gate with `max` places.
    pub fn new(max: usize) -> Arc<Self> {
        let zero = || AtomicUsize::new(0);
        Arc::new(Self { max: max.max(2), all: zero(), strangers: zero(), busy: zero() })
    }

    /// A place for a stranger, if there is one. Only the accepting thread calls this.
    pub fn enter(self: &Arc<Self>) -> Option<Place> {
        if self.all.load(Ordering::Acquire) >= self.max || self.strangers.load(Ordering::Acquire) >= self.max / 2 {
            return None;
        }
        self.all.fetch_add(1, Ordering::AcqRel);
        self.strangers.fetch_add(1, Ordering::AcqRel);
        Some(Place { gate: Arc::clone(self), is_stranger: true })
    }

    /// How many connections are in the middle of a request.
    pub fn busy(&self) -> usize {
        self.busy.load(Ordering::Acquire)
    }
}

/// A connection's place; dropping it frees it.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    is_stranger: bool,
}

impl Place {
    /// The connection has shown the key.
    pub fn proven(&mut self) {
        if std::mem::take(&mut self.is_stranger) {
            self.gate.strangers.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Whether it has not.
    pub fn is_stranger(&self) -> bool {
        self.is_stranger
    }

    /// The connection is in the middle of a request as long as this exists.
    pub fn busy(&self) -> Busy {
        self.gate.busy.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(&self.gate))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.proven();
        self.gate.all.fetch_sub(1, Ordering::AcqRel);
    }
}

/// See [`Place::busy`].
#[derive(Debug)]
pub struct Busy(Arc<Gate>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn strangers_get_half_of_the_places_and_the_proven_all() {
        let gate = Gate::new(4);
        let mut first = gate.enter().unwrap();
        let second = gate.enter().unwrap();
        assert!(gate.enter().is_none());
        first.proven();
        first.proven();
        let mut third = gate.enter().unwrap();
        third.proven();
        let fourth = gate.enter().unwrap();
        drop(second);
        let mut fifth = gate.enter().unwrap();
        fifth.proven();
        assert!(gate.enter().is_none(), "four are in");
        drop((first, third, fourth, fifth));
        assert!(gate.enter().is_some());
    }

    #[test]
    fn a_request_in_progress_is_counted() {
        let gate = Gate::new(4);
        let place = gate.enter().unwrap();
        let busy = place.busy();
        assert_eq!(gate.busy(), 1);
        drop(busy);
        assert_eq!(gate.busy(), 0);
    }
}
