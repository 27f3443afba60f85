//! Chromium windows for `palabre try --open`: a profile of its own for each, trusting one certificate's key and no other.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use palabre_host::{executable, process};

/// What the browser is called on one system or another.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// How long a window may take to close.
const PATIENCE: Duration = Duration::from_secs(3);

/// The browser that opens the links.
pub struct Browser {
    program: PathBuf,
    profiles: PathBuf,
    /// SHA-256 of the certificate's public key, in base64: the only one that is trusted without asking.
    pin: String,
    windows: Vec<(String, Child)>,
}

impl Browser {
    /// The first Chromium in the PATH, which will keep its profiles in `profiles`; `None` if there is none.
    #[must_use]
    pub fn find(profiles: &Path, pin: &str) -> Option<Self> {
        let program = NAMES.iter().find_map(|name| executable::find_in_path(name))?;
        Some(Self { program, profiles: profiles.to_owned(), pin: pin.to_owned(), windows: Vec::new() })
    }

    /// Opens `link` in a window with the profile of `name`.
    ///
    /// # Errors
    /// The browser can't be started.
    pub fn open(&mut self, name: &str, link: &str) -> io::Result<()> {
        let window = Command::new(&self.program)
            .arg(format!("--user-data-dir={}", self.profiles.join(name).display()))
            .arg(format!("--ignore-certificate-errors-spki-list={}", self.pin))
            .args(["--no-first-run", "--no-default-browser-check"])
            .arg(format!("--app={link}"))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.windows.push((name.to_owned(), window));
        Ok(())
    }

    /// Says which windows have ended by a failure instead of being closed, and forgets them all.
    pub fn look_after(&mut self) {
        self.windows.retain_mut(|(name, window)| match window.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) if !status.success() => {
                let program = self.program.display();
                log::warn!(
                    "the window of {name} ended ({status}); open the link yourself, or see what '{program}' says"
                );
                false
            }
            _ => false,
        });
    }
}

/// The profiles go away with the directory, so the windows must have closed before.
impl Drop for Browser {
    fn drop(&mut self) {
        for (_, window) in &self.windows {
            let _ = process::terminate(window);
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.windows.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            self.windows.retain_mut(|(_, window)| matches!(window.try_wait(), Ok(None)));
        }
        for (_, window) in &mut self.windows {
            let _ = window.kill();
            let _ = window.wait();
        }
    }
}
