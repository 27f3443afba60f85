//! The replacement of the launcher's program by a newer file. The listeners stay children of this process.

use std::io;

use palabre_host::inherit::Legacy;
use palabre_host::packet::Packet;
use palabre_host::program::Program;
use palabre_host::stamp::FileStamp;

/// Name of the connection to the supervisor that the next program inherits.
pub(crate) const LINK: &str = "+supervisor";

/// The running program.
pub(crate) struct Renewal {
    program: Program,
    /// Stamp of the running program's file.
    stamp: Option<FileStamp>,
}

impl Renewal {
    /// Returns the running program. Call this function early, for the reason that [`Program::this`] gives.
    pub(crate) fn new() -> io::Result<Self> {
        let program = Program::this()?;
        Ok(Self { stamp: FileStamp::of(program.path()), program })
    }

    /// Replaces this program if its file was replaced. The next program inherits the connection to the supervisor, if there is one.
    pub(crate) fn replace(&self, link: Option<&Packet>) {
        if FileStamp::of(self.program.path()) == self.stamp {
            return;
        }
        let path = self.program.path().display();
        log::info!("replacing this process by '{path}'");
        let replaced = Legacy::new(b"").and_then(|mut legacy| {
            link.map_or(Ok(()), |link| legacy.leave(LINK, link))?;
            Err::<(), _>(self.program.replace(&legacy.environment()))
        });
        if let Err(error) = replaced {
            log::error!("unable to execute '{path}': {error}; the launcher keeps the running program");
        }
    }
}
