//! The ID that a page makes for itself and sends in the parameter `page` of a request.

use crate::http::{Head, Response};

/// Returns the page ID of a request, or `None` if the request has no page ID. If the page ID is invalid, returns the error response.
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
