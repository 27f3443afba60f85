//! Drives a real Firefox by WebDriver BiDi: JSON commands over a WebSocket. This needs no geckodriver, which Debian doesn't package.
//!
//! Without a sound card Firefox never runs an AudioContext, so each browser gets two PulseAudio null sinks. An analyser measures the sound that
//! the page connects to its AudioContext's destination. Sound for a chosen loudspeaker bypasses the destination; it is recorded from the null sink.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::keyboard::Page;
use crate::media_keys::MediaKeys;
use crate::pulse::Sound;
pub use crate::pulse::{FIRST_CARD, OUTPUT_HZ, SECOND_CARD};
use crate::suite::{TIMEOUT, descendants};
use crate::wait::wait_for;

/// Preferences that grant the microphone and refuse notifications without a prompt, and turn off Firefox's own network traffic.
const PREFERENCES: &str = r#"
user_pref("media.navigator.permission.disabled", true);
user_pref("permissions.default.desktop-notification", 2);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("browser.startup.page", 0);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
"#;

const ANALYSER: &str = r"() => {
  // Do nothing on a second run: after a reload Firefox may run this script a second time, seconds after the page connected its sound.
  if (window.top !== window || window.heardDbfs) return;
  const analysers = [];
  const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (target, ...rest) {
    if (target === this.context.destination) {
      const analyser = new AnalyserNode(this.context, { fftSize: 32768 });
      connect.call(this, analyser);
      analysers.push(analyser);
    }
    return connect.call(this, target, ...rest);
  };
  window.heardDbfs = (hz) => Math.max(-200, ...analysers.filter((a) => a.context.state === 'running').map((a) => {
    const samples = new Float32Array(a.fftSize);
    a.getFloatTimeDomainData(samples);
    let [re, im] = [0, 0];
    samples.forEach((x, i) => {
      const share = x * (1 - Math.cos((2 * Math.PI * i) / samples.length));
      re += share * Math.cos((2 * Math.PI * hz * i) / a.context.sampleRate);
      im += share * Math.sin((2 * Math.PI * hz * i) / a.context.sampleRate);
    });
    return 20 * Math.log10((Math.SQRT2 * Math.hypot(re, im)) / samples.length + 1e-9);
  }));
}";

/// One Firefox with one page.
#[derive(Debug)]
pub struct Firefox {
    socket: RefCell<WebSocket<TcpStream>>,
    next: Cell<u64>,
    context: String,
    child: Child,
    sound: Sound,
    media_keys: MediaKeys,
    _profile: tempfile::TempDir,
}

impl Firefox {
    /// Starts a Firefox in this language, with a tone as microphone.
    pub fn start(language: &str) -> Result<Self> {
        Self::launch(language, true)
    }

    /// Starts a Firefox whose microphone records what it plays.
    pub fn with_own_microphone(language: &str) -> Result<Self> {
        Self::launch(language, false)
    }

    fn launch(language: &str, fake: bool) -> Result<Self> {
        let profile = tempfile::Builder::new().prefix("palabre-firefox-").tempdir()?;
        let languages = format!(
            "user_pref(\"intl.accept_languages\", \"{language}\");\nuser_pref(\"media.navigator.streams.fake\", {fake});\n"
        );
        std::fs::write(profile.path().join("user.js"), format!("{PREFERENCES}{languages}"))?;
        let sound = Sound::start()?;
        let media_keys = MediaKeys::start()?;
        let mut child = Command::new("firefox-esr")
            .args(["--headless", "--no-remote", "--remote-debugging-port", "0", "--profile"])
            .arg(profile.path())
            .env("HOME", profile.path())
            .env("XDG_RUNTIME_DIR", sound.dir())
            .env("PULSE_SERVER", sound.server())
            .env("DBUS_SESSION_BUS_ADDRESS", &media_keys.bus)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("unable to start 'firefox-esr'; install Debian's firefox-esr")?;
        let socket = match connect(&mut child) {
            Ok(socket) => RefCell::new(socket),
            Err(error) => {
                let status = child.try_wait();
                end(&mut child);
                return Err(error.context(format!("the state of Firefox is {status:?}")));
            }
        };
        let mut firefox =
            Self { socket, next: Cell::new(1), context: String::new(), child, sound, media_keys, _profile: profile };
        firefox
            .command("session.new", &json!({ "capabilities": { "alwaysMatch": { "acceptInsecureCerts": true } } }))?;
        // Keys work only in the window that has the focus, so open a new window and close the first one.
        let first = firefox.command("browsingContext.getTree", &json!({}))?["contexts"][0]["context"].clone();
        let window = firefox.command("browsingContext.create", &json!({ "type": "window" }))?;
        window["context"]
            .as_str()
            .context("Firefox's answer to browsingContext.create names no window")?
            .clone_into(&mut firefox.context);
        firefox.command("browsingContext.close", &json!({ "context": first }))?;
        firefox.command("browsingContext.activate", &json!({ "context": firefox.context }))?;
        firefox.command("script.addPreloadScript", &json!({ "functionDeclaration": ANALYSER }))?;
        Ok(firefox)
    }

