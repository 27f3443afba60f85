//! Uses all of the page by keyboard, in any browser.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

// Key codes of WebDriver.
const SHIFT_TAB: &str = "\u{E008}\u{E004}";
const TAB: &str = "\u{E004}";
const ENTER: &str = "\u{E007}";
const ESCAPE: &str = "\u{E00C}";
const SPACE: &str = " ";
const END: &str = "\u{E010}";
const HOME: &str = "\u{E011}";
const LEFT: &str = "\u{E012}";
const UP: &str = "\u{E013}";
const RIGHT: &str = "\u{E014}";
const DOWN: &str = "\u{E015}";
const F8: &str = "\u{E038}";

/// A page that receives key events from the browser.
pub trait Page {
    /// Runs a script in the page and returns its result.
    fn run(&self, script: &str) -> Result<Value>;

    /// Waits until a JavaScript expression is true.
    fn wait_until(&self, expression: &str) -> Result<()>;

    /// Clicks the element of a CSS selector with the mouse.
    fn click(&self, selector: &str) -> Result<()>;

    /// Presses the keys in `down`, then releases those in `up`. Each is a character or a code of WebDriver.
    fn keys(&self, down: &str, up: &str) -> Result<()>;

    /// Presses and releases a key or a chord. The page has handled it when this returns.
    fn press(&self, chord: &str) -> Result<()> {
        self.keys(chord, &chord.chars().rev().collect::<String>())
    }

    /// Presses Tab, or Shift and Tab, until the element of a CSS selector has the focus. The focus never wraps around, since the browser's own
    /// controls follow the page's last control.
    fn tab_to(&self, selector: &str) -> Result<()> {
        let way = format!(
            "const now = document.activeElement ?? document.body;
             if (now.matches('{selector}')) return 'there';
             const wanted = [...document.querySelectorAll('{selector}')].find(({{ tabIndex }}) => tabIndex >= 0);
             const isBefore = wanted && now.compareDocumentPosition(wanted) & Node.DOCUMENT_POSITION_PRECEDING;
             return now !== document.body && isBefore ? 'back' : 'on';"
        );
        for _ in 0..60 {
            match self.run(&way)?.as_str() {
                Some("there") => return Ok(()),
                Some("back") => self.press(SHIFT_TAB)?,
                _ => self.press(TAB)?,
            }
        }
        bail!("Tab doesn't reach '{selector}'")
    }
}

/// Joins, uses every control, leaves and joins again. The participant must not be muted, and the room needs two others.
pub fn visit(page: &impl Page) -> Result<()> {
    page.wait_until("window.palabreState?.screen === 'door'")?;
    join(page)?;
    microphone_and_hand(page)?;
    texts(page)?;
    people(page)?;
    settings(page)?;
    leave(page)
}

/// Checks the talk key and the keys m and h, before joining and in the room: each key works, whichever element has the focus after a
/// click. Before the call, the participant must not be muted. After the call, the microphone mode is "always on".
pub fn push_to_talk(page: &impl Page) -> Result<()> {
    set_mode(page, "talk")?;
    page.click("#join")?;
    page.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'")?;
    holds(page, SPACE, "the space bar after joining")?;
    page.click("#hand-button")?;
    holds(page, SPACE, "the space bar on the hand")?;
    ensure!(
        page.run("return [palabreState.hand, palabreState.muted]")? == json!([true, false]),
        "a button was pressed"
    );
    presses_a_button_that_the_tab_key_has_reached(page)?;
    page.press("h")?;
    page.wait_until("!palabreState.hand")?;
    for muted in [true, false] {
        page.press("m")?;
        page.wait_until(&format!("palabreState.muted === {muted}"))?;
    }
    page.press("?")?;
    page.wait_until("document.querySelector('#keys[open] dt')?.textContent === 'M'")?;
    page.press(ESCAPE)?;
    page.click("#settings-open")?;
    page.click("#talk-key")?;
    page.press(F8)?;
    page.wait_until("document.getElementById('talk-key').textContent === 'F8'")?;
    page.press(ESCAPE)?;
    holds(page, F8, "F8 after closing the settings")?;
    page.press(SPACE)?;
    page.wait_until("document.getElementById('settings').open")?;
    page.click("#talk-key")?;
    page.press(SPACE)?;
    page.wait_until("!['F8', '…'].some((end) => document.getElementById('talk-key').textContent.endsWith(end))")?;
    page.press(ESCAPE)?;
    holds(page, SPACE, "the space bar after closing the settings")?;
    page.click("#settings-open")?;
    page.click("input[name=mode][value=open]")?;
    for _ in 0..2 {
        page.press(DOWN)?;
    }
    page.wait_until("palabreState.mode === 'talk'")?;
    page.press(ESCAPE)?;
    holds(page, SPACE, "the space bar after choosing the mode by arrow keys")?;
    set_mode(page, "open")
}

