//! Measures quality and CPU time of Palabre's Opus encoder alone, and compares them with those of the libopus in ffmpeg.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use palabre_e2e::compare::convert;
use palabre_sound::opus::{self, Decoder, Encoder};
use palabre_sound::wav;

use crate::join::{SPEECH_RATE_HZ, read_speech};
use crate::pesq::{PESQ_HZ, score};
use crate::process::thread_cpu_ns;

const ROOM_HZ: u32 = 24_000;
const VOICES: [&str; 2] = ["english-man", "french-woman"];
const BIT_RATES_KBPS: [u32; 3] = [32, 24, 16];

/// Encodes and decodes recorded speech at each bit rate, with Palabre's encoder and with ffmpeg.
pub fn run() -> Result<()> {
    let dir = PathBuf::from("target/pesq/encoders");
    fs::create_dir_all(&dir)?;
    println!("encoders: PESQ-WB of speech at {ROOM_HZ} Hz; CPU time to encode");
    for voice in VOICES {
        let said = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("speech/{voice}-16000Hz-mono.wav"));
        let speech = convert(&read_speech(&said)?, SPEECH_RATE_HZ, ROOM_HZ);
        for kbps in BIT_RATES_KBPS {
            let (ours, peer) =
                (dir.join(format!("{voice}-{kbps}.wav")), dir.join(format!("{voice}-{kbps}-ffmpeg.wav")));
            let (cpu_ns, bytes) = palabre(&speech, kbps, &ours)?;
            ffmpeg(&said, kbps, &peer)?;
            let scores = score(&[said.clone(), ours, said.clone(), peer])?;
            let seconds = speech.len() as f64 / f64::from(ROOM_HZ);
            println!(
                "  {voice}, {kbps} kbit/s: palabre {:.2} ({:.2} % of a core, {:.1} kbit/s), ffmpeg's libopus {:.2}",
                scores[0],
                cpu_ns as f64 / 1e7 / seconds,
                bytes as f64 * 8.0 / 1000.0 / seconds,
                scores[1]
            );
        }
    }
    Ok(())
}

/// Returns the CPU time of encoding in ns, and the total length of all packets in bytes.
fn palabre(speech: &[i16], kbps: u32, heard: &Path) -> Result<(u64, usize)> {
    let mut encoder = Encoder::new(ROOM_HZ, kbps)?;
    let mut packets = Vec::new();
    let before = thread_cpu_ns()?;
    for frame in speech.chunks(opus::frame_samples(ROOM_HZ)) {
        let mut packet = Vec::new();
        encoder.encode(frame, &mut packet);
        packets.push(packet);
    }
    let cpu_ns = thread_cpu_ns()? - before;
    let (mut decoder, mut samples) = (Decoder::new(PESQ_HZ)?, Vec::new());
    packets.iter().try_for_each(|packet| decoder.decode(packet, &mut samples))?;
    fs::write(heard, wav::little(PESQ_HZ, &samples))?;
    Ok((cpu_ns, packets.iter().map(Vec::len).sum()))
}

fn ffmpeg(said: &Path, kbps: u32, heard: &Path) -> Result<()> {
    let ogg = heard.with_extension("ogg");
    let (room_hz, rate) = (ROOM_HZ.to_string(), format!("{kbps}k"));
    let encode = ["-ar", &room_hz, "-c:a", "libopus", "-b:a", &rate, "-application", "audio", "-frame_duration", "20"];
    convert_by_ffmpeg(said, &encode, &ogg)?;
    convert_by_ffmpeg(&ogg, &["-ar", &PESQ_HZ.to_string()], heard)
}

fn convert_by_ffmpeg(from: &Path, options: &[&str], to: &Path) -> Result<()> {
    let mut command = Command::new("ffmpeg");
    command.args(["-loglevel", "error", "-y", "-i"]).arg(from).args(options).arg(to);
    let status = command.status().context("unable to start 'ffmpeg'; install the package ffmpeg")?;
    ensure!(status.success(), "ffmpeg failed: {status}");
    Ok(())
}