    /// Returns the process ID of Firefox's first process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Opens an address. Doesn't wait for the page.
    pub fn open(&self, url: &str) -> Result<()> {
        self.command("browsingContext.navigate", &json!({ "context": self.context, "url": url, "wait": "none" }))
            .map(drop)
    }

    /// Reloads the page. Doesn't wait for it.
    pub fn reload(&self) -> Result<()> {
        self.command("browsingContext.reload", &json!({ "context": self.context, "wait": "none" })).map(drop)
    }

    /// Runs a script in the page and returns its result.
    pub fn run(&self, script: &str) -> Result<Value> {
        let expression = format!("JSON.stringify((() => {{ {script} }})() ?? null)");
        let target = json!({ "context": self.context });
        let parameters = json!({ "expression": expression, "target": target, "awaitPromise": false });
        let answer = self
            .command("script.evaluate", &parameters)
            .with_context(|| format!("unable to run the script in the page: {script}"))?;
        let text = answer["result"]["value"]
            .as_str()
            .with_context(|| format!("the script '{script}' returned no text: {answer}"))?;
        Ok(serde_json::from_str(text)?)
    }

    /// Waits until a JavaScript expression is true in the page.
    pub fn wait_until(&self, expression: &str) -> Result<()> {
        let script = format!("return Boolean({expression})");
        let mut last = Ok(Value::Null);
        let asked = || {
            last = self.run(&script);
            matches!(last, Ok(Value::Bool(true))).then_some(())
        };
        let waited = wait_for(expression, TIMEOUT, asked);
        waited.with_context(|| {
            let state = self.run("return [document.activeElement?.outerHTML.slice(0, 200), window.palabreState ?? null, document.body?.innerText]");
            format!("last result: {last:?}; the page: {state:?}")
        })
    }

    /// Clicks the element of a CSS selector.
    pub fn click(&self, selector: &str) -> Result<()> {
        let place = self.run(&format!(
            "const element = document.querySelector('{selector}');
             element.scrollIntoView({{ block: 'nearest' }});
             const box = element.getBoundingClientRect();
             return [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)];"
        ))?;
        let actions = json!([
            { "type": "pointerMove", "x": place[0], "y": place[1] },
            { "type": "pointerDown", "button": 0 },
            { "type": "pointerUp", "button": 0 },
        ]);
        let mouse = json!([{ "type": "pointer", "id": "mouse", "actions": actions }]);
        self.command("input.performActions", &json!({ "context": self.context, "actions": mouse })).map(drop)
    }

    /// Presses a key of a headset, `Play` or `Pause`, as the desktop passes it to the browser.
    pub fn press_media_key(&self, key: &str) -> Result<()> {
        self.media_keys.press(key)
    }

    /// Chooses a loudspeaker in the settings: by name, or the browser's default.
    pub fn choose_loudspeaker(&self, name: Option<&str>) -> Result<()> {
        let wanted = name.map_or("value === ''".to_owned(), |name| format!("textContent === '{name}'"));
        let option = format!("[...document.getElementById('output').options].find((option) => option.{wanted})");
        self.click("#settings-open")?;
        self.wait_until(&option)?;
        self.run(&format!(
            "const select = document.getElementById('output');
             select.value = {option}.value;
             select.dispatchEvent(new Event('change'));"
        ))?;
        self.click("#settings-close")
    }

    /// Starts to record the sound that is played to this sound card: mono, at [`OUTPUT_HZ`].
    pub fn record_output(&self, card: &str) -> Result<OutputRecording> {
        let file = tempfile::NamedTempFile::new()?;
        let child = Command::new("parec")
            .args(["--format=s16le", "--channels=1", "--latency-msec=200"])
            .args([format!("--device={card}.monitor"), format!("--rate={OUTPUT_HZ}")])
            .env("PULSE_SERVER", self.sound.server())
            .stdin(Stdio::null())
            .stdout(file.reopen()?)
            .stderr(Stdio::null())
            .spawn()
            .context("unable to start 'parec'; install Debian's pulseaudio-utils")?;
        let recording = OutputRecording { child, file };
        let begun = || recording.file.as_file().metadata().ok().filter(|data| data.len() > 0);
        wait_for("the recording of the sound card", TIMEOUT, begun)?;
        Ok(recording)
    }

    /// Sends a command of WebDriver BiDi and returns its result.
    fn command(&self, method: &str, parameters: &Value) -> Result<Value> {
        let id = self.next.replace(self.next.get() + 1);
        let mut socket = self.socket.borrow_mut();
        socket.send(Message::text(json!({ "id": id, "method": method, "params": parameters }).to_string()))?;
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            let Some(answer) =
                read(&mut socket).with_context(|| format!("unable to read Firefox's response to {method}"))?
            else {
                continue;
            };
            match (answer["id"].as_u64() == Some(id), answer["type"].as_str()) {
                (true, Some("success")) if answer["result"]["type"] == "exception" => {
                    bail!("{method}: {}", answer["result"]["exceptionDetails"]["text"])
                }
                (true, Some("success")) => return Ok(answer["result"].clone()),
                (true, _) => bail!("{method}: {}: {}", answer["error"], answer["message"]),
                _ => {}
            }
        }
        bail!("Firefox did not respond to {method} in time")
    }
}

