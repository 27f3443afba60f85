//! epoll(7), and what each of its tokens means.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use palabre_host::wait::poll_timeout;

/// Which participant; neither number is ever used again, so a late event can't reach somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The room, from 1.
    pub room: u32,
    /// The participant, from 1, in any room.
    pub participant: u32,
}

/// What is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    Signals,
    Watcher,
    Timer,
    /// There is sound in a microphone's pipe.
    Mic(Key),
    /// Nobody reads this ear any more.
    Ear(Key),
}

impl Token {
    fn to_bits(self) -> u64 {
        let of_key = |key: Key, ear: u64| u64::from(key.room) << 32 | u64::from(key.participant) << 1 | ear;
        match self {
            Self::Signals => 0,
            Self::Watcher => 1,
            Self::Timer => 2,
            Self::Mic(key) => of_key(key, 0),
            Self::Ear(key) => of_key(key, 1),
        }
    }

    fn from_bits(bits: u64) -> Self {
        let key = Key { room: (bits >> 32) as u32, participant: (bits as u32) >> 1 };
        match bits {
            0 => Self::Signals,
            1 => Self::Watcher,
            2 => Self::Timer,
            _ if bits & 1 == 0 => Self::Mic(key),
            _ => Self::Ear(key),
        }
    }
}

/// What to be told about a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// That it can be read.
    Read,
    /// Only that the other end is gone.
    Gone,
}

impl Interest {
    fn event(self, token: Token) -> EpollEvent {
        let flags = match self {
            Self::Read => EpollFlags::EPOLLIN,
            // EPOLLERR and EPOLLHUP come unasked.
            Self::Gone => EpollFlags::empty(),
        };
        EpollEvent::new(flags, token.to_bits())
    }
}

/// The set of descriptors that the loop waits for. A closed one leaves it by itself.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
}

impl Poller {
    /// As many events are taken at once.
    const EVENTS: usize = 1024;

    /// # Errors
    /// Those of epoll_create1(2).
    pub fn new() -> nix::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)? })
    }

    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn add(&self, fd: impl AsFd, interest: Interest, token: Token) -> io::Result<()> {
        Ok(self.epoll.add(fd, interest.event(token))?)
    }

    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn change(&self, fd: impl AsFd, interest: Interest, token: Token) -> io::Result<()> {
        Ok(self.epoll.modify(fd, &mut interest.event(token))?)
    }

    /// Waits until something is ready or `timeout` is over (for ever without one); none at all after a signal.
    ///
    /// # Errors
    /// Those of epoll_wait(2) but EINTR.
    pub fn wait(&self, timeout: Option<Duration>, tokens: &mut Vec<Token>) -> io::Result<()> {
        tokens.clear();
        let mut events = [EpollEvent::empty(); Self::EVENTS];
        match self.epoll.wait(&mut events, poll_timeout(timeout)) {
            Ok(n) => tokens.extend(events[..n].iter().map(|event| Token::from_bits(event.data()))),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_comes_back_as_it_was() {
        let key = |room, participant| Key { room, participant };
        let mut tokens = vec![Token::Signals, Token::Watcher, Token::Timer];
        for key in [key(1, 1), key(1, u32::MAX >> 1), key(u32::MAX, 77)] {
            tokens.extend([Token::Mic(key), Token::Ear(key)]);
        }
        for token in tokens {
            assert_eq!(Token::from_bits(token.to_bits()), token);
        }
    }
}
