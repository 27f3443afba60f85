//! A room that is shared with another machine, in a real Chromium: with `palabre-bridge` and a NATS server, and with states of the other machine that the
//! test writes as the bridge does.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use palabre_e2e::browser::{Browser, Tap};
use palabre_e2e::machines::Machines;
use palabre_e2e::screens::check;
use palabre_e2e::suite::{Suite, TIMEOUT};
use palabre_e2e::wait_for;
use palabre_room::{Format, Inbox, MachineState, Message, Name, PipeWriter, RoomDir};
use palabre_sound::measure::{goertzel_dbfs, rms_dbfs, tone};

const TONE_HZ: f64 = 1_000.0;
const TONE_DBFS: f64 = -20.0;
const FRAME: usize = 480;

/// The people of the machine `paris` in its file.
const PEOPLE: &str = "alice\there\ttalking -21.3\tAlice\nbob\there hand\t-\tBob le Bricoleur\ncarol\there muted\t-\tCarole\ndan\taway\t-\tDan\n";

/// A simulated machine `paris`: the test writes its file, and its sound into a pipe, as `palabre-bridge` does for a real machine.
struct Paris {
    room: RoomDir,
    inbox: Inbox,
    is_silent: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    sound: Option<JoinHandle<()>>,
}

fn paris() -> Name {
    "paris".parse().unwrap()
}

