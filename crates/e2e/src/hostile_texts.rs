//! Texts with which a participant tries to run a script in the pages of the others (cross-site scripting), and checks that a page shows them as
//! text only.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::elsewhere::Elsewhere;
use crate::keyboard::Page;
use crate::suite::{Suite, TIMEOUT};
use crate::wait::wait_for;

/// One text a line. In a text, `\u{9}` stands for the character with this number, and `EVIL` for the address of another server. Each script sets
/// `window.xss`.
const TEXTS: &str = include_str!("hostile-texts.txt");
/// Maximum length of a message in characters.
const MESSAGE_CHARS: usize = 500;
/// Maximum length of a display name in characters.
const NAME_CHARS: usize = 64;
/// Number of messages that a participant may send at once.
const BURST: usize = 5;
/// Interval between messages to the socket of a listener, which accepts 20 a second from all participants together.
const MESSAGE_INTERVAL: Duration = Duration::from_millis(50);
/// A message and a name that are harmless. The message has a link.
const HARMLESS: &str = "see https://example.org/ and greet Zoé";

/// Collects dialogs and violations of the policy, and lists the elements and attributes of the page.
const WATCH: &str = "
    window.noticed = [];
    const notice = (text) => window.noticed.push(text);
    document.addEventListener('securitypolicyviolation', (e) => notice(`${e.violatedDirective} ${e.blockedURI} ${e.sample}`));
    for (const dialog of ['alert', 'confirm', 'prompt', 'print', 'open']) window[dialog] = () => notice(dialog);
    window.kinds = () => [...new Set([...document.querySelectorAll('*')].flatMap((element) => (
      [element.localName, ...[...element.attributes].map(({ name }) => `${element.localName} ${name}`)])))];
    window.said = () => [...document.querySelectorAll('#message-list .message-text')].map((text) => text.textContent);";

/// Returns the texts, with `address` (`HOST:PORT`) as the other server, and two of the maximum length of a message.
#[must_use]
pub fn texts(address: &str) -> Vec<String> {
    let longest = ["<img src=x onerror=xss=1>", "\u{1f600}\"'>"]
        .map(|text| text.chars().cycle().take(MESSAGE_CHARS).collect::<String>());
    TEXTS.lines().map(|line| unescape(&line.replace("EVIL", address))).chain(longest).collect()
}

/// Replaces `\u{9}` by the character with this number.
fn unescape(line: &str) -> String {
    let mut parts = line.split("\\u{");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_once('}').unwrap_or_default();
        text.extend(u32::from_str_radix(digits, 16).ok().and_then(char::from_u32));
        text.push_str(rest);
    }
    text
}

/// Returns whether a message may contain this text.
fn is_message(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}

/// Returns whether a display name may contain this text.
fn is_name(text: &str) -> bool {
    text.chars().count() <= NAME_CHARS && !text.chars().any(char::is_control)
}

/// A page of p01, in whose room p02 sends hostile texts by every way that reaches a page.
#[derive(Debug)]
pub struct Attacked<'a, P> {
    suite: &'a Suite,
    page: &'a P,
    elsewhere: Elsewhere,
    texts: Vec<String>,
    /// Elements and attributes of the page while it shows harmless texts.
    harmless: BTreeSet<String>,
}

impl<'a, P: Page> Attacked<'a, P> {
    /// Prepares a page that has joined.
    pub fn new(suite: &'a Suite, page: &'a P) -> Result<Self> {
        let elsewhere = Elsewhere::plain("<!doctype html><title>elsewhere</title>")?;
        let texts = texts(&format!("127.0.0.1:{}", elsewhere.port));
        page.run(WATCH)?;
        let mut attacked = Self { suite, page, elsewhere, texts, harmless: BTreeSet::new() };
        attacked.shows_messages(&[HARMLESS.to_owned()])?;
        attacked.shows_names(&vec![HARMLESS.to_owned(); 40])?;
        page.click("#settings-open")?;
        page.wait_until("document.querySelector('#input option')")?;
        attacked.harmless = attacked.kinds()?;
        page.click("#settings-close")?;
        // The page marks an own message while it is not yet sent.
        let marked = page.run(&format!("{} return window.kinds();", write(&json!([HARMLESS]))))?;
        attacked.harmless.extend(strings(&marked));
        Ok(attacked)
    }