/// Checks that in push-to-talk mode the space bar presses a button that the user has reached with the Tab key, and talks again after a click elsewhere.
/// The hand must be raised before the call, and is raised again afterwards.
fn presses_a_button_that_the_tab_key_has_reached(page: &impl Page) -> Result<()> {
    page.tab_to("#messages-toggle")?;
    page.tab_to("#hand-button")?;
    for hand in [false, true] {
        page.keys(SPACE, "")?;
        ensure!(page.run("return palabreState.held")? == false, "the space bar talked instead of pressing the button");
        page.keys("", SPACE)?;
        page.wait_until(&format!("palabreState.hand === {hand}"))?;
    }
    page.click("#room")?;
    holds(page, SPACE, "the space bar after a click outside the buttons")
}

/// Chooses a microphone mode with the mouse.
fn set_mode(page: &impl Page, mode: &str) -> Result<()> {
    let inside = page.run("return palabreState.screen === 'inside'")? == true;
    page.click(if inside { "#settings-open" } else { "#test-open" })?;
    page.click(&format!("input[name=mode][value={mode}]"))?;
    page.click("#settings-close")
}

/// Checks that the participant can be heard exactly while this key is held, and that no panel is open afterwards.
fn holds(page: &impl Page, key: &str, what: &str) -> Result<()> {
    page.keys(key, "")?;
    page.wait_until("palabreState.held && document.getElementById('mute').dataset.state === 'on'")
        .context(what.to_owned())?;
    page.keys("", key)?;
    page.wait_until("!palabreState.held && document.getElementById('mute').dataset.state === 'ready'")
        .context(what.to_owned())?;
    ensure!(page.run("return document.querySelector('dialog[open]') === null")? == true, "{what} opened a panel");
    Ok(())
}

/// Opens the sound test before joining, and closes it. Then the button that opened the test must have the focus.
pub fn try_the_line(page: &impl Page) -> Result<()> {
    page.tab_to("#test-open")?;
    page.press(ENTER)?;
    page.wait_until("document.getElementById('settings').open")?;
    page.tab_to("#myself")?;
    page.press(SPACE)?;
    page.wait_until("document.getElementById('myself').getAttribute('aria-pressed') === 'true'")?;
    page.press(ESCAPE)?;
    page.wait_until(&format!("!document.getElementById('settings').open && {}", has_focus("test-open")))
}

fn has_focus(id: &str) -> String {
    format!("document.activeElement?.id === '{id}'")
}

/// Checks that single-key shortcuts do nothing in the field that has the focus, or while a panel is open.
fn single_keys_do_nothing(page: &impl Page) -> Result<()> {
    let state = "return [palabreState.muted, palabreState.hand]";
    let before = page.run(state)?;
    for key in ["m", "h", "M", "H"] {
        page.press(key)?;
        let after = page.run(state)?;
        ensure!(after == before, "'{key}' on {}: {after}", page.run("return document.activeElement.outerHTML")?);
    }
    Ok(())
}

fn join(page: &impl Page) -> Result<()> {
    let language = page.run("return document.documentElement.lang")?;
    page.tab_to("#language")?;
    page.press(SPACE)?;
    page.wait_until(&format!("document.documentElement.lang !== {language}"))?;
    page.press(ENTER)?;
    page.wait_until(&format!("document.documentElement.lang === {language}"))?;
    page.tab_to("#test-open")?;
    page.press(SHIFT_TAB)?;
    page.wait_until(&has_focus("join"))?;
    page.press(ENTER)?;
    page.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'")?;
    page.wait_until(&has_focus("mute"))
}

fn microphone_and_hand(page: &impl Page) -> Result<()> {
    for (key, state) in [("h", "hand"), ("m", "muted"), ("M", "muted"), ("H", "hand")] {
        let before = page.run(&format!("return palabreState.{state}"))?;
        page.press(key)?;
        page.wait_until(&format!("palabreState.{state} !== {before}"))
            .with_context(|| format!("'{key}' on a button"))?;
    }
    page.press(SPACE)?;
    page.wait_until("palabreState.muted && document.getElementById('mute').dataset.state === 'muted'")?;
    page.press(ENTER)?;
    page.wait_until("!palabreState.muted && document.getElementById('mute').dataset.state !== 'muted'")?;
    page.tab_to("#hand-button")?;
    page.press(SPACE)?;
    page.wait_until("palabreState.hand && document.querySelector('#hand-button[aria-pressed=true]')")?;
    page.press(ENTER)?;
    page.wait_until("!palabreState.hand && document.querySelector('#hand-button[aria-pressed=false]')")
}

fn texts(page: &impl Page) -> Result<()> {
    page.tab_to("#messages-toggle")?;
    page.press(ENTER)?;
    page.wait_until(&format!("!document.getElementById('messages').hidden && {}", has_focus("message-line")))?;
    single_keys_do_nothing(page)?;
    page.press(SPACE)?;
    page.press("m")?;
    page.wait_until("document.getElementById('message-line').value === 'mhMH m'")?;
    page.press(ENTER)?;
    page.wait_until("[...document.querySelectorAll('.message-text')].at(-1)?.textContent === 'mhMH m'")?;
    page.press(ESCAPE)?;
    page.wait_until(&format!("document.getElementById('messages').hidden && {}", has_focus("messages-toggle")))
}

