//! Formats a table for a terminal: aligned columns with two spaces between them, without trailing spaces.

/// Returns the lines of the table. Control characters in cells are replaced.
pub(crate) fn lines<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| printable(cell))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
        cells.collect::<String>().trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Replaces control characters, so that the text can't move the terminal's cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_replaced() {
        let rows = [["A", "B"], ["é\x1b[2J", ""], ["", "x"]].map(|row| row.map(str::to_owned));
        assert_eq!(lines(&rows), ["A      B", "é\u{fffd}[2J", "       x"]);
    }
}
