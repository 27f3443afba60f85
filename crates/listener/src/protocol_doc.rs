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