    /// Sends the texts by every way, and checks that the page shows them as text only.
    pub fn shows_only_texts(&self) -> Result<()> {
        let messages: Vec<String> = self.texts.iter().filter(|text| is_message(text)).cloned().collect();
        let names: Vec<String> = self.texts.iter().filter(|text| is_name(text)).cloned().collect();
        self.shows_messages(&messages)?;
        self.shows_names(&names)?;
        self.is_unharmed()?;
        let posted = self.shows_posted_messages(&messages)?;
        self.shows_own_messages()?;
        self.is_unharmed()?;
        self.shows_chosen_names()?;
        self.is_unharmed()?;
        self.shows_stored_texts(&posted)?;
        self.is_unharmed()
    }

    /// Checks that no text has become an element or an attribute, no script ran, no dialog opened, and no request went to the other server.
    pub fn is_unharmed(&self) -> Result<()> {
        let found = self.page.run("return [window.xss ?? null, window.noticed]")?;
        ensure!(found == json!([null, []]), "scripts, dialogs, violations of the policy: {found}");
        let mut new: Vec<_> = self.kinds()?.difference(&self.harmless).cloned().collect();
        // Ignore the attribute `hidden`, which the page sets on parts that have nothing to show.
        new.retain(|kind| !kind.ends_with(" hidden"));
        ensure!(new.is_empty(), "the texts became elements or attributes: {new:?}");
        let requests = self.elsewhere.heads();
        ensure!(requests.is_empty(), "requests to the other server: {requests:?}");
        Ok(())
    }

    /// Makes all texts markup of the page, and checks that the policy of the page stops the scripts and requests. The policy stops neither a
    /// navigation nor a connection without a request, so the texts for these are left out.
    pub fn policy_stops_markup(&self) -> Result<()> {
        let markup: Vec<_> =
            self.texts.iter().filter(|text| !text.contains("http-equiv") && !text.contains("preconnect")).collect();
        self.page.run(&as_markup(&json!(markup)))?;
        self.page
            .wait_until("window.noticed.filter((text) => /^(script|img|style|frame)-src/.test(text)).length > 40")?;
        let found = self.page.run("return [window.xss ?? null, window.noticed.includes('alert')]")?;
        ensure!(found == json!([null, false]), "a script ran in spite of the policy: {found}");
        let mut requests = self.elsewhere.heads();
        requests.retain(|head| head.contains(" HTTP/1"));
        ensure!(requests.is_empty(), "requests to the other server: {requests:?}");
        Ok(())
    }

    /// Makes all texts markup of a page without a policy, and checks that scripts run and requests go to the other server. This
    /// shows that the other checks would notice scripts and requests. `open` opens an address.
    pub fn texts_run_without_protection(&self, open: impl Fn(&str) -> Result<()>) -> Result<()> {
        open(&format!("http://127.0.0.1:{}/", self.elsewhere.port))?;
        self.page.wait_until("document.title === 'elsewhere'")?;
        self.page.run("window.ran = {}; window.alert = () => {}")?;
        let texts = self.texts.iter().filter(|text| !text.contains("http-equiv")).enumerate();
        let markup: Vec<_> = texts.map(|(number, text)| text.replace("xss=1", &format!("ran[{number}]=1"))).collect();
        self.page.run(&as_markup(&json!(markup)))?;
        self.page.wait_until("Object.keys(window.ran).length >= 20")?;
        wait_for("requests to the other server", TIMEOUT, || (self.elsewhere.heads().len() >= 5).then_some(()))
    }

    fn kinds(&self) -> Result<BTreeSet<String>> {
        let kinds = self.page.run("return window.kinds()")?;
        Ok(strings(&kinds).into_iter().collect())
    }

