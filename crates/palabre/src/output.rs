//! Writes to standard output. If the reader closes the pipe early, as in `palabre status --json | head -1`, this is not an error.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use palabre_host::exit::Failure;
use serde_json::Value;

use crate::table;

/// Writes `bytes` to standard output.
pub(crate) fn print(bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::system(format!("unable to write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a JSON value to standard output, indented.
pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    print(serde_json::to_string_pretty(value).map_err(Failure::system)? + "\n")
}

/// Writes a table to standard output.
pub(crate) fn print_table<const N: usize>(rows: &[[String; N]]) -> Result<(), Failure> {
    print(table::lines(rows).iter().map(|line| format!("{line}\n")).collect::<String>())
}

/// Replaces the file at `path` atomically. If `path` is a symbolic link, replaces the target of the link. If the write fails, the previous file is
/// unchanged.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        check_target(&path)?;
        let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.persist(&path)?;
        Ok(())
    };
    write().map_err(|error: io::Error| Failure::system(format!("unable to write '{}': {error}", path.display())))
}

/// Returns an error if a device, a pipe or a directory is at `path`. Replacing a file would remove it.
pub(crate) fn check_target(path: &Path) -> io::Result<()> {
    match path.exists() && !path.is_file() {
        true => Err(io::Error::other("the path exists and is not a regular file; give the path of a file")),
        false => Ok(()),
    }
}

/// Formats a size: `5.0 MiB`, `1.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 { format!("{mib:.1} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}

/// Quotes a path for the shell if necessary.
pub(crate) fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
