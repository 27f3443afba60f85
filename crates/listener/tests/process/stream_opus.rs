//! Tests of streams with Opus and ADPCM.

use crate::client::{Record, Records};
use crate::rig::{Feed, Rig, signal, tones, wait_for_exit};
use palabre_sound::opus::{Decoder, LOOKAHEAD};
use std::collections::BTreeMap;
use std::time::Duration;

const FRAME: Duration = Duration::from_millis(20);
/// Delay of the decoder's output at 24 kHz, in samples.
const DELAY: usize = LOOKAHEAD * 24_000 / 48_000;

/// Decodes the sound records of a stream as a page does.
struct Ear {
    records: Records,
    decoder: Decoder,
    /// SEQ and decoded samples of each sound record, in order.
    heard: Vec<(u64, Vec<i16>)>,
    /// The decoded samples of the present sound, which begins with GAP 1.
    spurt: Vec<i16>,
}

impl Ear {
    fn new(rig: &Rig, query: &str) -> Self {
        let records = rig.connect().listen(rig, query);
        Self { records, decoder: Decoder::new(24_000).unwrap(), heard: Vec::new(), spurt: Vec::new() }
    }

    /// Reads the next record, and decodes its sound.
    fn record(&mut self) -> Record {
        let record = self.records.record();
        let mut samples = record.samples.clone();
        if record.preroll > 0 || record.gap {
            self.decoder = Decoder::new(24_000).unwrap();
        }
        for packet in &record.packets {
            self.decoder.decode(packet, &mut samples).unwrap();
        }
        samples.drain(..record.preroll * 480);
        if record.gap {
            self.spurt.clear();
        }
        self.spurt.extend(&samples);
        if matches!(record.kind, 1 | 10) {
            self.heard.push((record.seq, samples));
        }
        record
    }

    /// Reads records up to the `count`th sound record from now. Returns this record.
    fn sound(&mut self, count: usize) -> Record {
        let mut sounds = std::iter::repeat_with(|| self.record()).filter(|record| matches!(record.kind, 1 | 10));
        sounds.nth(count - 1).unwrap()
    }

    /// Reads records until a silence record has followed at least this number of samples of sound. Returns the SEQ of the silence
    /// record, and the sound before it, for each sound that was heard.
    fn until_silence(&mut self, samples: usize) -> BTreeMap<u64, Vec<i16>> {
        let mut spurts = BTreeMap::new();
        loop {
            let record = self.record();
            if record.kind == 2 && !self.spurt.is_empty() {
                let spurt = std::mem::take(&mut self.spurt);
                let is_long = spurt.len() >= samples;
                spurts.insert(record.seq, spurt);
                if is_long {
                    return spurts;
                }
            }
        }
    }
}

