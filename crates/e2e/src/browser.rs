//! Drives a real Chromium with Debian's chromedriver.
//!
//! Each browser has its own process, profile and fake microphone. To record sound, `tap.js` adds a worklet to every node that the page connects
//! to its `AudioContext`'s destination, and to the microphone.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::keyboard::Page;
use crate::pulse::Sound;
use crate::suite::TIMEOUT;
use crate::wait::{wait_for, wait_with};

const FLAGS: [&str; 15] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--ignore-certificate-errors",
    "--window-size=1280,800",
    "--disable-extensions",
    // Turn off hidden pages and processes of Chromium's own, which take a second of processor time at each start.
    "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup,SpareRendererForSitePerProcess,Glic",
    // A window without tabs: the sign for loading in a tab turns as long as the stream lasts. Kiosk mode would make the background of screenshots wrong.
    "--app=data:,",
    // A host name that the page doesn't recognise as this machine, so that the page chooses the codec by the rate that the line carries.
    "--host-resolver-rules=MAP far.palabre.test 127.0.0.1",
];

/// Interval between two looks at a page. Each look takes time of the processors on which the browsers run.
const INTERVAL: Duration = Duration::from_millis(50);

/// One Chromium with one page.
#[derive(Debug)]
pub struct Browser {
    client: Option<Client>,
    runtime: Runtime,
    driver: Child,
    _output: BufReader<ChildStdout>,
    sound: Option<Sound>,
    _profile: tempfile::TempDir,
}

/// A place where the sound of a page is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tap {
    /// The output of the page's `AudioContext`.
    Output,
    /// The sound that the browser's microphone delivers to the page.
    Microphone,
    /// The chunks of the injected stream.
    Stream,
}

/// When a page sent and received sound.
#[derive(Clone, Debug)]
pub struct Stages {
    /// For each chunk that the page has sent: the age of its first sample in ms when it was sent, and its number of samples.
    pub sent: Vec<(f64, f64)>,
    /// For each chunk that the page has received: the position of its first sample in [`Tap::Stream`], the wall-clock time of its arrival in ms,
    /// and its SEQ.
    pub arrived: Vec<(f64, f64, f64)>,
}

impl Browser {
    /// Starts a Chromium in this language. Its microphone delivers the WAV `voice` in a loop; without `voice`, microphone access is denied.
    pub fn start(voice: Option<&Path>, language: &str) -> Result<Self> {
        Self::launch(fake_microphone(voice), language, None)
    }

    /// Like [`Self::start`], without the page's animations, which take time of the processors.
    pub fn start_without_motion(voice: Option<&Path>, language: &str) -> Result<Self> {
        let flags = [fake_microphone(voice), vec!["--force-prefers-reduced-motion".into()]].concat();
        Self::launch(flags, language, None)
    }

    /// Starts a Chromium with access to the machine's microphone.
    pub fn with_own_microphone(language: &str) -> Result<Self> {
        Self::launch(vec!["--use-fake-ui-for-media-stream".into()], language, None)
    }

    /// Starts a Chromium with a PulseAudio server of its own, whose microphone hears the WAV `voice` in a loop.
    pub fn with_pulse_microphone(voice: &Path, language: &str) -> Result<Self> {
        let sound = Sound::with_voice(voice)?;
        Self::launch(vec!["--use-fake-ui-for-media-stream".into()], language, Some(sound))
    }

    fn launch(flags: Vec<String>, language: &str, sound: Option<Sound>) -> Result<Self> {
        let profile = tempfile::Builder::new().prefix("palabre-chromium-").tempdir()?;
        let (driver, output, port) = start_driver(sound.as_ref())?;
        let mut arguments: Vec<String> = FLAGS.iter().map(ToString::to_string).collect();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        arguments.extend(flags);
        arguments.push(format!("--lang={language}"));
        arguments.push(format!("--accept-lang={language}"));
        let capabilities = json!({
            // Don't wait until a page is loaded: a page with an endless frame never finishes loading.
            "pageLoadStrategy": "none",
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": arguments, "prefs": { "intl.accept_languages": language } },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let Value::Object(capabilities) = capabilities else { bail!("the capabilities are not a JSON object") };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(async {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            builder.capabilities(capabilities).connect(&format!("http://127.0.0.1:{port}")).await
        })?;
        Ok(Self { client: Some(client), runtime, driver, _output: output, sound, _profile: profile })
    }

