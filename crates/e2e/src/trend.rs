//! Linear regression.

/// The regression line of points `(x, y)`.
#[derive(Clone, Copy, Debug)]
pub struct Trend {
    /// Mean of y.
    pub mean: f64,
    /// Change of y per x.
    pub slope: f64,
    /// Standard error of the slope, for points with independent errors.
    pub slope_error: f64,
    /// Root mean square distance of the points from the line.
    pub noise: f64,
    /// Correlation of the distances of neighbouring points from the line, at least 0.
    pub correlation: f64,
}

impl Trend {
    /// Fits a line to at least three points.
    #[must_use]
    pub fn through(points: &[(f64, f64)]) -> Self {
        let count = points.len() as f64;
        let average = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (middle, mean) = (average(&|p| p.0), average(&|p| p.1));
        let spread = average(&|p| (p.0 - middle).powi(2));
        let slope = average(&|p| (p.0 - middle) * (p.1 - mean)) / spread;
        let distance = |p: &(f64, f64)| p.1 - mean - slope * (p.0 - middle);
        let noise = average(&|p| distance(p).powi(2)).sqrt();
        let products: f64 = points.windows(2).map(|pair| distance(&pair[0]) * distance(&pair[1])).sum();
        let correlation = if noise > 0.0 { (products / (count * noise * noise)).clamp(0.0, 0.99) } else { 0.0 };
        Self { mean, slope, slope_error: noise / (spread * (count - 2.0)).sqrt(), noise, correlation }
    }

    /// Returns the standard error of the slope if the error of each point depends on the error of the previous point (autoregressive process of order 1).
    #[must_use]
    pub fn correlated_error(&self) -> f64 {
        self.slope_error * ((1.0 + self.correlation) / (1.0 - self.correlation)).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between -0.5 and 0.5 without any correlation: n, mixed by the last steps of MurmurHash3.
    fn noise(n: u32) -> f64 {
        let mut bits = n + 1;
        for (shift, factor) in [(16, 0x85eb_ca6b_u32), (13, 0xc2b2_ae35), (16, 1)] {
            bits = (bits ^ (bits >> shift)).wrapping_mul(factor);
        }
        f64::from(bits) / f64::from(u32::MAX) - 0.5
    }

    #[test]
    fn slope_of_a_noisy_line_is_found_within_its_error() {
        let points: Vec<_> = (0..200_u32).map(|n| (f64::from(n), 0.01 * f64::from(n) + noise(n))).collect();
        let trend = Trend::through(&points);
        assert!((trend.slope - 0.01).abs() < 3.0 * trend.slope_error && trend.slope > 5.0 * trend.slope_error);
        assert!(trend.correlation < 0.3, "{trend:?}");
    }

    #[test]
    fn error_is_larger_if_each_point_depends_on_the_previous_one() {
        let mut value = 0.0;
        let walk = |n: u32| {
            value = 0.9 * value + noise(n);
            (f64::from(n), value)
        };
        let trend = Trend::through(&(0..400).map(walk).collect::<Vec<_>>());
        assert!(trend.correlation > 0.7 && trend.correlated_error() > 2.0 * trend.slope_error, "{trend:?}");
    }
}
