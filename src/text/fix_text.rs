//! Repairs broken Unicode as `ftfy.fix_text` 6.3.1 does with its default options: decodes entities and mojibake,
//! straightens quotes and widths, drops control characters, composes.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex};
use unicode_normalization::UnicodeNormalization;

use super::html::{named_entity, unescape_html, windows_1252};

/// A text that still changes after this many rounds is taken as it is.
const MAX_ROUNDS: usize = 100;

/// Fixes each line of the text.
///
/// The first line with a literal `<` and all after it are taken for HTML source: their entities stay.
pub fn fix_text(text: &str) -> String {
    let mut decode = true;
    let fix = |line: &str| {
        decode &= !line.contains('<');
        fix_line(line, decode)
    };
    text.split_inclusive('\n').map(fix).collect()
}

fn fix_line(line: &str, decode: bool) -> String {
    let mut text = line.to_string();
    for _ in 0..MAX_ROUNDS {
        let fixed = fix_once(&text, decode);
        if fixed == text {
            break;
        }
        text = fixed;
    }
    text
}

fn fix_once(text: &str, decode: bool) -> String {
    static ANSI_ESCAPE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\x1b\[[\d;]*[a-zA-Z]").ok());

    let text = if decode {
        decode_entities(text)
    } else {
        Cow::Borrowed(text)
    };
    let text = repair_encoding(&text);
    let text: String = text.chars().map(windows_1252).collect();
    let text = split_ligatures(&text);
    let text = normalize_width(&text);
    let text: String = text.chars().map(straighten_quote).collect();
    let text = text.replace("\r\n", "\n").replace(is_line_break, "\n");
    let text = replace_all(&ANSI_ESCAPE, &text, |_| String::new());
    text.chars().filter(|c| !is_removed(*c)).nfc().collect()
}

/// Whole references that end in `;` only.
fn decode_entities(text: &str) -> Cow<'_, str> {
    static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new("&#?[0-9A-Za-z]{1,24};").ok());
    replace_all(&REFERENCE, text, |found| decode_reference(&found[0]))
}

fn decode_reference(reference: &str) -> String {
    if let Some(expansion) = named_entity(reference) {
        return expansion.into();
    }
    let decoded = unescape_html(reference);
    if reference.starts_with("&#") {
        // Anything that leaves the semicolon was not one whole reference.
        return if decoded.contains(';') {
            reference.into()
        } else {
            decoded
        };
    }
    // `&EACUTE;`, unless HTML gives the upper-case letters a meaning.
    let lower = named_entity(&reference.to_lowercase()).filter(|_| reference == reference.to_uppercase());
    match lower {
        Some(expansion) if decoded == reference => expansion.to_uppercase(),
        _ => reference.into(),
    }
}

/// Undoes UTF-8 read as a single-byte encoding (`cafÃ©` → `café`).
fn repair_encoding(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let config = plsfix::TextFixerConfig {
        fix_latin_ligatures: false,
        fix_character_width: false,
        uncurl_quotes: false,
        fix_line_breaks: false,
        remove_terminal_escapes: false,
        remove_control_chars: false,
        normalization: None,
        max_decode_length: i32::MAX,
        ..Default::default()
    };
    // plsfix decodes entities whatever it is told, and differently: hide them behind an unused control character,
    // which every encoding maps to itself.
    let mask = ('\u{1}'..='\u{8}').find(|c| !text.contains(*c)).unwrap_or('&');
    let masked = text.replace('&', mask.encode_utf8(&mut [0; 4]));
    let repaired = plsfix::fix_text(&masked, Some(&config));
    Cow::Owned(repaired.replace(mask, "&"))
}

fn split_ligatures(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            'Ĳ' => out.push_str("IJ"),
            'ĳ' => out.push_str("ij"),
            'ŉ' => out.push_str("ʼn"),
            'Ǆ' => out.push_str("DŽ"),
            'ǅ' => out.push_str("Dž"),
            'ǆ' => out.push_str("dž"),
            'Ǉ' => out.push_str("LJ"),
            'ǈ' => out.push_str("Lj"),
            'ǉ' => out.push_str("lj"),
            'Ǌ' => out.push_str("NJ"),
            'ǋ' => out.push_str("Nj"),
            'ǌ' => out.push_str("nj"),
            'Ǳ' => out.push_str("DZ"),
            'ǲ' => out.push_str("Dz"),
            'ǳ' => out.push_str("dz"),
            'ﬀ' => out.push_str("ff"),
            'ﬁ' => out.push_str("fi"),
            'ﬂ' => out.push_str("fl"),
            'ﬃ' => out.push_str("ffi"),
            'ﬄ' => out.push_str("ffl"),
            'ﬅ' => out.push_str("ſt"),
            'ﬆ' => out.push_str("st"),
            other => out.push(other),
        }
    }
    out
}

/// Full-width Latin and half-width katakana and hangul to their usual width.
fn normalize_width(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{3000}' => out.push(' '),
            '\u{FF01}'..='\u{FFEF}' => out.extend(std::iter::once(c).nfkc()),
            other => out.push(other),
        }
    }
    out
}

fn straighten_quote(c: char) -> char {
    match c {
        '\u{201C}'..='\u{201F}' => '"',
        '\u{02BC}' | '\u{2018}'..='\u{201B}' => '\'',
        other => other,
    }
}

fn is_line_break(c: char) -> bool {
    matches!(c, '\r' | '\u{2028}' | '\u{2029}' | '\u{85}')
}

/// Control characters without meaning in a prompt. Form feed stays: it is white space.
fn is_removed(c: char) -> bool {
    matches!(c,
        '\0'..='\u{8}' | '\u{B}' | '\u{E}'..='\u{1F}' | '\u{7F}'
        | '\u{206A}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFC}')
}

fn replace_all<'t>(
    pattern: &LazyLock<Option<Regex>>,
    text: &'t str,
    replace: impl Fn(&Captures) -> String,
) -> Cow<'t, str> {
    match pattern.as_ref() {
        Some(pattern) => pattern.replace_all(text, replace),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_of_plain_text_and_of_html() {
        assert_eq!(fix_text("a &amp;amp; b &EACUTE; &SZLIG;"), "a & b É SS");
        assert_eq!(
            fix_text("&amp; one\n<b> &amp; two\n&amp; three"),
            "& one\n<b> &amp; two\n&amp; three"
        );
        assert_eq!(fix_text("caf\u{c3}\u{a9} <b> &amp;"), "café <b> &amp;");
        assert_eq!(
            fix_text("&AMP no semicolon &#59; &#12a;"),
            "&AMP no semicolon &#59; &#12a;"
        );
    }

    #[test]
    fn width_and_quotes() {
        assert_eq!(fix_text("ｶﾞ \u{FFE3} ＡＢＣ　１"), "ガ  \u{304} ABC 1");
        assert_eq!(fix_text("“a” ‘b’ ŉ ﬅ ǅ"), "\"a\" 'b' 'n ſt Dž");
    }

    #[test]
    fn controls_and_escapes() {
        assert_eq!(fix_text("\u{1b}[31mred\u{1b}[0m\u{7}\u{feff}"), "red");
        assert_eq!(fix_text("a\u{85}b\r\nc\rd\u{2028}e"), "a…b\nc\nd\ne");
    }
}
