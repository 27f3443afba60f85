//! The tone of the measurements, and how gaps and clicks are found in it.

/// Frequency of the tone.
pub const TONE_HZ: f64 = 440.0;
/// RMS level of the tone.
pub const TONE_DBFS: f64 = -20.0;

/// Returns the number of gaps, which are windows of 5 ms in which the tone is at least 6 dB too quiet, and the number of clicks. Gaps or clicks
/// within 20 ms count once.
pub fn disturbances(samples: &[i16], rate_hz: u32) -> (usize, usize) {
    let window = rate_hz as usize / 200;
    let gaps = quiet_windows(samples, rate_hz).enumerate().filter(|(_, quiet)| *quiet).map(|(at, _)| at * window);
    (events(gaps, rate_hz), breaks(samples, rate_hz))
}

/// Returns for each window of 5 ms whether the tone is at least 6 dB too quiet.
pub fn quiet_windows(samples: &[i16], rate_hz: u32) -> impl Iterator<Item = bool> {
    let most = move |w: &[i16]| f64::from(w.iter().map(|&x| i32::from(x).abs()).max().unwrap_or(0));
    samples.chunks_exact(rate_hz as usize / 200).map(move |window| most(window) < peak() / 2.0)
}

/// Counts the places where the samples deviate from a sine. Places within 20 ms count once.
fn breaks(samples: &[i16], rate_hz: u32) -> usize {
    // A sine of this frequency satisfies x[n+1] = 2 cos(w) x[n] − x[n−1].
    let two_cos = 2.0 * (std::f64::consts::TAU * TONE_HZ / f64::from(rate_hz)).cos();
    let broken = |x: &[i16]| (f64::from(x[2]) - two_cos * f64::from(x[1]) + f64::from(x[0])).abs() > peak() * 0.02;
    events(samples.windows(3).enumerate().filter(|(_, x)| broken(x)).map(|(at, _)| at), rate_hz)
}

/// Returns the peak of the tone.
pub fn peak() -> f64 {
    32_768.0 * 10f64.powf(TONE_DBFS / 20.0) * 2f64.sqrt()
}

/// Counts the places, which are sample numbers in ascending order. Places within 20 ms count once.
pub fn events(places: impl Iterator<Item = usize>, rate_hz: u32) -> usize {
    let mut count = 0;
    let mut last = None;
    for at in places {
        if last.is_none_or(|last| at - last > rate_hz as usize / 50) {
            count += 1;
        }
        last = Some(at);
    }
    count
}