/// A recording of a sound card that is in progress.
#[derive(Debug)]
pub struct OutputRecording {
    child: Child,
    file: tempfile::NamedTempFile,
}

impl OutputRecording {
    /// Returns the number of recorded samples.
    pub fn frames(&self) -> Result<usize> {
        Ok(self.file.as_file().metadata()?.len() as usize / 2)
    }

    /// Stops the recording and returns its samples.
    pub fn stop(self) -> Result<Vec<i16>> {
        let bytes = std::fs::read(self.file.path())?;
        Ok(bytes.as_chunks::<2>().0.iter().map(|&pair| i16::from_le_bytes(pair)).collect())
    }
}

impl Drop for OutputRecording {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the next message, if one arrives within a second.
fn read(socket: &mut WebSocket<TcpStream>) -> Result<Option<Value>> {
    match socket.read() {
        Ok(Message::Text(text)) => Ok(Some(serde_json::from_str(&text)?)),
        Ok(_) => Ok(None),
        Err(tungstenite::Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

impl Page for Firefox {
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
        let pressed = down.chars().map(|key| json!({ "type": "keyDown", "value": key }));
        let released = up.chars().map(|key| json!({ "type": "keyUp", "value": key }));
        let actions: Vec<_> = pressed.chain(released).collect();
        let keyboard = json!([{ "type": "key", "id": "keyboard", "actions": actions }]);
        self.command("input.performActions", &json!({ "context": self.context, "actions": keyboard })).map(drop)
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    let rest = descendants(child.id());
    let _ = child.kill();
    let _ = child.wait();
    for pid in rest {
        let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
    }
}

/// Connects to the address that Firefox prints on standard error.
fn connect(child: &mut Child) -> Result<WebSocket<TcpStream>> {
    let mut output = BufReader::new(child.stderr.take().context("Firefox has no standard error")?);
    let mut printed = String::new();
    let address = loop {
        let start = printed.len();
        if output.read_line(&mut printed)? == 0 {
            bail!("Firefox ended without printing its address: {printed}");
        }
        if let Some((_, address)) =
            printed.get(start..).unwrap_or_default().split_once("WebDriver BiDi listening on ws://")
        {
            break address.trim().to_owned();
        }
    };
    // Read and discard Firefox's further output, because Firefox must not block on a full pipe.
    std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    let tcp = TcpStream::connect(&address)?;
    tcp.set_read_timeout(Some(Duration::from_secs(1)))?;
    tcp.set_write_timeout(Some(Duration::from_secs(20)))?;
    Ok(tungstenite::client(format!("ws://{address}/session"), tcp)?.0)
}