/// Checks that the list of participants is one stop of the Tab key, and that arrow keys move the focus within the list.
fn people(page: &impl Page) -> Result<()> {
    let name = "document.activeElement.closest('.person')?.dataset.name";
    let focused = || page.run(&format!("return {name}"));
    page.tab_to("#people .person button")?;
    let first = focused()?;
    page.press(DOWN)?;
    page.wait_until(&format!("{name} && {name} !== {first}"))?;
    page.press(UP)?;
    page.wait_until(&format!("{name} === {first}"))?;
    page.press(END)?;
    page.wait_until(&format!("{name} && {name} !== {first}"))?;
    let last = "document.activeElement.closest('.person')?.classList.contains('muted-for-me')";
    page.press(SPACE)?;
    page.wait_until(last)?;
    page.press(ENTER)?;
    page.wait_until(&format!("{last} === false"))?;
    page.press(HOME)?;
    page.wait_until(&format!("{name} === {first}"))?;
    volume_for_me(page)
}

/// Checks that the volume of the participant whose button has the focus can be changed and restored, and that the focus returns to the
/// button.
fn volume_for_me(page: &impl Page) -> Result<()> {
    const ON_BUTTON: &str = "document.activeElement.matches('.more')";
    let percent = |volume| format!("document.getElementById('person-percent').textContent.startsWith('{volume}')");
    page.press(RIGHT)?;
    for (key, volume, shown) in [(LEFT, 95, "95"), (RIGHT, 100, "")] {
        page.wait_until(ON_BUTTON)?;
        page.press(ENTER)?;
        page.wait_until(&has_focus("person-volume"))?;
        page.press(key)?;
        page.wait_until(&percent(volume))?;
        page.press(ESCAPE)?;
        page.wait_until(&format!("{ON_BUTTON} && document.activeElement.textContent.trim().startsWith('{shown}')"))?;
    }
    Ok(())
}

fn settings(page: &impl Page) -> Result<()> {
    open_settings(page)?;
    for mode in ["voice", "talk"] {
        page.press(DOWN)?;
        page.wait_until(&format!("palabreState.mode === '{mode}'"))?;
    }
    page.tab_to("#switch-keys")?;
    single_keys_do_nothing(page)?;
    for checked in [false, true] {
        page.press(SPACE)?;
        page.wait_until(&format!("document.getElementById('switch-keys').checked === {checked}"))?;
    }
    own_name(page)?;
    page.tab_to("#details summary")?;
    page.press(ENTER)?;
    page.wait_until("document.getElementById('details').open")?;
    close_settings(page)?;
    page.tab_to("#hold")?;
    for key in [SPACE, ENTER] {
        page.keys(key, "")?;
        page.wait_until("palabreState.held")?;
        page.keys("", key)?;
        page.wait_until("!palabreState.held")?;
    }
    open_settings(page)?;
    for mode in ["voice", "open"] {
        page.press(UP)?;
        page.wait_until(&format!("palabreState.mode === '{mode}'"))?;
    }
    close_settings(page)
}

/// Adds the letter m to the participant's display name, if the operator allows participants to change it. In the field, the shortcut m must not mute.
fn own_name(page: &impl Page) -> Result<()> {
    if page.run("return document.getElementById('own-name').checkVisibility()")? != true {
        return Ok(());
    }
    page.tab_to("#own-name-line")?;
    page.press(END)?;
    page.press("m")?;
    page.press(ENTER)?;
    page.wait_until("document.getElementById('own-name-said').textContent.includes('1m')")?;
    page.wait_until("document.querySelector('.you').parentElement.querySelector('.name').textContent.endsWith('1m')")?;
    ensure!(page.run("return palabreState.muted")? == false, "the key m in the field muted the microphone");
    Ok(())
}

fn open_settings(page: &impl Page) -> Result<()> {
    page.tab_to("#settings-open")?;
    page.press(ENTER)?;
    page.wait_until("document.getElementById('settings').open")?;
    page.tab_to("input[name=mode]")
}

/// Closes the settings. Then the button that opened them must have the focus.
fn close_settings(page: &impl Page) -> Result<()> {
    page.press(ESCAPE)?;
    page.wait_until(&format!("!document.getElementById('settings').open && {}", has_focus("settings-open")))
}

fn leave(page: &impl Page) -> Result<()> {
    page.tab_to("#volume")?;
    let volume = page.run("return Number(document.getElementById('volume').value)")?;
    page.press(LEFT)?;
    page.wait_until(&format!("Number(document.getElementById('volume').value) < {volume}"))?;
    page.press(RIGHT)?;
    page.wait_until(&format!("Number(document.getElementById('volume').value) === {volume}"))?;
    page.tab_to("#leave")?;
    page.press(ENTER)?;
    page.wait_until(&format!("palabreState.screen === 'left' && {}", has_focus("join")))?;
    page.press(ENTER)?;
    page.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'")?;
    let state = page.run("return [palabreState.muted, palabreState.hand, palabreState.mode]")?;
    ensure!(state == json!([false, false, "open"]), "state after joining again: {state}");
    Ok(())
}
