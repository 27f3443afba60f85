//! Runs a PulseAudio server for one browser.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::suite::TIMEOUT;
use crate::wait::wait_for;

/// Sample rate of the sound cards.
pub const OUTPUT_HZ: u32 = 48_000;

/// Name of the sound card that is the default.
pub const FIRST_CARD: &str = "first";

/// Name of the sound card that is not the default, also in the browser's list of loudspeakers.
pub const SECOND_CARD: &str = "second";

/// Name of the microphone, which records what the default sound card plays.
const MICROPHONE: &str = "loudspeaker";

/// A PulseAudio server with two null sinks.
#[derive(Debug)]
pub(crate) struct Sound {
    child: Child,
    dir: tempfile::TempDir,
    /// The program that plays the voice for the microphone, if there is a voice.
    voice: Option<Child>,
}

impl Sound {
    pub(crate) fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("palabre-sound-").tempdir()?;
        let socket = dir.path().join("socket");
        let child = Command::new("pulseaudio")
            .args(["--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disallow-exit", "-n"])
            .args([FIRST_CARD, SECOND_CARD].iter().flat_map(|card| ["-L".to_owned(), null_sink(card)]))
            // Make a source from the monitor, because browsers don't list monitors as microphones.
            .arg("-L")
            .arg(format!("module-remap-source master={FIRST_CARD}.monitor source_name={MICROPHONE}"))
            .arg("-L")
            .arg(format!("module-native-protocol-unix auth-anonymous=1 socket={}", socket.display()))
            .env("XDG_RUNTIME_DIR", dir.path())
            .env("HOME", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("unable to start 'pulseaudio'; install Debian's pulseaudio")?;
        let sound = Self { child, dir, voice: None };
        wait_for("PulseAudio", TIMEOUT, || Path::new(&socket).exists().then_some(()))?;
        Ok(sound)
    }

    /// Starts a server whose microphone hears this WAV in a loop.
    pub(crate) fn with_voice(voice: &Path) -> Result<Self> {
        let mut sound = Self::start()?;
        let player = Command::new("ffmpeg")
            .args(["-loglevel", "quiet", "-re", "-stream_loop", "-1", "-i"])
            .arg(voice)
            .args(["-f", "pulse", "-device", FIRST_CARD, "voice"])
            .env("PULSE_SERVER", sound.server())
            .stdin(Stdio::null())
            .spawn()
            .context("unable to start 'ffmpeg'; install Debian's ffmpeg")?;
        sound.voice = Some(player);
        Ok(sound)
    }

    /// Mutes or unmutes the microphone, as the settings of a desktop do.
    pub(crate) fn mute_microphone(&self, muted: bool) -> Result<()> {
        self.pactl(&["set-source-mute", MICROPHONE, if muted { "1" } else { "0" }])
    }

    fn pactl(&self, arguments: &[&str]) -> Result<()> {
        let status = Command::new("pactl")
            .args(arguments)
            .env("PULSE_SERVER", self.server())
            .status()
            .context("unable to start 'pactl'; install Debian's pulseaudio-utils")?;
        ensure!(status.success(), "pactl ended with {status}");
        Ok(())
    }

    /// Makes the microphone deliver only zeros, as a device that has died, or its sound again. Browsers get no event.
    pub(crate) fn set_microphone_dead(&self, is_dead: bool) -> Result<()> {
        let listed = Command::new("pactl")
            .args(["list", "short", "source-outputs"])
            .env("PULSE_SERVER", self.server())
            .output()
            .context("unable to start 'pactl'; install Debian's pulseaudio-utils")?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let own = listed.lines().find(|line| line.contains("module-remap-source"));
        let index = own.and_then(|line| line.split('\t').next()).context("the microphone has no source")?;
        let card = if is_dead { SECOND_CARD } else { FIRST_CARD };
        self.pactl(&["move-source-output", index, &format!("{card}.monitor")])
    }

    /// Returns the directory for a browser's `XDG_RUNTIME_DIR`.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the address for the variable `PULSE_SERVER`.
    pub(crate) fn server(&self) -> String {
        format!("unix:{}", self.dir.path().join("socket").display())
    }
}

/// Returns the PulseAudio module line of a null sink. The first null sink that is loaded is the default.
fn null_sink(card: &str) -> String {
    format!("module-null-sink sink_name={card} rate={OUTPUT_HZ} sink_properties=device.description={card}")
}

impl Drop for Sound {
    fn drop(&mut self) {
        if let Some(voice) = &mut self.voice {
            let _ = voice.kill();
            let _ = voice.wait();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
