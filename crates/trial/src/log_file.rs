//! The log of a trial: every line of the daemons goes to one file, warnings and errors also to standard error.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Maximum length of a log line in bytes. Longer lines are split.
const MAX_LINE_BYTES: u64 = 4096;

/// The log file of a trial. Clones of this value write to the same file.
#[derive(Clone)]
pub(crate) struct LogFile {
    file: Arc<File>,
    /// If true, all lines are copied to standard error, otherwise only warnings and errors. If `quiet` is true, no line is copied.
    verbose: bool,
    quiet: Arc<AtomicBool>,
}

impl LogFile {
    /// Opens the log file at `path` for appending.
    pub(crate) fn open(path: &Path, verbose: bool) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self { file: Arc::new(file), verbose, quiet: Arc::default() })
    }

    /// Stops copying lines to standard error. Lines that the daemons log while they end are only written to the file.
    pub(crate) fn silence(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }

    /// Starts a thread that reads lines from `from` and logs them, until `from` ends.
    pub(crate) fn follow(&self, from: impl Read + Send + 'static) -> io::Result<()> {
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
            // Errors are ignored: neither a full disk nor a closed terminal may end the trial.
            let _ = (&*self.file).write_all(&line);
            if !self.quiet.load(Ordering::Relaxed) && (self.verbose || is_warning_or_error(&line)) {
                let _ = io::stderr().write_all(&line);
            }
            line.clear();
        }
    }
}

/// Returns false if the line has the form `PROGRAM: LEVEL: …` with level info, debug or trace. A line in another form, such as a panic,
/// counts as an error.
fn is_warning_or_error(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    let text = line.split_once(": ").map_or(&*line, |(_program, text)| text);
    !["info: ", "debug: ", "trace: "].iter().any(|level| text.starts_with(level))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn warnings_and_errors_are_told_from_information() {
        assert!(is_warning_or_error(b"palabre-mixer: warning: a slow reader\n"));
        assert!(is_warning_or_error(b"palabre-listener[alice]: unable to open 'x': gone\n"));
        assert!(is_warning_or_error(b"thread 'main' panicked\n"));
        assert!(!is_warning_or_error(b"palabre-listener[alice]: info: a page came\n"));
    }

    #[test]
    fn every_line_is_kept_and_a_long_one_is_split() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let long = [b'x'; MAX_LINE_BYTES as usize + 1];
        let log = LogFile::open(&path, false).unwrap();
        log.silence();
        log.copy([&b"p: info: one\n"[..], &long].concat().as_slice());
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(kept.lines().map(str::len).collect::<Vec<_>>(), [12, MAX_LINE_BYTES as usize, 1]);
    }
}
