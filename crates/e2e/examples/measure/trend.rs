//! Linear regression.

/// The regression line of points `(x, y)`.
pub struct Trend {
    /// Mean of y.
    pub mean: f64,
    /// Change of y per x.
    pub slope: f64,
    /// Standard error of the slope, for points with independent errors.
    pub slope_error: f64,
    /// Root mean square distance of the points from the line.
    pub noise: f64,
}

impl Trend {
    /// Fits a line to at least three points.
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
