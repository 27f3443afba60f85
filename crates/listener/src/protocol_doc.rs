//! The examples of `docs/injected-stream.md`, for the tests: what is documented is what is tested.

/// The text of the fenced block that begins with this tag.
///
/// # Panics
/// When the document has no such block.
pub fn example(tag: &str) -> &'static str {
    let document = include_str!("../../../docs/injected-stream.md");
    let start = format!("```{tag}\n");
    let (_, rest) = document.split_once(start.as_str()).unwrap_or_else(|| panic!("no block '{tag}' in the document"));
    rest.split("\n```").next().unwrap_or_default()
}

/// The bytes of a block of hexadecimal numbers.
///
/// # Panics
/// When the document has no such block, or it holds something else.
#[allow(clippy::unwrap_used)]
pub fn hex(tag: &str) -> Vec<u8> {
    example(tag).split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}
