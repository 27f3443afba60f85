//! Plots values over time as SVG: curves with their names, on a grid with numbers.

use std::fmt::Write as _;

/// A line of a plot.
#[derive(Debug)]
pub struct Curve<'a> {
    /// Name, which the plot shows.
    pub name: &'a str,
    /// Colour, as in CSS.
    pub colour: &'a str,
    /// The points `(x, y)`.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 34.0;
const STEPS: usize = 5;

/// Returns a plot with axes `x` and `y`, which begin at 0.
#[must_use]
pub fn svg(title: &str, x: &str, y: &str, curves: &[Curve]) -> String {
    let most = |of: fn(&(f64, f64)) -> f64| {
        round_up(curves.iter().flat_map(|curve| &curve.points).map(of).filter(|v| v.is_finite()).fold(1.0, f64::max))
    };
    let (most_x, most_y) = (most(|p| p.0), most(|p| p.1));
    let place = |(at, value): (f64, f64)| {
        let across = LEFT + at / most_x * (WIDTH - LEFT - 20.0);
        (across, HEIGHT - BOTTOM - value / most_y * (HEIGHT - BOTTOM - TOP))
    };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\
         <title>{title}</title><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for step in 0..=STEPS {
        let share = step as f64 / STEPS as f64;
        let ((left, up), (right, _)) = (place((0.0, share * most_y)), place((most_x, 0.0)));
        let (across, down) = place((share * most_x, 0.0));
        let _ = writeln!(
            text,
            "<path d=\"M{left:.0} {up:.1}H{right:.0}\" stroke=\"#ddd\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{:.0}</text>\
             <text x=\"{across:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{:.0}</text>",
            left - 6.0,
            up + 4.0,
            share * most_y,
            down + 16.0,
            share * most_x
        );
    }
    let _ = writeln!(text, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{x}</text>", WIDTH - 20.0, HEIGHT - 6.0);
    let _ = writeln!(text, "<text x=\"6\" y=\"18\">{y}</text>");
    for (curve, nth) in curves.iter().zip(0u8..) {
        let points: Vec<String> = curve
            .points
            .iter()
            .filter(|(_, value)| value.is_finite())
            .map(|&point| place(point))
            .map(|(across, up)| format!("{across:.1},{up:.1}"))
            .collect();
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\"/>\
             <text x=\"{}\" y=\"18\" fill=\"{}\">{}</text>",
            points.join(" "),
            curve.colour,
            LEFT + 60.0 + 200.0 * f64::from(nth),
            curve.colour,
            curve.name
        );
    }
    text + "</svg>\n"
}

/// Rounds up to one significant digit, for readable labels.
fn round_up(value: f64) -> f64 {
    let unit = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
        .into_iter()
        .map(|digit| digit * unit)
        .find(|&up| up >= value)
        .unwrap_or(value)
}
