//! Draws a QR code in a terminal. Each character cell shows two modules, as Unicode half blocks.

use qrcode::{Color, EcLevel, QrCode};

/// Width of the light border that ISO/IEC 18004 requires, in modules.
const QUIET_ZONE: usize = 4;

/// Returns the QR code of `text` as lines; `None` if the text is too long. Foreground and background colours are set, so the code is
/// readable on dark and on light terminals.
pub(crate) fn terminal(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let width = code.width();
    let is_light = |x: usize, y: usize| {
        let inside = (QUIET_ZONE..QUIET_ZONE + width).contains(&x) && (QUIET_ZONE..QUIET_ZONE + width).contains(&y);
        !inside || code[(x - QUIET_ZONE, y - QUIET_ZONE)] == Color::Light
    };
    let side = width + 2 * QUIET_ZONE;
    let mut lines = String::new();
    for y in (0..side).step_by(2) {
        lines.push_str("\x1b[97;40m");
        lines.extend((0..side).map(|x| half_block(is_light(x, y), is_light(x, y + 1))));
        lines.push_str("\x1b[0m\n");
    }
    Some(lines)
}

fn half_block(upper: bool, lower: bool) -> char {
    match (upper, lower) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => ' ',
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn code_is_square_and_has_a_quiet_zone() {
        let text = terminal("https://room.example/?key=0123456789abcdef0123456789abcdef").unwrap();
        let lines: Vec<&str> = text.lines().map(|line| &line[8..line.len() - 4]).collect();
        let side = lines[0].chars().count();
        assert_eq!(lines.len(), side.div_ceil(2));
        assert!(lines[..2].iter().all(|line| line.chars().all(|cell| cell == '█')));
        assert!(lines.iter().all(|line| line.starts_with("████") && line.ends_with("████")));
        // The upper edge of the finder pattern: seven dark modules, then light.
        assert!(lines[2].starts_with("████ ▄▄▄▄▄ █"), "{}", lines[2]);
    }

    #[test]
    fn text_that_is_too_long_has_no_code() {
        assert!(terminal(&"x".repeat(5_000)).is_none());
    }
}
