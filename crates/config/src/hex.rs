//! Converts bytes to hexadecimal digits in lower case, and back.

/// Returns the bytes as text: two hexadecimal digits for each byte.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the bytes of exactly `2 * N` hexadecimal digits of either case; `None` if the text is anything else.
#[must_use]
pub fn decode<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.len() != 2 * N || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_encoded_in_lower_case_and_decoded_in_either() {
        assert_eq!(encode(&[0x00, 0xab, 0x0f]), "00ab0f");
        assert_eq!(decode("00AB0f"), Some([0x00, 0xab, 0x0f]));
    }

    #[test]
    fn digits_of_another_length_or_other_characters_are_refused() {
        for digits in ["", "0", "000", "0g", "+1", "é", "0\u{0}"] {
            assert_eq!(decode::<1>(digits), None, "{digits:?}");
        }
    }
}