/// Returns the ratio of `signal` to the difference between `signal` and `other`, in dB.
fn snr(signal: &[i16], other: &[i16]) -> f64 {
    let power = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let difference = power(&mut signal.iter().zip(other).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    10.0 * (power(&mut signal.iter().map(|value| f64::from(*value))) / difference.max(1.0)).log10()
}

/// Returns the lowest [`snr`] of all windows of 20 ms, and its place in ms. Ignores the first 60 ms, in which the decoder adapts to the sound.
fn worst(signal: &[i16], other: &[i16]) -> (f64, usize) {
    let windows = signal.chunks_exact(480).zip(other.chunks_exact(480)).enumerate().skip(3);
    let ratios = windows.map(|(number, (signal, other))| (snr(signal, other), number * 20));
    ratios.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

#[test]
fn opus_at_every_rate_has_the_sound_of_pcm_without_gaps_and_to_its_end() {
    let rig = Rig::new();
    let mut pcm = Ear::new(&rig, "");
    let mut others =
        ["?codec=opus", "?codec=opus&kbps=16", "?codec=opus&kbps=32", "?codec=opus"].map(|it| Ear::new(&rig, it));
    let feed = Feed::of(tones, rig.ear(), 0, FRAME);
    while pcm.spurt.len() < 24_000 {
        pcm.record();
    }
    drop(feed);
    let expected = pcm.until_silence(24_000);
    for other in &mut others {
        let heard = other.until_silence(24_000);
        let (seq, heard) = heard.last_key_value().unwrap();
        let Some(expected) = expected.get(seq) else { panic!("no silence record {seq}") };
        // The end of the sound is complete: the encoder appended zeros, because the decoder's output is delayed.
        assert!(heard.len() >= expected.len() + DELAY, "{} of {}", heard.len(), expected.len());
        let (ratio, at) = worst(expected, &heard[DELAY..]);
        println!("lowest SNR {ratio:.1} dB at {at} ms of {}", expected.len() / 24);
        assert!(ratio > 6.0, "{ratio:.1} dB at {at} ms of {}", expected.len() / 24);
    }
    assert_eq!(others[0].heard, others[3].heard);
}

#[test]
fn stream_that_begins_in_the_middle_continues_the_sound_of_another_stream() {
    let rig = Rig::new();
    let mut first = Ear::new(&rig, "?codec=opus");
    let _feed = Feed::of(tones, rig.ear(), 0, FRAME);
    first.sound(10);
    // `renewed` begins as when a page renews its stream, `resumed` as when a page reconnects after a lost connection.
    let from = first.heard.last().unwrap().0;
    let mut renewed = Ear::new(&rig, "?codec=opus&page=a&people=0123456789abcdef");
    let mut resumed = Ear::new(&rig, &format!("?codec=opus&from={from}"));
    let opening = resumed.sound(1);
    assert!((4..18).contains(&opening.preroll) && !opening.gap, "{} {}", opening.preroll, opening.gap);
    renewed.sound(12);
    resumed.sound(12);
    first.sound(12);
    let whole: BTreeMap<u64, Vec<i16>> = first.heard.into_iter().collect();
    for other in [renewed, resumed] {
        let mut common = 0;
        for (seq, samples) in &other.heard {
            let Some(expected) = whole.get(seq) else { continue };
            common += 1;
            assert_eq!(samples.len(), expected.len());
            let ratio = snr(expected, samples);
            println!("SEQ {seq}: {ratio:.1} dB");
            assert!(ratio > 8.0, "{ratio:.1} dB");
        }
        assert!(common >= 5, "{common} of {}", other.heard.len());
    }
}

#[test]
fn stream_of_another_rate_continues_the_sound_of_the_first() {
    let rig = Rig::new();
    let (mut pcm, mut first) = (Ear::new(&rig, ""), Ear::new(&rig, "?codec=opus&kbps=32"));
    let feed = Feed::of(tones, rig.ear(), 0, FRAME);
    pcm.sound(15);
    let from = first.sound(15).seq;
    for rate in ["24", "16", "32"] {
        let mut next = Ear::new(&rig, &format!("?codec=opus&kbps={rate}&from={from}"));
        let opening = next.sound(1);
        assert!(opening.preroll >= 4 && !opening.gap, "{} {}", opening.preroll, opening.gap);
        let joined = next.heard[0].1.clone();
        assert_eq!(joined.len(), (opening.packets.len() - opening.preroll) * 480);
        // Find the same sound in the PCM stream: the samples after the chunk `from`.
        while pcm.heard.last().unwrap().0 < opening.seq {
            pcm.sound(1);
        }
        let expected: Vec<i16> = pcm.heard.iter().flat_map(|(_, samples)| samples).copied().collect();
        let before: usize = pcm.heard.iter().filter(|(seq, _)| *seq <= from).map(|(_, samples)| samples.len()).sum();
        let ratio = snr(&expected[before - DELAY..], &joined);
        println!("{rate} kbit/s: {ratio:.1} dB");
        assert!(ratio > 6.0, "{rate} kbit/s: {ratio:.1} dB");
    }
    drop(feed);
}

#[test]
fn records_at_16_kbit_s_have_80_ms_unless_the_sound_ends() {
    let rig = Rig::new();
    let mut thin = Ear::new(&rig, "?codec=opus&kbps=16");
    let feed = Feed::of(tones, rig.ear(), 0, FRAME);
    for _ in 0..10 {
        let record = thin.sound(1);
        assert!(record.packets.len() >= 4 || thin.record().kind == 2, "{record:?}");
    }
    drop(feed);
    assert!(!thin.until_silence(1).is_empty());
}

#[test]
fn silence_without_sound_before_it_has_no_packets() {
    let rig = Rig::new();
    let mut first = Ear::new(&rig, "?codec=opus");
    let silence = first.records.next_of(2);
    assert!(silence.packets.is_empty());
    assert!(first.records.next_of(2).packets.is_empty());
}

#[test]
fn adpcm_has_the_sound_of_pcm() {
    let rig = Rig::new();
    let (mut pcm, mut first, mut second) =
        (Ear::new(&rig, ""), Ear::new(&rig, "?codec=adpcm"), Ear::new(&rig, "?codec=adpcm"));
    let _feed = Feed::of(tones, rig.ear(), 0, FRAME);
    for _ in 0..10 {
        let expected = pcm.sound(1);
        let compressed = first.sound(1);
        assert_eq!(compressed, second.sound(1));
        assert_eq!((compressed.seq, compressed.gap), (expected.seq, expected.gap));
        assert_eq!(compressed.wav, palabre_sound::adpcm::wav(24_000, &expected.samples));
    }
}

#[test]
fn invalid_codec_is_400_and_a_codec_that_is_turned_off_is_404() {
    let status = |rig: &Rig, query: &str| {
        ["HEAD", "GET"].map(|it| rig.connect().request(it, &format!("/listen?{query}"), &rig.bearer()).status)
    };
    let rig = Rig::new();
    for query in [
        "codec=mp3",
        "codec=opus&kbps=20",
        "codec=opus&kbps=",
        "kbps=24",
        "codec=adpcm&kbps=24",
        "codec=opus&kbps=24.0",
    ] {
        assert_eq!(status(&rig, query), [400, 400], "{query}");
    }
    let rig = Rig::with("[stream]\ncodec = \"pcm\"\n");
    for query in ["codec=opus", "codec=adpcm"] {
        assert_eq!(status(&rig, query), [404, 404], "{query}");
    }
    assert!(!rig.connect().get(&rig, "/me").text().contains("codec"));
    let rig = Rig::with("[stream]\ncodec = \"opus\"\n");
    assert!(rig.connect().get(&rig, "/me").text().contains("\"codec\":\"opus\""));
}

#[test]
fn codecs_of_the_streams_are_reported() {
    let rig = Rig::new();
    let _streams = ["", "?codec=opus&kbps=32", "?codec=adpcm"].map(|query| {
        let mut ear = Ear::new(&rig, query);
        ear.record();
        ear
    });
    let report = rig.wait_for_report("three streams", |report| report.streams == 3);
    assert_eq!(report.down.map(|codec| codec.to_string()), Some("ADPCM".to_owned()));
    assert_eq!((report.codecs.pcm, report.codecs.opus, report.codecs.adpcm), (1, 1, 1));
}

#[test]
fn handover_continues_the_sound_of_the_previous_process() {
    let mut rig = Rig::new();
    let mut old = Ear::new(&rig, "?codec=opus");
    let _feed = Feed::of(tones, rig.ear(), 0, FRAME);
    old.sound(10);
    let mut first = rig.replace();
    signal(&first, "USR1");
    while old.record().kind != 5 {}
    let from = old.sound(2).seq;
    let mut new = Ear::new(&rig, &format!("?codec=opus&from={from}"));
    while !old.record().is_last {}
    let opening = new.sound(1);
    new.sound(10);
    assert!(opening.preroll >= 12 && !opening.gap, "{} {}", opening.preroll, opening.gap);
    assert!(!rig.ear_path().with_file_name("ear-end").exists());
    let [before, after] =
        [&old, &new].map(|ear| -> Vec<i16> { ear.heard.iter().flat_map(|it| &it.1).copied().collect() });
    let expected: Vec<i16> = (0..(before.len() + after.len()) / 480).flat_map(tones).collect();
    let seam = before.len() - DELAY;
    let whole = [before, after].concat();
    assert!(seam > 4800 && whole.len() > seam + 4800, "the seam is in the middle: {seam} of {}", whole.len());
    for (place, samples) in
        expected.chunks_exact(480).zip(whole[DELAY..].chunks_exact(480)).map(|(a, b)| snr(a, b)).enumerate().skip(3)
    {
        assert!(samples > 6.0, "{samples:.1} dB at {} ms; the seam is at {} ms", place * 20, seam / 24);
    }
    let around = seam - 480..seam + 480;
    println!("at the seam {:.1} dB", snr(&expected[around.clone()], &whole[DELAY..][around]));
    drop(old);
    assert!(wait_for_exit(&mut first).success());
}

#[test]
fn bytes_on_the_wire_are_a_tenth_of_those_of_pcm() {
    let rig = Rig::new();
    let mut ears =
        ["", "?codec=adpcm", "?codec=opus&kbps=32", "?codec=opus", "?codec=opus&kbps=16"].map(|it| Ear::new(&rig, it));
    let _feed = Feed::of(tones, rig.ear(), 0, FRAME);
    let bytes_per_s = ears.each_mut().map(|ear| {
        ear.sound(4);
        let (before, heard) = (ear.records.client.stream.sock.received, ear.heard.len());
        ear.sound(50);
        let frames: usize = ear.heard[heard..].iter().map(|it| it.1.len() / 480).sum();
        let frames = if frames == 0 { 100 } else { frames };
        (ear.records.client.stream.sock.received - before) * 50 / frames
    });
    println!("bytes of TLS per second of sound: {bytes_per_s:?} (PCM, ADPCM, Opus at 32, 24 and 16 kbit/s)");
    let [pcm, adpcm, _, opus, thin] = bytes_per_s;
    assert!(adpcm * 2 < pcm && opus * 8 < pcm && thin * 15 < pcm, "{bytes_per_s:?}");
}