    /// Sends each text once, as a message of its own, to the socket of p01's listener, and waits until the page shows all of them. The listener drops
    /// messages above its rate limit. The texts keep to the limit, so the next check finds an empty socket.
    fn shows_messages(&self, texts: &[String]) -> Result<()> {
        let (socket, inbox) = (UnixDatagram::unbound()?, self.suite.room().join("p01/inbox"));
        socket.set_write_timeout(Some(TIMEOUT))?;
        for (number, text) in texts.iter().enumerate() {
            socket.send_to(format!("p02\t{}{number}\t{text}", texts.len()).as_bytes(), &inbox)?;
            thread::sleep(MESSAGE_INTERVAL);
        }
        self.waits_for_messages(texts)
    }

    /// Replaces the list of participants by participants with these display names, and waits until the page shows it.
    fn shows_names(&self, names: &[String]) -> Result<()> {
        let line = |(number, name): (usize, &String)| format!("x{number:03}\there hand\t{name}\n");
        let own = "p01\there\tParticipant 1\n".to_owned();
        let text: String = std::iter::once(own).chain(names.iter().enumerate().map(line)).collect();
        let expected: BTreeSet<_> =
            names.iter().map(|name| (name.clone(), name.clone(), format!("Mute {name} for me"))).collect();
        let shown = "return [...document.querySelectorAll('#people [data-name^=x]')].map((row) => [row.querySelector('.name').textContent,
            row.querySelector('.name').title, row.querySelector('.mute-for-me').getAttribute('aria-label')])";
        let mut last = BTreeSet::new();
        wait_for("all names", TIMEOUT, || {
            // Replace the file again if the supervisor has replaced it, as it does when a participant's state changes.
            if fs::read_to_string(self.suite.room().join("names")).ok()? != text {
                replace_names(&self.suite.room(), &text).ok()?;
            }
            let rows = self.page.run(shown).ok()?;
            let part = |row: &Value, at: usize| row[at].as_str().unwrap_or_default().to_owned();
            last = rows.as_array()?.iter().map(|row| (part(row, 0), part(row, 1), part(row, 2))).collect();
            (last == expected).then_some(())
        })
        .with_context(|| format!("not shown: {:?}", expected.difference(&last).collect::<Vec<_>>()))
    }

    /// Sends the texts by `POST /say`, several in one message, and checks that the listener refuses those with control characters. Returns the messages.
    fn shows_posted_messages(&self, texts: &[String]) -> Result<Vec<String>> {
        let mut packed = vec![String::new()];
        for text in texts {
            let last = packed.last_mut().context("no message")?;
            if last.chars().count() + text.chars().count() >= MESSAGE_CHARS {
                packed.push(text.clone());
            } else {
                last.push_str(text);
            }
        }
        packed.truncate(BURST);
        for (number, text) in packed.iter().enumerate() {
            ensure!(self.post("p02", &format!("/say?id=posted{number}"), text)? == 204, "refused: {text:?}");
        }
        for text in self.texts.iter().filter(|text| !is_message(text)) {
            ensure!(self.post("p02", "/say", text)? == 400, "not refused: {text:?}");
        }
        self.waits_for_messages(&packed)?;
        Ok(packed)
    }

    /// Writes texts with control characters into the page's own line, which replaces these characters by spaces.
    fn shows_own_messages(&self) -> Result<()> {
        // Leave one message of the rate limit unused, because this page has already sent the harmless message.
        let texts: Vec<_> = self.texts.iter().filter(|text| !is_message(text)).take(BURST - 1).collect();
        self.page.run(&write(&json!(texts)))?;
        // The page's input field for messages drops line breaks.
        let cleaned = |text: &&String| {
            let line = text.replace(['\r', '\n'], "");
            let spaced: String = line.chars().map(|c| if is_message(&c.to_string()) { c } else { '\0' }).collect();
            spaced.split('\0').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ").trim().to_owned()
        };
        self.waits_for_messages(&texts.iter().map(cleaned).collect::<Vec<_>>())
    }

    fn waits_for_messages(&self, expected: &[String]) -> Result<()> {
        let mut missing = Vec::new();
        wait_for("all messages", TIMEOUT, || {
            let shown = strings(&self.page.run("return window.said()").ok()?);
            missing = expected.iter().filter(|text| !shown.contains(text)).cloned().collect();
            missing.is_empty().then_some(())
        })
        .with_context(|| format!("not shown: {missing:?}"))
    }

    /// Changes display names as a participant and as the operator does.
    fn shows_chosen_names(&self) -> Result<()> {
        let name = |login: &str| format!("document.querySelector('#people [data-name={login}] .name')?.textContent");
        for text in ["<img src=x onerror=xss=1>", "\"'`><svg onload=xss=1>${xss=1}"] {
            ensure!(self.post("p01", "/name", text)? == 204, "refused: {text}");
            self.page.wait_until(&format!("{} === {}", name("p01"), json!(text)))?;
        }
        let of_file = "</script><script>xss=1</script>";
        self.suite.palabre(&["rename", "p02", of_file])?;
        self.page.wait_until(&format!("{} === {}", name("p02"), json!(of_file)))
    }

    /// Puts texts into the settings that the browser stores and into the address, and reloads the page. Checks that the page then shows the
    /// messages `kept`, which the listener sends again.
    fn shows_stored_texts(&self, kept: &[String]) -> Result<()> {
        self.page.run(
            "const text = '<img/src=x/onerror=xss=1>';
             for (const name of ['talk-key', 'language', 'mode', 'volume', 'input', 'output', 'readMs', 'volumes', 'alert-texts']) {
               localStorage.setItem(`palabre / ${name}`, name === 'talk-key' ? `KeyT ${text}` : text);
             }
             location.hash = `#renew=${text}`; setTimeout(() => location.reload())",
        )?;
        self.page.wait_until("!window.kinds && window.palabreState?.screen === 'door'")?;
        self.page.run(WATCH)?;
        self.page
            .wait_until("document.getElementById('door-title').textContent.includes('<svg onload=xss=1>${xss=1}')")?;
        self.page.click("#join")?;
        self.page.wait_until("palabreState.connection === 'live'")?;
        self.waits_for_messages(kept)?;
        let author = "[...document.querySelectorAll('.message-from')].some((from) => from.textContent === '</script><script>xss=1</script>')";
        self.page.wait_until(author)?;
        self.page.click("#settings-open")?;
        self.page.wait_until("document.getElementById('talk-key').textContent === '<img/src=x/onerror=xss=1>'")
    }

    /// Sends a request as a participant, and returns the status of the response.
    fn post(&self, login: &str, path: &str, body: &str) -> Result<u16> {
        let link = self.suite.link(login);
        let fields = [format!("Authorization: Bearer {}", link.key), format!("Content-Length: {}", body.len())];
        let fields = fields.each_ref().map(String::as_str);
        Ok(self.suite.client.request(link, "POST", path, &fields, body.as_bytes())?.status)
    }
}

/// Returns a script that sends texts as a user does.
fn write(texts: &Value) -> String {
    format!(
        "const line = document.getElementById('message-line');
         for (const text of {texts}) {{ line.value = text; line.form.requestSubmit(); }}"
    )
}

/// Returns a script that makes these texts markup. Unlike `innerHTML`, this way of parsing runs `<script>` elements.
fn as_markup(texts: &Value) -> String {
    format!(
        "for (const text of {texts}) {{
           const place = document.body.appendChild(document.createElement('div'));
           place.append(document.createRange().createContextualFragment(text));
         }}"
    )
}

/// Replaces the file `names` of a room, and its copy for the listeners.
fn replace_names(room: &Path, text: &str) -> Result<()> {
    for file in [room.join(".shown/names"), room.join("names")] {
        let new = file.with_extension("test");
        fs::write(&new, text)?;
        fs::rename(new, file)?;
    }
    Ok(())
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}