    /// Opens an address. Doesn't wait for the page.
    pub fn open(&self, url: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.client()?.goto(url))?)
    }

    /// Opens an empty tab. From then on all functions use this tab.
    pub fn new_tab(&self) -> Result<()> {
        let client = self.client()?;
        Ok(self.runtime.block_on(async {
            let tab = client.new_window(true).await?;
            client.switch_to_window(tab.handle).await
        })?)
    }

    /// Shows a tab, counted from 0 in the order of opening. From then on all functions use this tab.
    pub fn show_tab(&self, number: usize) -> Result<()> {
        let client = self.client()?;
        let tabs = self.runtime.block_on(client.windows())?;
        let tab = tabs.into_iter().nth(number).with_context(|| format!("no tab {number}"))?;
        Ok(self.runtime.block_on(client.switch_to_window(tab))?)
    }

    /// Runs a script in each `iframe` of the page and returns the results.
    pub fn run_in_frames(&self, script: &str) -> Result<Vec<Value>> {
        let count = self.run("return document.querySelectorAll('iframe').length")?;
        let count = u16::try_from(count.as_u64().unwrap_or_default())?;
        let client = self.client()?;
        (0..count)
            .map(|number| {
                self.runtime.block_on(client.clone().enter_frame(number))?;
                let result = self.run(script);
                self.runtime.block_on(client.clone().enter_parent_frame())?;
                result
            })
            .collect()
    }

    /// Runs a script in the page and returns its result.
    pub fn run(&self, script: &str) -> Result<Value> {
        let client = self.client()?;
        self.runtime
            .block_on(client.execute(script, vec![]))
            .with_context(|| format!("unable to run the script in the page: {script}"))
    }

    /// Waits until a JavaScript expression is true in the page.
    pub fn wait_until(&self, expression: &str) -> Result<()> {
        let script = format!("return Boolean({expression})");
        let asked = || self.run(&script).ok().filter(|value| value == &Value::Bool(true));
        wait_with(INTERVAL, expression, Duration::from_secs(60), asked).map(drop).with_context(|| {
            let state = self.run("return JSON.stringify(window.palabreState ?? null) + ' ' + document.body?.innerText");
            format!("the page: {}", state.unwrap_or_default())
        })
    }

    /// Clicks the element of a CSS selector.
    pub fn click(&self, selector: &str) -> Result<()> {
        let client = self.client()?;
        self.runtime.block_on(async {
            let element = client.find(fantoccini::Locator::Css(selector)).await?;
            element.click().await
        })?;
        Ok(())
    }

    /// Types text into the element of a CSS selector.
    pub fn type_into(&self, selector: &str, text: &str) -> Result<()> {
        let client = self.client()?;
        self.runtime.block_on(async {
            let element = client.find(fantoccini::Locator::Css(selector)).await?;
            element.send_keys(text).await
        })?;
        Ok(())
    }

    /// Sends a command of the Chrome DevTools Protocol.
    pub fn devtools(&self, command: &str, parameters: Value) -> Result<Value> {
        let client = self.client()?;
        let command = DevTools { command: command.into(), parameters };
        Ok(self.runtime.block_on(client.issue_cmd(command))?)
    }

    /// Returns the console's messages since the last call.
    pub fn console(&self) -> Result<Vec<String>> {
        let lines = self.runtime.block_on(self.client()?.issue_cmd(Log))?;
        let text = |line: &Value| line["message"].as_str().map(ToOwned::to_owned);
        Ok(lines.as_array().into_iter().flatten().filter_map(text).collect())
    }

    /// Writes a screenshot as PNG.
    pub fn screenshot(&self, path: &Path) -> Result<()> {
        let png = self.runtime.block_on(self.client()?.screenshot())?;
        Ok(std::fs::write(path, png)?)
    }

    /// Records the sound of every page that is opened from now on. Disables the page's Content-Security-Policy, which doesn't allow the
    /// worklet that records.
    pub fn tap_sound(&self) -> Result<()> {
        self.devtools("Page.setBypassCSP", json!({ "enabled": true }))?;
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": include_str!("tap.js") }))?;
        Ok(())
    }

    /// Returns how many samples this tap has recorded since the page was opened, and their rate in Hz.
    pub fn tapped(&self, tap: Tap) -> Result<(usize, u32)> {
        let (count, rate_hz) = self.two_numbers(&format!("return window.palabreTap.length({})", tap.name()))?;
        Ok((count, u32::try_from(rate_hz)?))
    }

    /// Waits until more than `samples` were recorded.
    pub fn wait_tapped(&self, tap: Tap, samples: usize) -> Result<()> {
        let seconds = self.tapped(tap).map_or(0, |(_, rate_hz)| samples as u64 / u64::from(rate_hz.max(1)));
        let enough = || self.tapped(tap).ok().filter(|&(count, rate_hz)| rate_hz > 0 && count > samples);
        wait_for("sound in the browser", TIMEOUT + Duration::from_secs(seconds), enough).map(drop)
    }

    /// Turns recording on or off. While it is off, samples are counted but read as silence.
    pub fn tap_keeps(&self, kept: bool) -> Result<()> {
        self.run(&format!("window.palabreTap.keep({kept})")).map(drop)
    }

    /// Returns the recorded samples from `start` on.
    pub fn tap_from(&self, tap: Tap, start: usize) -> Result<Vec<i16>> {
        self.tap_between(tap, start, self.tapped(tap)?.0)
    }

    /// Returns the recorded samples `start..end`. Fetches them in parts, since a busy page disturbs its own sound.
    pub fn tap_between(&self, tap: Tap, start: usize, end: usize) -> Result<Vec<i16>> {
        const PART: usize = 1 << 16;
        let mut samples = Vec::with_capacity(end.saturating_sub(start));
        for from in (start..end).step_by(PART) {
            let to = end.min(from + PART);
            let value = self.run(&format!("return window.palabreTap.base64({}, {from}, {to})", tap.name()))?;
            let bytes = STANDARD.decode(value.as_str().context("the page returned no text for the recording")?)?;
            samples.extend(bytes.as_chunks::<2>().0.iter().map(|&pair| i16::from_le_bytes(pair)));
        }
        Ok(samples)
    }

    /// Returns pairs of a sample, from sample `start` on, and its wall-clock time in ms. The samples are 4800 or a little more apart.
    pub fn tap_times(&self, tap: Tap, start: usize) -> Result<Vec<(f64, f64)>> {
        let value = self.run(&format!("return window.palabreTap.times({}, {start})", tap.name()))?;
        let pair = |pair: &Value| Some((pair[0].as_f64()?, pair[1].as_f64()?));
        Ok(value.as_array().into_iter().flatten().filter_map(pair).collect())
    }

    /// Removes AudioWorklet from every page that is opened from now on.
    pub fn without_worklets(&self) -> Result<()> {
        let source = json!({ "source": "delete window.AudioWorkletNode; delete window.AudioWorklet;" });
        self.devtools("Page.addScriptToEvaluateOnNewDocument", source).map(drop)
    }

    /// Sets the sample rate of the AudioContext of every page that is opened from now on, as a sound card would.
    pub fn with_context_rate(&self, rate_hz: u32) -> Result<()> {
        let source = format!(
            "window.AudioContext = class extends AudioContext {{ constructor(options) {{ super({{ ...options, sampleRate: {rate_hz} }}); }} }};"
        );
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": source })).map(drop)
    }

    /// Returns the number of chunks sent and of chunks received.
    pub fn tap_counts(&self) -> Result<(usize, usize)> {
        self.two_numbers("return window.palabreTap.counts()")
    }

    /// Returns the measured values of each chunk sent and of each chunk received. Leaves out the first `sent` sent chunks and the first `arrived`
    /// received chunks.
    pub fn tap_stages(&self, (sent, arrived): (usize, usize)) -> Result<Stages> {
        let value = self.run(&format!("return window.palabreTap.stages({sent}, {arrived})"))?;
        let rows = |name: &str| value[name].as_array().cloned().unwrap_or_default();
        let number = |row: &Value, at: usize| row[at].as_f64();
        let sent = |row: &Value| Some((number(row, 0)?, number(row, 1)?));
        let arrived = |row: &Value| Some((number(row, 0)?, number(row, 1)?, number(row, 2)?));
        Ok(Stages {
            sent: rows("sent").iter().filter_map(sent).collect(),
            arrived: rows("arrived").iter().filter_map(arrived).collect(),
        })
    }

    /// Mutes or unmutes the microphone of a Chromium that was started by [`Self::with_pulse_microphone`], as the settings of a desktop do.
    pub fn mute_microphone(&self, muted: bool) -> Result<()> {
        self.sound.as_ref().context("this browser has no PulseAudio server")?.mute_microphone(muted)
    }

    /// Makes the microphone of a Chromium that was started by [`Self::with_pulse_microphone`] deliver only zeros, as a device that has died, or its
    /// sound again. Chromium gets no event.
    pub fn set_microphone_dead(&self, is_dead: bool) -> Result<()> {
        self.sound.as_ref().context("this browser has no PulseAudio server")?.set_microphone_dead(is_dead)
    }

    /// Returns the process ID of chromedriver, the ancestor of Chromium's processes.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.driver.id()
    }

    fn two_numbers(&self, script: &str) -> Result<(usize, usize)> {
        let value = self.run(script)?;
        let number = |at: usize| value[at].as_u64().context("the script did not return two numbers");
        Ok((usize::try_from(number(0)?)?, usize::try_from(number(1)?)?))
    }

    fn client(&self) -> Result<&Client> {
        self.client.as_ref().context("the browser was closed before")
    }
}

