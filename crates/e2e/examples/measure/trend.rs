//! The straight line that lies nearest to some points.

/// Of points `(x, y)`.
pub struct Trend {
    /// Of y.
    pub mean: f64,
    /// y for each x.
    pub slope: f64,
    /// How far the slope may be from the true one: one standard error, if the points err independently of each other.
    pub slope_error: f64,
    /// How far the points lie from the line: root of the mean square.
    pub noise: f64,
}

impl Trend {
    /// Of at least three points.
    pub fn through(points: &[(f64, f64)]) -> Self {
        let count = points.len() as f64;
        let average = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (middle, mean) = (average(&|p| p.0), average(&|p| p.1));
        let spread = average(&|p| (p.0 - middle).powi(2));
        let slope = average(&|p| (p.0 - middle) * (p.1 - mean)) / spread;
        let noise = average(&|p| (p.1 - mean - slope * (p.0 - middle)).powi(2)).sqrt();
        Self { mean, slope, slope_error: noise / (spread * (count - 2.0)).sqrt(), noise }
    }
}
