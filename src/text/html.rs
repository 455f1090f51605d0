//! HTML character references.

/// What the bytes 0x80–0x9F mean in Windows-1252; unassigned ones stay the control characters they are.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8D}', 'Ž', '\u{8F}', //
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9D}', 'ž', 'Ÿ',
];

/// The Windows-1252 character that a C1 control (U+0080–009F) stands for; any other character itself.
pub(super) fn windows_1252(c: char) -> char {
    let byte = (c as u32).wrapping_sub(0x80) as usize;
    WINDOWS_1252.get(byte).copied().unwrap_or(c)
}

/// Replaces every character reference by its character, as HTML5 does: names with and without `;`, the longest known
/// beginning of an unknown name (`&notanentity;` → `¬anentity;`), decimal and hexadecimal numbers.
///
/// References to control characters and non-characters vanish (HTML5 would keep them); the reference's behaviour.
pub fn unescape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        // No reference reaches over another `&`.
        let end = rest[1..].find('&').map_or(rest.len(), |at| at + 1);
        let (piece, after) = rest.split_at(end);
        match piece.strip_prefix("&#").map(numeric_reference) {
            Some(Some((character, tail))) => {
                out.extend(character);
                out.push_str(tail);
            }
            Some(None) => out.push_str(piece),
            None => out.push_str(&htmlize::unescape(piece)),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The expansion of a whole reference `&name;` of the HTML5 table.
pub(super) fn named_entity(reference: &str) -> Option<&'static str> {
    let bytes = htmlize::ENTITIES.get(reference.as_bytes())?;
    std::str::from_utf8(bytes).ok()
}

/// Reads what follows `&#`: the character (none if it is to vanish) and the text after the reference.
fn numeric_reference(body: &str) -> Option<(Option<char>, &str)> {
    let (digits, radix) = match body.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16),
        None => (body, 10),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    let (digits, tail) = digits.split_at(end);
    let value = digits.chars().filter_map(|c| c.to_digit(radix));
    let value = value.fold(0u32, |v, digit| v.saturating_mul(radix).saturating_add(digit));
    Some((numeric_character(value), tail.strip_prefix(';').unwrap_or(tail)))
}

fn numeric_character(value: u32) -> Option<char> {
    match value {
        0 => Some(char::REPLACEMENT_CHARACTER),
        0x01..=0x08 | 0x0B | 0x0E..=0x1F | 0x7F | 0xFDD0..=0xFDEF => None,
        v if v <= 0x10_FFFF && v & 0xFFFE == 0xFFFE => None,
        v => Some(char::from_u32(v).map_or(char::REPLACEMENT_CHARACTER, windows_1252)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_references() {
        assert_eq!(unescape_html("&#65;&#x42;&#X43 &#68z"), "ABC Dz");
        assert_eq!(
            unescape_html("&#0;&#xD800;&#x110000;&#99999999999;"),
            "\u{FFFD}".repeat(4)
        );
        assert_eq!(unescape_html("&#128;&#x81;&#13;"), "€\u{81}\r");
        assert_eq!(unescape_html("a&#1;b&#x1c;c&#xFDD0;d&#x1FFFF;e&#127;f"), "abcdef");
        assert_eq!(unescape_html("&# &#x; &#xg;"), "&# &#x; &#xg;");
    }

    #[test]
    fn named_references() {
        assert_eq!(
            unescape_html("&amp;lt; &AMP &ampersand &notin; &notanentity;"),
            "&lt; & &ersand ∉ ¬anentity;"
        );
        assert_eq!(unescape_html("&unknown; & &; &EACUTE;"), "&unknown; & &; &EACUTE;");
        assert_eq!(unescape_html("&&lt&gt;"), "&<>");
    }
}
