//! The examples of `docs/injected-stream.md`, for tests that compare the code with the documentation.

/// Returns the text of the fenced block with this tag in `docs/injected-stream.md`.
pub(crate) fn example(tag: &str) -> &'static str {
    let document = include_str!("../../../docs/injected-stream.md");
    let start = format!("```{tag}\n");
    let (_, rest) =
        document.split_once(start.as_str()).unwrap_or_else(|| panic!("docs/injected-stream.md has no block '{tag}'"));
    rest.split("\n```").next().unwrap_or_default()
}

/// Returns the bytes of the block of hexadecimal numbers with this tag.
#[allow(clippy::unwrap_used)]
pub(crate) fn hex(tag: &str) -> Vec<u8> {
    example(tag).split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}
