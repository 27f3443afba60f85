//! The ID that a page chooses for itself, in the parameter `page` of a request.

use crate::http::{Head, Response};

/// Returns the ID of the page that sent the request. Returns `None` if the request has none, and an error response if the ID is invalid.
pub(crate) fn of(head: &Head) -> Result<Option<&str>, Response> {
    match head.parameter("page") {
        Some(page) if !is_page_id(page) => {
            Err(Response::text(400, "the parameter 'page' must be 1 to 32 characters of a-z and 0-9"))
        }
        page => Ok(page),
    }
}

fn is_page_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::is_page_id;

    #[test]
    fn page_id_has_1_to_32_lower_case_letters_and_digits() {
        assert!(is_page_id("a") && is_page_id("0123456789abcdefghijklmnopqrstuv"));
        for bad in ["", "A", "a-b", "é", "0123456789abcdefghijklmnopqrstuvw"] {
            assert!(!is_page_id(bad), "{bad}");
        }
    }
}
