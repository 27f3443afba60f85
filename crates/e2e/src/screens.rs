//! Checks how a screen of the page looks: in windows of several sizes, with large text, light, dark and with forced colours. Stores screenshots
//! in `target/looks`.
//!
//! All displays are emulated in the same tab. axe-core runs with all its rules where a screen's content or colours may differ, and with the
//! rules about layout elsewhere, because its rule about contrast is slow.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::browser::Browser;

/// A window, text size and colours.
struct Display {
    name: &'static str,
    size: (u32, u32),
    /// Font size that the user has chosen in the browser; 16 is the usual one.
    text_px: u32,
    scheme: &'static str,
    forced: bool,
    axe: Axe,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Axe {
    All,
    Layout,
}

const fn display(name: &'static str, size: (u32, u32), scheme: &'static str, axe: Axe) -> Display {
    Display { name, size, text_px: 16, scheme, forced: false, axe }
}

const DESK: (u32, u32) = (1280, 800);
const PHONE: (u32, u32) = (390, 844);
const DISPLAYS: [Display; 8] = [
    display("desk-light", DESK, "light", Axe::Layout),
    display("desk-dark", DESK, "dark", Axe::All),
    Display { forced: true, ..display("desk-forced", DESK, "light", Axe::Layout) },
    // A window of 1366 × 768 at 200 %.
    display("zoom-200", (683, 384), "light", Axe::Layout),
    // A window of 1280 × 1024 at 400 % (WCAG 1.4.10).
    display("zoom-400", (320, 256), "light", Axe::Layout),
    display("landscape", (844, 390), "light", Axe::Layout),
    Display { text_px: 32, ..display("text-200", PHONE, "light", Axe::Layout) },
    // This display is the last, because `check` then shows the page in the other language on the same display.
    display("phone-light", PHONE, "light", Axe::All),
];
const LAYOUT_RULES: &str =
    "{ type: 'rule', values: ['target-size', 'scrollable-region-focusable', 'meta-viewport', 'region'] }";
const ALL_RULES: &str = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']";

/// Checks the present screen on all displays, and on the phone in the other language too, if the screen has a button for that.
pub fn check(browser: &Browser, name: &str) -> Result<()> {
    browser.run(axe()?)?;
    let mut problems = Vec::new();
    for display in &DISPLAYS {
        show(browser, display)?;
        let name = format!("{name}-{}", display.name);
        browser.screenshot(&looks()?.join(format!("{name}.png")))?;
        problems.extend(on(&name, violations(browser, display.axe)?));
        problems.extend(on(&name, layout(browser)?));
        if display.size.0 < 1000 {
            problems.extend(on(&name, small_targets(browser)?));
        }
    }
    let toggle = "return Boolean(document.getElementById('language')?.click() ?? document.getElementById('language'))";
    if browser.run(toggle)? == true {
        let name = format!("{name}-phone-other-language");
        browser.screenshot(&looks()?.join(format!("{name}.png")))?;
        problems.extend(on(&name, layout(browser)?));
        problems.extend(on(&name, violations(browser, Axe::Layout)?));
        problems.extend(on(&name, small_targets(browser)?));
        browser.run(toggle)?;
    }
    show(browser, &DISPLAYS[0])?;
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// Like [`check`], for a screen that must fit into the usual windows without scrolling.
pub fn check_without_scrolling(browser: &Browser, name: &str) -> Result<()> {
    check(browser, name)?;
    for size in [PHONE, DESK] {
        show(browser, &display("", size, "light", Axe::All))?;
        let fits = browser.run("return document.documentElement.scrollHeight <= innerHeight")?;
        ensure!(fits == true, "{name} is higher than {size:?}");
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
    browser.devtools("Page.setFontSizes", json!({ "fontSizes": { "standard": display.text_px } }))?;
    let forced = if display.forced { "active" } else { "none" };
    let features = json!([
        { "name": "prefers-color-scheme", "value": display.scheme },
        { "name": "prefers-reduced-motion", "value": "reduce" },
        { "name": "forced-colors", "value": forced },
    ]);
    browser.devtools("Emulation.setEmulatedMedia", json!({ "features": features }))?;
    browser.wait_until(&format!(
        "innerWidth === {width} && innerHeight === {height} && matchMedia('(prefers-color-scheme: {}) and (forced-colors: {forced})').matches \
         && getComputedStyle(document.documentElement).fontSize === '{}px'",
        display.scheme, display.text_px
    ))
}

/// Returns what `layout.js` finds.
fn layout(browser: &Browser) -> Result<Vec<String>> {
    texts(&browser.run(include_str!("layout.js"))?)
}

/// Returns the violations that axe-core finds. Scrolls to the end, where the controls of a low window cover nothing.
fn violations(browser: &Browser, axe: Axe) -> Result<Vec<String>> {
    let rules = if axe == Axe::All { ALL_RULES } else { LAYOUT_RULES };
    let run = format!(
        "scrollTo(0, document.documentElement.scrollHeight); window.axeSays = null; axe.run(document, {{ iframes: false, resultTypes: ['violations'], runOnly: {rules} }}) \
         .then((r) => {{ window.axeSays = r.violations.map((v) => v.id + ': ' + v.nodes.map((n) => n.html.slice(0, 160) + ' ' \
         + n.failureSummary).join(' | ')); }}, (e) => {{ window.axeSays = [String(e)]; }})"
    );
    browser.run(&run)?;
    browser.wait_until("window.axeSays")?;
    texts(&browser.run("scrollTo(0, 0); return window.axeSays")?)
}

/// Returns the controls that are, including their labels, less than 44 CSS pixels wide or high.
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
