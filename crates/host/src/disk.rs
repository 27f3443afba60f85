//! The free and total space of a file system: statvfs(3).

use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// The free and total space of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Space that this user may still use.
    pub free_bytes: u64,
    /// Size of the file system.
    pub total_bytes: u64,
}

/// Returns the free and total space of the file system that contains `path`.
pub fn space(path: &Path) -> io::Result<Space> {
    let found = statvfs(path)?;
    let block_bytes = found.fragment_size();
    Ok(Space { free_bytes: found.blocks_available() * block_bytes, total_bytes: found.blocks() * block_bytes })
}
