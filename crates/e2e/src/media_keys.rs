//! Presses media keys as a desktop does: by MPRIS, over a D-Bus of its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::suite::TIMEOUT;
use crate::wait::wait_for;

/// A D-Bus session bus, for one browser.
#[derive(Debug)]
pub(crate) struct MediaKeys {
    child: Child,
    /// The address of the bus, for the variable `DBUS_SESSION_BUS_ADDRESS`.
    pub(crate) bus: String,
}

impl MediaKeys {
    pub(crate) fn start() -> Result<Self> {
        let mut child = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("unable to start 'dbus-daemon'; install Debian's dbus-daemon")?;
        let output = child.stdout.take().context("dbus-daemon has no standard output")?;
        let mut keys = Self { child, bus: String::new() };
        BufReader::new(output).read_line(&mut keys.bus)?;
        keys.bus.truncate(keys.bus.trim_end().len());
        Ok(keys)
    }

    /// Waits until the browser takes media keys, then presses the key `Play` or `Pause`, which is a method of MPRIS.
    pub(crate) fn press(&self, key: &str) -> Result<()> {
        let player = wait_for("the browser to take media keys", TIMEOUT, || {
            let names = self.call("org.freedesktop.DBus", "/", "org.freedesktop.DBus.ListNames").ok()?;
            names.split('"').find(|name| name.starts_with("org.mpris.MediaPlayer2.")).map(ToOwned::to_owned)
        })?;
        self.call(&player, "/org/mpris/MediaPlayer2", &format!("org.mpris.MediaPlayer2.Player.{key}")).map(drop)
    }

    fn call(&self, name: &str, object: &str, method: &str) -> Result<String> {
        let output = Command::new("dbus-send")
            .args([&format!("--bus={}", self.bus), "--print-reply", &format!("--dest={name}"), object, method])
            .output()
            .context("unable to start 'dbus-send'; install Debian's dbus-bin")?;
        if !output.status.success() {
            bail!("{method}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for MediaKeys {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
