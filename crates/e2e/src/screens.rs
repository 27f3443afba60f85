//! Checks how a screen of the page looks: in windows of several sizes, with large text, light, dark and with forced colours. Stores screenshots
//! in `target/looks`.
//!
//! All displays are emulated in the same tab. On every display `layout.js` looks for texts that are cut off or covered. axe-core and screenshots take most
//! of the time, so usually they run only on two displays, one for each colour scheme.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use palabre_host::lock::Lock;
use serde_json::{Value, json};

use crate::browser::Browser;

/// Maximum time to wait while another test fetches axe-core.
const FETCH_TIMEOUT: Duration = Duration::from_secs(120);

/// A window, text size and colours.
#[derive(Clone, Copy)]
struct Display {
    name: &'static str,
    size: (u32, u32),
    /// Font size that the user has chosen in the browser; 16 is the usual one.
    text_px: u32,
    colours: Colours,
    /// Whether axe-core runs on this display.
    axe: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Colours {
    Light,
    Dark,
    Forced,
}

const fn display(name: &'static str, size: (u32, u32)) -> Display {
    Display { name, size, text_px: 16, colours: Colours::Light, axe: false }
}

const DESK: Display = display("desk", (1280, 800));
const PHONE: Display = display("phone", (390, 844));
const DISPLAYS: [Display; 8] = [
    DESK,
    Display { colours: Colours::Dark, axe: true, ..DESK },
    Display { colours: Colours::Forced, ..DESK },
    // A window of 1366 × 768 at 200 %.
    display("zoom-200", (683, 384)),
    // A window of 1280 × 1024 at 400 % (WCAG 1.4.10).
    display("zoom-400", (320, 256)),
    display("landscape", (844, 390)),
    Display { name: "text-200", text_px: 32, ..PHONE },
    Display { axe: true, ..PHONE },
];

impl Display {
    fn label(&self) -> String {
        let colours = match self.colours {
            Colours::Light => "light",
            Colours::Dark => "dark",
            Colours::Forced => "forced",
        };
        format!("{}-{colours}", self.name)
    }
}

/// Returns whether the variable `PALABRE_LOOKS=all` asks for all rules of axe-core in every size, with all colours and in both languages, and for all
/// screenshots. That takes ten times as long.
fn is_complete() -> bool {
    std::env::var_os("PALABRE_LOOKS").is_some_and(|value| value == "all")
}

/// Returns the displays of a check, each with whether the screen is also checked in the other language.
fn displays() -> Vec<(Display, bool)> {
    if !is_complete() {
        return DISPLAYS.map(|display| (display, display.label() == "phone-light")).into();
    }
    let sizes =
        DISPLAYS.into_iter().filter(|display| display.label() != "desk-dark" && display.label() != "desk-forced");
    let colours = [Colours::Light, Colours::Dark, Colours::Forced];
    sizes.flat_map(|size| colours.map(|colours| (Display { colours, axe: true, ..size }, true))).collect()
}

/// Changes the language if the screen has a button for that. Returns whether it has one.
const TOGGLE_LANGUAGE: &str =
    "return Boolean(document.getElementById('language')?.click() ?? document.getElementById('language'))";
const RULES: &str = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']";

/// Checks the present screen on all displays, and on the phone in the other language too, if the screen has a button for that.
pub fn check(browser: &Browser, name: &str) -> Result<()> {
    check_on(browser, name, &displays())
}

/// Like [`check`], for a screen that differs only in its texts from a screen that is already checked. Unless `PALABRE_LOOKS=all`, checks only three
/// displays: the phone, the one with large text, and the one at 400 %.
pub fn check_state(browser: &Browser, name: &str) -> Result<()> {
    let is_needed = |display: &Display| is_complete() || ["phone", "text-200", "zoom-400"].contains(&display.name);
    let few: Vec<_> = displays().into_iter().filter(|(display, _)| is_needed(display)).collect();
    check_on(browser, name, &few)
}

fn check_on(browser: &Browser, name: &str, displays: &[(Display, bool)]) -> Result<()> {
    browser.run(axe()?)?;
    let mut problems = Vec::new();
    for &(display, is_translated) in displays {
        show(browser, &display)?;
        let name = format!("{name}-{}", display.label());
        problems.extend(check_display(browser, &name, display.axe)?);
        if is_translated && browser.run(TOGGLE_LANGUAGE)? == true {
            problems.extend(check_display(browser, &format!("{name}-translated"), is_complete())?);
            browser.run(TOGGLE_LANGUAGE)?;
        }
    }
    show(browser, &DESK)?;
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// Checks the present screen on the present display. Returns the faults.
fn check_display(browser: &Browser, name: &str, axe: bool) -> Result<Vec<String>> {
    let mut problems = layout(browser)?;
    if axe {
        let is_forced = browser.run("return matchMedia('(forced-colors: active)').matches")? == true;
        problems.extend(violations(browser, is_forced)?);
    }
    if browser.run("return innerWidth < 1000")? == true {
        problems.extend(small_targets(browser)?);
    }
    if axe || !problems.is_empty() {
        browser.screenshot(&looks()?.join(format!("{name}.png")))?;
    }
    Ok(on(name, problems))
}

/// Like [`check`], for a screen that must fit into the usual windows without scrolling.
pub fn check_without_scrolling(browser: &Browser, name: &str) -> Result<()> {
    check(browser, name)?;
    for display in [PHONE, DESK] {
        show(browser, &display)?;
        let fits = browser.run("return document.documentElement.scrollHeight <= innerHeight")?;
        ensure!(fits == true, "{name} is higher than {:?}", display.size);
    }
    Ok(())
}

fn on(name: &str, problems: Vec<String>) -> Vec<String> {
    problems.into_iter().map(|problem| format!("{name}: {problem}")).collect()
}

fn show(browser: &Browser, display: &Display) -> Result<()> {
    let (width, height) = display.size;
    // Not 'mobile': a mobile browser zooms out instead of scrolling sideways, which would hide a page that is too wide.
    let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
    browser.devtools("Emulation.setDeviceMetricsOverride", size)?;
    // If the font size changes while forced colours are emulated, Chromium keeps the background of the forced colours.
    browser.devtools("Emulation.setEmulatedMedia", json!({ "features": [] }))?;
    browser.devtools("Page.setFontSizes", json!({ "fontSizes": { "standard": display.text_px } }))?;
    let forced = if display.colours == Colours::Forced { "active" } else { "none" };
    let scheme = if display.colours == Colours::Dark { "dark" } else { "light" };
    let features = json!([
        { "name": "prefers-color-scheme", "value": scheme },
        { "name": "prefers-reduced-motion", "value": "reduce" },
        { "name": "forced-colors", "value": forced },
    ]);
    browser.devtools("Emulation.setEmulatedMedia", json!({ "features": features }))?;
    browser.wait_until(&format!(
        "innerWidth === {width} && innerHeight === {height} && matchMedia('(prefers-color-scheme: {scheme}) and (forced-colors: {forced})').matches \
         && getComputedStyle(document.documentElement).fontSize === '{}px'",
        display.text_px
    ))
}

/// Returns what `layout.js` finds.
fn layout(browser: &Browser) -> Result<Vec<String>> {
    texts(&browser.run(include_str!("layout.js"))?)
}

/// Returns the violations that axe-core finds. Scrolls to the end, where the controls of a low window cover nothing. With forced colours, Chromium
/// tells scripts the page's own text colours, which are not shown, so the contrast can't be checked.
fn violations(browser: &Browser, is_forced: bool) -> Result<Vec<String>> {
    let run = format!(
        "scrollTo(0, document.documentElement.scrollHeight); window.axeSays = null; axe.run(document, {{ iframes: false, resultTypes: ['violations'], \
         runOnly: {RULES}, rules: {{ 'color-contrast': {{ enabled: {} }} }} }}) \
         .then((r) => {{ window.axeSays = r.violations.map((v) => v.id + ': ' + v.nodes.map((n) => n.html.slice(0, 160) + ' ' \
         + n.failureSummary).join(' | ')); }}, (e) => {{ window.axeSays = [String(e)]; }})",
        !is_forced
    );
    browser.run(&run)?;
    browser.wait_until("window.axeSays")?;
    texts(&browser.run("scrollTo(0, 0); return window.axeSays")?)
}

/// Returns the controls that are less than 44 CSS pixels wide or high. A control inside a label has the size of the label.
fn small_targets(browser: &Browser) -> Result<Vec<String>> {
    let small = browser.run(
        "return [...document.querySelectorAll('button, input, select, summary, a')]
           .map((control) => control.closest('label') ?? control)
           .filter((control) => control.checkVisibility({ visibilityProperty: true }))
           .map((control) => [control, control.getBoundingClientRect()])
           .filter(([, { width, height }]) => width < 44 || height < 44)
           .map(([control, { width, height }]) => `${control.outerHTML.slice(0, 80)}: ${width} × ${height}`)",
    )?;
    texts(&small)
}

fn texts(value: &Value) -> Result<Vec<String>> {
    let all = value.as_array().with_context(|| format!("the script returned no list: {value}"))?;
    Ok(all.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), ToOwned::to_owned)).collect())
}

fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.ancestors().nth(3).context("the test program is not in target/PROFILE/deps")?.to_owned())
}

fn looks() -> Result<PathBuf> {
    let dir = target()?.join("looks");
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Returns the source of axe-core. npm fetches it once and checks it against the lock file.
fn axe() -> Result<&'static str> {
    static AXE: OnceLock<String> = OnceLock::new();
    if AXE.get().is_none() {
        let _ = AXE.set(fetch_axe()?);
    }
    AXE.get().map(String::as_str).context("axe-core was not stored")
}

fn fetch_axe() -> Result<String> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("axe");
    let dir = target()?.join("axe");
    let script = dir.join("node_modules/axe-core/axe.min.js");
    fs::create_dir_all(&dir)?;
    // Other tests fetch at the same time, also in other processes. Without the lock, a test could read a script that npm has written only in part.
    let _lock = Lock::wait(&dir, FETCH_TIMEOUT)?.context("another test takes too long to fetch axe-core")?;
    let is_new = |name: &str| fs::read(package.join(name)).ok() != fs::read(dir.join(name)).ok();
    if is_new("package-lock.json") || !script.exists() {
        for name in ["package.json", "package-lock.json"] {
            fs::copy(package.join(name), dir.join(name))?;
        }
        let fetch = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        let fetched = Command::new("npm").args(fetch).current_dir(&dir).status()?;
        ensure!(fetched.success(), "npm is unable to fetch axe-core");
    }
    Ok(fs::read_to_string(script)?)
}
