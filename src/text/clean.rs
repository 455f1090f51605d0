//! Prompt cleaning: the text that the encoder was trained on.

use super::{fix_text::fix_text, html::unescape_html};

/// Repairs broken Unicode, decodes HTML character references twice, and collapses white space.
///
/// ```
/// assert_eq!(deepforcing::text::clean_prompt("  “a cafÃ©” \n Tom &amp;amp; Jerry，２ "), "\"a café\" Tom & Jerry,2");
/// ```
pub fn clean_prompt(prompt: &str) -> String {
    let text = unescape_html(&unescape_html(&fix_text(prompt)));
    collapse_white_space(&text)
}

/// Each run of Unicode white space becomes one space, none at the ends. Zero-width characters are not white space.
pub fn collapse_white_space(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space() {
        assert_eq!(collapse_white_space("\u{a0} a\u{2003}\u{3000}b\u{c}c\u{85} "), "a b c");
        assert_eq!(
            collapse_white_space("a\u{200b}b\u{2060}c\u{180e}"),
            "a\u{200b}b\u{2060}c\u{180e}"
        );
        assert_eq!(collapse_white_space(" \n\t"), "");
    }

    #[test]
    fn references_are_decoded_after_the_repair() {
        assert_eq!(clean_prompt("<b> &amp;lt;/s&amp;gt;"), "<b> </s>");
    }
}
