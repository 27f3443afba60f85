//! Chromium windows for `palabre try --open`, each with its own profile. They accept the trial's certificate, by the hash of its public key.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use palabre_host::{executable, process};

/// Names of the Chromium program on different systems.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// Maximum time for all windows to close. Windows that are still open are then killed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// The browser and its open windows.
pub(crate) struct Browser {
    program: PathBuf,
    profiles: PathBuf,
    /// SHA-256 of the certificate's public key, in base64.
    pin: String,
    windows: Vec<(String, Child)>,
}

impl Browser {
    /// Finds the first Chromium in PATH. The profiles of its windows will be in the directory `profiles`.
    pub(crate) fn find(profiles: &Path, pin: &str) -> Option<Self> {
        let program = NAMES.iter().find_map(|name| executable::find_in_path(name))?;
        Some(Self { program, profiles: profiles.to_owned(), pin: pin.to_owned(), windows: Vec::new() })
    }

    /// Opens `link` in a new window, with the profile of participant `name`.
    pub(crate) fn open(&mut self, name: &str, link: &str) -> io::Result<()> {
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

    /// Reaps the processes of closed windows, and warns about each window that failed.
    pub(crate) fn reap(&mut self) {
        self.windows.retain_mut(|(name, window)| match window.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) if !status.success() => {
                let program = self.program.display();
                log::warn!("the browser window of '{name}' failed ({status}); run '{program}' to see why, or open the link yourself");
                false
            }
            _ => false,
        });
    }
}

/// Closes the windows. They must end before the trial's directory, which contains their profiles, is removed.
impl Drop for Browser {
    fn drop(&mut self) {
        for (_, window) in &self.windows {
            let _ = process::terminate(window);
        }
        let deadline = Instant::now() + CLOSE_TIMEOUT;
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