impl Page for Browser {
    fn run(&self, script: &str) -> Result<Value> {
        self.run(script)
    }

    fn wait_until(&self, expression: &str) -> Result<()> {
        self.wait_until(expression)
    }

    fn click(&self, selector: &str) -> Result<()> {
        self.click(selector)
    }

    fn keys(&self, down: &str, up: &str) -> Result<()> {
        let pressed = down.chars().map(|value| KeyAction::Down { value });
        let released = up.chars().map(|value| KeyAction::Up { value });
        let keys = pressed.chain(released).fold(KeyActions::new("keyboard".into()), KeyActions::then);
        Ok(self.runtime.block_on(self.client()?.perform_actions(keys))?)
    }
}

impl Tap {
    fn name(self) -> &'static str {
        match self {
            Self::Output => "'output'",
            Self::Microphone => "'microphone'",
            Self::Stream => "'stream'",
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            let _ =
                self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), client.close()).await });
        }
        let rest = crate::suite::descendants(self.driver.id());
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        for pid in rest {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
        }
    }
}

/// Returns Chromium's flags for a microphone that delivers this WAV in a loop, or for no access to a microphone.
fn fake_microphone(voice: Option<&Path>) -> Vec<String> {
    let permission = match voice {
        Some(voice) => {
            let file = format!("--use-file-for-fake-audio-capture={}", voice.display());
            vec!["--use-fake-ui-for-media-stream".into(), file]
        }
        None => vec!["--deny-permission-prompts".into()],
    };
    [vec!["--use-fake-device-for-media-stream".into()], permission].concat()
}

