//! What the children say: everything into one file, warnings and worse on our own standard error too.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A longer line is cut into pieces.
const MAX_LINE_BYTES: u64 = 4096;

/// The log of all children; clones write into the same file.
#[derive(Clone)]
pub struct LogFile {
    file: Arc<File>,
    /// Whether `info` lines are shown too.
    verbose: bool,
    quiet: Arc<AtomicBool>,
}

impl LogFile {
    /// Opens the log at `path` for appending.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path, verbose: bool) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self { file: Arc::new(file), verbose, quiet: Arc::default() })
    }

    /// From now on nothing is shown: what children say when they are ended is in the file for who is curious.
    pub fn be_quiet(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }

    /// Keeps and shows the lines of `from` until its end, on a thread of its own.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn follow(&self, from: impl Read + Send + 'static) -> io::Result<()> {
        let log = self.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || log.copy(from))?;
        Ok(())
    }

    fn copy(&self, from: impl Read) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while matches!(from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line), Ok(read) if read > 0) {
            if !line.ends_with(b"\n") {
                line.push(b'\n');
            }
            // A full disk must not end the room, nor a closed terminal.
            let _ = (&*self.file).write_all(&line);
            if !self.quiet.load(Ordering::Relaxed) && (self.verbose || is_worth_showing(&line)) {
                let _ = io::stderr().write_all(&line);
            }
            line.clear();
        }
    }
}

/// `palabre-mixer: info: …` isn't, `palabre-mixer: warning: …` and `palabre-mixer: unable to …` are, and so is what
/// is no line of a log at all.
fn is_worth_showing(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    let text = line.split_once(": ").map_or(&*line, |(_program, text)| text);
    !["info: ", "debug: ", "trace: "].iter().any(|word| text.starts_with(word))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn warnings_and_errors_are_shown_and_information_is_not() {
        assert!(is_worth_showing(b"palabre-mixer: warning: a slow reader\n"));
        assert!(is_worth_showing(b"palabre-listener[alice]: unable to open 'x': gone\n"));
        assert!(is_worth_showing(b"thread 'main' panicked\n"));
        assert!(!is_worth_showing(b"palabre-listener[alice]: info: a page came\n"));
    }

    #[test]
    fn every_line_is_kept_and_a_long_one_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let long = [b'x'; MAX_LINE_BYTES as usize + 1];
        let log = LogFile::open(&path, false).unwrap();
        log.be_quiet();
        log.copy([&b"p: info: one\n"[..], &long].concat().as_slice());
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(kept.lines().map(str::len).collect::<Vec<_>>(), [12, MAX_LINE_BYTES as usize, 1]);
    }
}