impl Paris {
    fn start(suite: &Suite) -> Self {
        let room = RoomDir::new(suite.room());
        let machines = room.machines();
        machines.create(&[paris()]).unwrap();
        let inbox = Inbox::bind_for_machines(&machines).unwrap();
        let path = machines.from(&paris());
        let mut pipe = wait_for("the mixer", TIMEOUT, || PipeWriter::open_sums(&path, Format::default()).ok()).unwrap();
        let (is_silent, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (silent, stopped) = (Arc::clone(&is_silent), Arc::clone(&stop));
        let sound = std::thread::spawn(move || {
            let sums: Vec<i32> = tone(24_000, TONE_HZ, TONE_DBFS, FRAME).into_iter().map(i32::from).collect();
            let mut due = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                if !silent.load(Ordering::Relaxed) {
                    let _ = pipe.write_sums(&sums);
                }
                due += Duration::from_millis(20);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Self { room, inbox, is_silent, stop, sound: Some(sound) }
    }

    /// Replaces the file of the machine. `head` is its first line.
    fn write(&self, head: &str, people: &str) {
        let state: MachineState = format!("{head}\n{people}").parse().unwrap();
        self.room.other_machines().write(&paris(), &state).unwrap();
    }
}

impl Drop for Paris {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.sound.take().map(JoinHandle::join);
    }
}

fn join(url: &str) -> Browser {
    let voice = Path::new(env!("CARGO_MANIFEST_DIR")).join("speech/english-man-16000Hz-mono.wav");
    let browser = Browser::start_without_motion(Some(&voice), "en").unwrap();
    browser.tap_sound().unwrap();
    browser.open(url).unwrap();
    browser.wait_until("window.palabreState?.screen === 'door'").unwrap();
    browser.click("#join").unwrap();
    browser.wait_until("palabreState.connection === 'live' && palabreState.microphone === 'on'").unwrap();
    browser
}

/// Returns a JavaScript expression that finds a participant's row with this class.
fn has(name: &str, class: &str) -> String {
    format!("document.querySelector('#people [data-name=\"{name}\"].{class}')")
}

/// Waits until the page plays the tone, or no longer plays it.
fn hears_tone(browser: &Browser, is_heard: bool) {
    wait_for("the tone of the other machine to begin or end", TIMEOUT, || {
        let (length, rate_hz) = browser.tapped(Tap::Output).ok()?;
        let tenth = rate_hz as usize / 10;
        let samples = browser.tap_from(Tap::Output, length.checked_sub(tenth)?).ok()?;
        let level = goertzel_dbfs(samples.get(..tenth)?, rate_hz, TONE_HZ);
        (is_heard == ((level - TONE_DBFS).abs() < 1.0)).then_some(())
    })
    .unwrap();
}

/// Checks that the panel of a person on another machine says why it has no volume control, also to a user of the keyboard.
fn says_why_there_is_no_volume(browser: &Browser) {
    let row = "#people [data-name=\"alice@paris\"]";
    let controls = format!(
        "const row = document.querySelector('{row}'); \
         return [row.querySelector('.mute-for-me'), row.querySelector('.more').getAttribute('aria-label')]"
    );
    assert_eq!(browser.run(&controls).unwrap(), serde_json::json!([null, "Volume of Alice · paris"]));
    browser.run(&format!("document.querySelector('{row} .more').focus()")).unwrap();
    for kind in ["rawKeyDown", "char", "keyUp"] {
        let key = serde_json::json!({ "type": kind, "key": "Enter", "text": "\r", "windowsVirtualKeyCode": 13 });
        browser.devtools("Input.dispatchKeyEvent", key).unwrap();
    }
    browser.wait_until("document.getElementById('person').open").unwrap();
    let shown = "return [document.activeElement.id, document.getElementById('person-controls').checkVisibility(), \
                 document.getElementById('person-elsewhere').textContent.includes('paris')]";
    assert_eq!(browser.run(shown).unwrap(), serde_json::json!(["person-close", false, true]));
    check(browser, "machine-person").unwrap();
    browser.click("#person-close").unwrap();
}

#[test]
fn pages_on_two_machines_talk_see_and_write_to_each_other() {
    let machines = Machines::start(2, &["--no-voices"]).unwrap();
    let lyon = join(&machines.links[0][0]);
    let paris = join(&machines.links[1][0]);
    lyon.wait_until(&has("alice@paris", "talking")).unwrap();
    paris.wait_until(&has("alice@lyon", "talking")).unwrap();
    loudness_is(&lyon, |dbfs| dbfs > -45.0);
    loudness_is(&paris, |dbfs| dbfs > -45.0);
    check(&paris, "two-machines").unwrap();
    // The participant on the machine `paris` still talks. The machine `lyon` must not send this sound back to `paris`.
    lyon.click("#mute").unwrap();
    paris.wait_until(&has("alice@lyon", "silenced")).unwrap();
    loudness_is(&paris, |dbfs| dbfs < -80.0);
    lyon.click("#messages-toggle").unwrap();
    lyon.type_into("#message-line", "Bonjour de Lyon").unwrap();
    lyon.click("#write button").unwrap();
    paris.wait_until("document.querySelector('[role=log]').textContent === 'Alice · lyon: Bonjour de Lyon'").unwrap();
}

/// Waits until the page plays half a second with the right RMS level in dBFS.
fn loudness_is(browser: &Browser, is_right: impl Fn(f64) -> bool) {
    wait_for("the right loudness", TIMEOUT, || {
        let (length, rate_hz) = browser.tapped(Tap::Output).ok()?;
        let half = rate_hz as usize / 2;
        let samples = browser.tap_from(Tap::Output, length.checked_sub(half)?).ok()?;
        is_right(rms_dbfs(samples.get(..half)?)).then_some(())
    })
    .unwrap();
}

#[test]
fn people_of_another_machine_are_seen_heard_and_read_until_they_are_cut_off_and_when_they_come_back() {
    let suite = Suite::start_configured(1, "[room]\nlevelling = false\n").unwrap();
    let browser = join(&suite.links[0].url);
    let paris = Paris::start(&suite);
    paris.write("connected", PEOPLE);
    browser.wait_until(&has("alice@paris", "talking")).unwrap();
    hears_tone(&browser, true);
    browser.wait_until(&format!("{} && {}", has("bob@paris", "hand"), has("carol@paris", "silenced"))).unwrap();
    browser.wait_until(&format!("{} && document.getElementById('alone').hidden", has("dan@paris", "away"))).unwrap();
    let words = "return document.querySelector('[data-name=\"alice@paris\"] .words').innerText.replace(/\\s+/g, ' ')";
    assert_eq!(browser.run(words).unwrap(), "Alice · paris");
    check(&browser, "machine").unwrap();
    says_why_there_is_no_volume(&browser);

    let text = Message::new("alice@paris".parse().unwrap(), "Bonjour de Paris").unwrap().with_id("1").unwrap();
    paris.room.tell(&text).unwrap();
    browser
        .wait_until("document.querySelector('[role=log]').textContent === 'Alice · paris: Bonjour de Paris'")
        .unwrap();
    browser.click("#messages-toggle").unwrap();
    browser.type_into("#message-line", "Hello").unwrap();
    browser.click("#write button").unwrap();
    wait_for("the text to the other machine", TIMEOUT, || {
        let texts = paris.inbox.receive(9).1;
        texts.iter().any(|it| it.text == "Hello" && it.from.to_string() == "p01").then_some(())
    })
    .unwrap();
    check(&browser, "machine-texts").unwrap();
    browser.click("#messages-close").unwrap();

    paris.is_silent.store(true, Ordering::Relaxed);
    paris.write("cut-off", PEOPLE);
    let notice = "document.querySelector('.notice strong')?.textContent";
    browser.wait_until(&format!("{notice} === 'Cut off from paris'")).unwrap();
    browser.wait_until("document.getElementById('spoken').textContent.includes('Cut off from paris')").unwrap();
    browser.wait_until(&format!("{} && !{}", has("alice@paris", "cut-off"), has("alice@paris", "talking"))).unwrap();
    assert_eq!(browser.run("return palabreState.connection").unwrap(), "live");
    browser.wait_until("document.getElementById('mic-hint').textContent === 'everyone else can hear you'").unwrap();
    hears_tone(&browser, false);
    check(&browser, "machine-cut-off").unwrap();

    paris.is_silent.store(false, Ordering::Relaxed);
    paris.write("connected recorded", PEOPLE);
    browser.wait_until(&format!("{} && !{}", has("alice@paris", "talking"), has("alice@paris", "cut-off"))).unwrap();
    browser
        .wait_until(&format!("!{notice} && document.getElementById('recorded').textContent.startsWith('REC')"))
        .unwrap();
    hears_tone(&browser, true);
    many_people(&browser, &paris);
    paris.room.other_machines().remove(&self::paris()).unwrap();
    browser.wait_until("document.querySelectorAll('#people .person').length === 1").unwrap();
}

/// Checks a list with people of another machine, who are counted and can be searched by their machine.
fn many_people(browser: &Browser, paris: &Paris) {
    let people: String = (2..=30).map(|n| format!("p{n:02}\there\t-\tMarie-Antoinette Personne {n}\n")).collect();
    paris.write("connected", &format!("alice\there\ttalking -21.3\tAlice\n{people}"));
    browser.wait_until("document.getElementById('count').textContent === '31 people here'").unwrap();
    browser.wait_until("document.querySelector('#stage [data-name=\"alice@paris\"]')").unwrap();
    check(browser, "machine-crowd").unwrap();
    let search = |text: &str| {
        browser
            .run(&format!(
                "const s = document.getElementById('search'); s.value = '{text}'; s.dispatchEvent(new Event('input'));"
            ))
            .unwrap();
    };
    search("Paris");
    browser.wait_until("document.querySelectorAll('#people .person:not([hidden])').length === 30").unwrap();
    search("");
}