/// Starts chromedriver, which prints the port that it chose. It chooses a free port of IPv4, and ends if another process has this port of IPv6. Then
/// this function starts it again.
fn start_driver(sound: Option<&Sound>) -> Result<(Child, BufReader<ChildStdout>, u16)> {
    const MAX_TRIES: usize = 5;
    let mut printed = String::new();
    for _ in 0..MAX_TRIES {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .envs(sound.map(|sound| ("PULSE_SERVER", sound.server())))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("unable to start 'chromedriver'; install Debian's chromium-driver")?;
        let mut output = BufReader::new(driver.stdout.take().context("chromedriver has no standard output")?);
        printed.clear();
        let mut from = 0;
        while output.read_line(&mut printed)? > 0 {
            if let Some((_, port)) = printed[from..].split_once("started successfully on port ") {
                let port = port.trim().trim_end_matches('.').parse()?;
                return Ok((driver, output, port));
            }
            from = printed.len();
        }
        let _ = driver.kill();
        let _ = driver.wait();
        if !printed.contains("port not available") {
            break;
        }
    }
    bail!("chromedriver ended without printing its port: {printed}")
}

#[derive(Debug)]
struct DevTools {
    command: String,
    parameters: Value,
}

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        let body = json!({ "cmd": self.command, "params": self.parameters });
        (http::Method::POST, Some(body.to_string()))
    }
}

#[derive(Debug)]
struct Log;

impl WebDriverCompatibleCommand for Log {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({ "type": "browser" }).to_string()))
    }
}
