//! Checks the sounds that announce messages, raised hands and participants who join, in any browser.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::client::Recording;
use crate::keyboard::Page;
use crate::suite::Suite;

/// Records what each new AudioContext plays. A sound ends before the analyser's buffer of at least 0.6 s is full, so the buffer contains all of it.
/// `tonesOf(analyser)` returns the frequencies that the sound contains. For alerts.js, `performance.now` advances by 2 s per call, so that the page never
/// waits between two sounds.
const LISTEN: &str = "
    window.sounds = [];
    const { connect } = AudioNode.prototype;
    AudioNode.prototype.connect = function (target, ...rest) {
        if (target === this.context.destination) {
            const analyser = new AnalyserNode(this.context, { fftSize: 32768 });
            connect.call(this, analyser);
            window.sounds.push(analyser);
        }
        return connect.call(this, target, ...rest);
    };
    const amplitude = (samples, cyclesPerSample) => {
        let [re, im] = [0, 0];
        samples.forEach((x, i) => {
            const share = (2 * x * (1 - Math.cos((2 * Math.PI * i) / samples.length))) / samples.length;
            re += share * Math.cos(2 * Math.PI * cyclesPerSample * i);
            im += share * Math.sin(2 * Math.PI * cyclesPerSample * i);
        });
        return Math.hypot(re, im);
    };
    window.tonesOf = (analyser) => {
        const samples = new Float32Array(analyser.fftSize);
        analyser.getFloatTimeDomainData(samples);
        const parts = Array.from({ length: 16 }, (_, part) => samples.subarray(2048 * part, 2048 * (part + 1)));
        const peak = (hz) => Math.max(...parts.map((part) => amplitude(part, hz / analyser.context.sampleRate)));
        return [520, 660, 880].filter((hz) => peak(hz) > 0.08);
    };
    const now = performance.now.bind(performance);
    let laterMs = 0;
    performance.now = () => now() + (/alerts[.]js/.test(new Error().stack) ? (laterMs += 2000) : 0);";

/// Checks that p03's arrival, raised hand and message are silent at first, and that each switch turns on one sound. The panel of messages must be closed,
/// the volume 100 %, and p03 and p04 absent.
pub fn announce_events(suite: &Suite, page: &impl Page) -> Result<()> {
    page.run(LISTEN)?;
    let _third = joins(suite, page, "p03")?;
    raises_hand(suite, page, true)?;
    writes(suite, page, "no sound is on")?;
    ensure!(page.run("return sounds.length")? == 0, "a sound was played before a switch was on");
    plays(page, "texts", &[880], || writes(suite, page, "the sound for messages is on"))?;
    plays(page, "hands", &[660, 880], || {
        writes(suite, page, "the sound for hands is on")?;
        raises_hand(suite, page, false)?;
        raises_hand(suite, page, true)
    })?;
    let mut fourth = None;
    plays(page, "joins", &[520, 660], || {
        writes(suite, page, "the sound for arrivals is on")?;
        fourth = Some(joins(suite, page, "p04")?);
        Ok(())
    })
}

/// Opens a stream of a participant, and waits until the page shows them.
fn joins(suite: &Suite, page: &impl Page, name: &str) -> Result<Recording> {
    let stream = suite.client.record(suite.link(name))?;
    page.wait_until(&format!("document.querySelector('#people [data-name={name}]:not(.away)')"))?;
    Ok(stream)
}

fn raises_hand(suite: &Suite, page: &impl Page, hand: bool) -> Result<()> {
    suite.post("p03", "/show", &json!({ "hand": hand, "microphone": "muted" }).to_string())?;
    page.wait_until(&format!("Boolean(document.querySelector('#people [data-name=p03].hand')) === {hand}"))
}

fn writes(suite: &Suite, page: &impl Page, text: &str) -> Result<()> {
    suite.post("p03", "/say", text)?;
    page.wait_until(&format!("document.querySelector('.message:last-child .message-text')?.textContent === '{text}'"))
}

/// Turns one kind of sound on, and checks that `events` play exactly one sound, which has these tones in Hz.
fn plays(page: &impl Page, kind: &str, tones: &[u32], events: impl FnOnce() -> Result<()>) -> Result<()> {
    let switch = || {
        page.click("#settings-open")?;
        page.click(&format!("#alert-{kind}"))?;
        page.click("#settings-close")
    };
    switch()?;
    page.run("sounds.length = 0")?;
    events()?;
    page.wait_until("sounds.length > 0 && sounds.at(-1).context.state === 'closed'")?;
    let heard = page.run("return sounds.map(tonesOf)")?;
    ensure!(heard == json!([tones]), "the switch for {kind} is on: the page played {heard}");
    switch()
}
