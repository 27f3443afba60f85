//! Waits for descriptors with epoll(7). A token identifies each descriptor.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use palabre_host::wait::poll_timeout;

/// Identifies a participant. Numbers are never reused, so a late event can't reach another participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ParticipantId {
    /// Number of the room, from 1.
    pub(crate) room: u32,
    /// Number of the participant, from 1, unique across rooms.
    pub(crate) participant: u32,
}

/// Identifies a polled descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Signals,
    Watcher,
    Timer,
    /// The restart socket or its client is readable.
    Restart,
    /// The file writer's eventfd is readable: the file writer has failures to report.
    FileWriter,
    /// A `mic` pipe is readable.
    Mic(ParticipantId),
    /// The last reader of an `ear` pipe, or of a room's pipe `out` for other machines, has closed the pipe.
    Ear(ParticipantId),
}

impl Token {
    fn to_bits(self) -> u64 {
        let of = |id: ParticipantId, ear: u64| u64::from(id.room) << 32 | u64::from(id.participant) << 1 | ear;
        match self {
            Self::Signals => 0,
            Self::Watcher => 1,
            Self::Timer => 2,
            Self::Restart => 4,
            Self::FileWriter => 3,
            Self::Mic(id) => of(id, 0),
            Self::Ear(id) => of(id, 1),
        }
    }

    fn from_bits(bits: u64) -> Self {
        let id = ParticipantId { room: (bits >> 32) as u32, participant: (bits as u32) >> 1 };
        match bits {
            0 => Self::Signals,
            1 => Self::Watcher,
            2 => Self::Timer,
            3 => Self::FileWriter,
            4 => Self::Restart,
            _ if bits & 1 == 0 => Self::Mic(id),
            _ => Self::Ear(id),
        }
    }
}

/// The events of a descriptor that the poller reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// The descriptor is readable.
    Read,
    /// The other end of the pipe was closed.
    Closed,
}

impl Interest {
    fn event(self, token: Token) -> EpollEvent {
        let flags = match self {
            Self::Read => EpollFlags::EPOLLIN,
            // No flags: EPOLLERR and EPOLLHUP, which are always reported, tell that the other end was closed.
            Self::Closed => EpollFlags::empty(),
        };
        EpollEvent::new(flags, token.to_bits())
    }
}

/// The set of polled descriptors. The kernel removes a descriptor when it is closed.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: Epoll,
}

impl Poller {
    /// Maximum number of events returned by one wait.
    const EVENTS: usize = 1024;

    pub(crate) fn new() -> nix::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)? })
    }

    pub(crate) fn add(&self, fd: impl AsFd, interest: Interest, token: Token) -> io::Result<()> {
        Ok(self.epoll.add(fd, interest.event(token))?)
    }

    pub(crate) fn change(&self, fd: impl AsFd, interest: Interest, token: Token) -> io::Result<()> {
        Ok(self.epoll.modify(fd, &mut interest.event(token))?)
    }

    /// Waits until a descriptor is ready, `timeout` has passed or a signal was handled. Without a timeout it may wait forever.
    pub(crate) fn wait(&self, timeout: Option<Duration>, tokens: &mut Vec<Token>) -> io::Result<()> {
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
    fn tokens_survive_the_conversion_to_bits() {
        let id = |room, participant| ParticipantId { room, participant };
        let mut tokens = vec![Token::Signals, Token::Watcher, Token::Timer, Token::Restart, Token::FileWriter];
        for id in [id(1, 1), id(1, u32::MAX >> 1), id(u32::MAX, 77)] {
            tokens.extend([Token::Mic(id), Token::Ear(id)]);
        }
        for token in tokens {
            assert_eq!(Token::from_bits(token.to_bits()), token);
        }
    }
}
