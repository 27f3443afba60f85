//! Display names: any text that people read, unlike login names ([`crate::Name`]).

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// Maximum length of a display name in characters.
const MAX_CHARS: usize = 64;

/// Returns whether `text` is a valid display name: 1 to 64 characters, no control characters, not only spaces.
#[must_use]
pub fn display_name_is_valid(text: &str) -> bool {
    let mut chars = 0;
    text.chars().all(|c| {
        chars += 1;
        !c.is_control() && chars <= MAX_CHARS
    }) && !text.trim().is_empty()
}

/// Returns whether a participant may choose `text` as the display name: [`display_name_is_valid`], at least one visible character that is not a
/// combining mark, and no characters that change the direction of the text around the name.
#[must_use]
pub fn own_display_name_is_valid(text: &str) -> bool {
    let is_visible = || folded_display_name(text).chars().any(|c| !is_combining_mark(c));
    display_name_is_valid(text) && !text.chars().any(changes_direction) && is_visible()
}

/// Returns a text that is equal for two display names which people would confuse. Such names differ only in upper and lower case, in spaces and
/// invisible characters, or in compatibility forms of the same characters (Unicode Standard Annex #15, NFKD), such as `ﬁ` for `fi`.
///
/// Letters of different scripts that look alike stay different.
#[must_use]
pub fn folded_display_name(text: &str) -> String {
    let visible = text.nfkd().filter(|&c| !c.is_whitespace() && !is_ignorable(c) && !is_blank(c));
    // Upper case first: the upper case of 'ß' is 'SS'. Decompose again: without the ignorable characters, marks can be in another order.
    visible.flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkd().collect()
}

/// Returns whether programs show nothing for this character: the property `Default_Ignorable_Code_Point` of Unicode 17.0
/// (<https://www.unicode.org/Public/17.0.0/ucd/DerivedCoreProperties.txt>).
fn is_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Returns whether this character is a letter, symbol or annotation mark that is invisible, although Unicode counts it neither as a space nor as ignorable.
fn is_blank(c: char) -> bool {
    matches!(c, '\u{2800}' | '\u{fff9}'..='\u{fffb}' | '\u{13441}'..='\u{13442}' | '\u{16fe4}' | '\u{1d159}')
}

/// Returns whether this character can change the direction of the text around it: the property `Bidi_Control`
/// (<https://www.unicode.org/Public/17.0.0/ucd/PropList.txt>).
fn changes_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn are_alike(one: &str, other: &str) -> bool {
        folded_display_name(one) == folded_display_name(other)
    }

    #[test]
    fn display_names_have_any_script_and_no_control_characters() {
        for good in ["Zoé", "李小龍", "a", &"é".repeat(64), "O'Brien <b>"] {
            assert!(display_name_is_valid(good), "{good}");
        }
        for bad in ["", " ", "a\tb", "a\nb", "\u{7f}", &"é".repeat(65)] {
            assert!(!display_name_is_valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn names_that_differ_in_case_spaces_and_forms_of_the_same_characters_are_alike() {
        for (one, other) in [
            ("Alice", "alice"),
            ("Bob le Bricoleur", " bob  leBricoleur"),
            ("Weiß", "WEISS"),
            ("Zo\u{e9}", "Zoe\u{301}"),
            ("Zo\u{e9}", "ZOE\u{301}"),
            ("Zo\u{e9}", "Zoe\u{34f}\u{301}"),
            ("q\u{323}\u{307}", "q\u{307}\u{34f}\u{323}"),
            ("각하", "\u{1100}\u{1161}\u{11a8}하"),
            ("Alice", "Ａｌｉｃｅ"),
            ("Ofir", "Oﬁr"),
        ] {
            assert!(are_alike(one, other), "{one:?} {other:?}");
        }
        for (one, other) in [("Alice", "Alicia"), ("Zoé", "Zoe"), ("Anna", "Аnna"), ("김", "기")] {
            assert!(!are_alike(one, other), "{one:?} {other:?}");
        }
    }

    #[test]
    fn invisible_characters_do_not_make_a_name_different_or_visible() {
        for hidden in [
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{180b}',
            '\u{180e}',
            '\u{180f}',
            '\u{200b}',
            '\u{200d}',
            '\u{2060}',
            '\u{2064}',
            '\u{2800}',
            '\u{3000}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff0}',
            '\u{fff9}',
            '\u{16fe4}',
            '\u{1bca0}',
            '\u{1d159}',
            '\u{1d173}',
            '\u{e0000}',
            '\u{e0041}',
            '\u{e01ef}',
        ] {
            assert!(are_alike("Zoé", &format!("Zo{hidden}é{hidden}")), "{hidden:?}");
            assert!(!own_display_name_is_valid(&hidden.to_string()), "{hidden:?}");
            assert!(!own_display_name_is_valid(&format!("{hidden}\u{301} {hidden}")), "{hidden:?}");
        }
    }

    #[test]
    fn own_display_names_are_visible_and_change_no_direction() {
        for good in [
            "李小龍 👩\u{200d}🚀",
            "نگار\u{200c}ها",
            "Zoe\u{301}",
            "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
        ] {
            assert!(own_display_name_is_valid(good), "{good:?}");
        }
        for turn in ["\u{61c}", "\u{200e}", "\u{200f}", "\u{202a}", "\u{202e}", "\u{2066}", "\u{2069}"] {
            assert!(!own_display_name_is_valid(&format!("Bob{turn}")), "{turn:?}");
        }
        for bad in ["", " ", "\u{200b}\u{3164}", "a\nb", &"é".repeat(65)] {
            assert!(!own_display_name_is_valid(bad), "{bad:?}");
        }
    }
}
