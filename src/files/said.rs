//! Text of strangers as it may be shown: without characters that make a terminal do things, without passwords, and no
//! formulas for spreadsheets.

use std::borrow::Cow;

/// What stands for something that is not shown.
const HIDDEN: &str = "…";

/// Text in which control characters, and signs that turn the direction of writing, are written as escapes.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// The same for text of several lines: line ends and tabs stay.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(|c| is_unsafe(c) && !stays(c)) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_unsafe(c) && !stays(c) {
            true => safe.extend(c.escape_default()),
            false => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// Characters that a terminal obeys, and those that are invisible and change what a line seems to say.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// An address without what may be secret in it: user and password, and with a query or fragment the path as well. Without
/// a scheme (as proxies are named) likewise.
///
/// A password may hold any sign, so everything up to the last `@` is taken for it.
pub fn redact(address: &str) -> Cow<'_, str> {
    let (scheme, rest) = match address.find("://") {
        Some(at) => address.split_at(at + 3),
        None => ("", address),
    };
    let (user, host) = match rest.rfind('@') {
        Some(at) => (HIDDEN, &rest[at..]),
        None => ("", rest),
    };
    let (host, path) = match host.contains(['?', '#']) {
        true => (&host[..host.find(['/', '?', '#']).unwrap_or(host.len())], "/…"),
        false => (host, ""),
    };
    match user.is_empty() && path.is_empty() {
        true => Cow::Borrowed(address),
        false => Cow::Owned(format!("{scheme}{user}{host}{path}")),
    }
}

/// A message in which the addresses have no user and no password.
pub fn without_passwords(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let ends = |c: char| c.is_whitespace() || matches!(c, '`' | '"');
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let address = &after[..after.find(ends).unwrap_or(after.len())];
        shown.push_str(before);
        rest = after;
        if let Some(last) = address.rfind('@') {
            shown.push_str(HIDDEN);
            rest = &after[last..];
        }
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// Text as a cell of CSV: one that a spreadsheet would take for a formula and carry out has a `'` in front, which makes it text
/// there. Numbers stay numbers.
pub fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) && text.parse::<f64>().is_err();
    match formula {
        true => format!("'{text}"),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        let hostile = "a\u{1b}[2J\u{9b}1m\rb\u{202e}c\u{7f}\n\t\u{2066}";
        let (one, lines) = (printable(hostile), printable_lines(hostile));
        for text in [&one, &lines] {
            assert!(
                !text.contains(['\u{1b}', '\u{9b}', '\r', '\u{202e}', '\u{7f}', '\u{2066}']),
                "{text:?}"
            );
            assert!(text.contains(r"\u{1b}[2J") && text.contains(r"\u{202e}c"), "{text:?}");
        }
        assert!(!one.contains(['\n', '\t']) && lines.contains("\n\t"));
        let plain = "Bär, 熊, דוב \u{1f43b}: `x`";
        assert!(matches!(printable(plain), Cow::Borrowed(same) if same == plain));
    }

    #[test]
    fn addresses_have_no_passwords() {
        for (address, shown) in [
            ("http://me:secret@host:80/x", "http://…@host:80/x"),
            ("me:secret@host:3128", "…@host:3128"),
            ("http://me:sec/ret@host:3128", "http://…@host:3128"),
            ("http://me:sec@ret@host", "http://…@host"),
            ("socks5://me@host", "socks5://…@host"),
            ("http://host:1/secret?x", "http://host:1/…"),
            ("https://me:secret@host/secret#x", "https://…@host/…"),
            ("https://host/path", "https://host/path"),
            ("host:3128", "host:3128"),
        ] {
            assert_eq!(redact(address), shown);
        }
    }

    #[test]
    fn messages_have_no_passwords() {
        let text =
            "cannot reach http://a:secret@h:1: refused; not `ftp://b:sec/ret@i/x` but me@example.org, see https://j/k";
        let shown = "cannot reach http://…@h:1: refused; not `ftp://…@i/x` but me@example.org, see https://j/k";
        assert_eq!(without_passwords(text), shown);
        assert_eq!(without_passwords("a b@c"), "a b@c");
    }

    #[test]
    fn no_cell_is_a_formula() {
        for text in [
            "=cmd|' /C calc'!A0",
            "+1+2",
            "-1+2",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "-",
            "=1",
        ] {
            assert_eq!(cell(text), format!("'{text}"));
        }
        for text in ["", "a=b", "-1.5", "+2", "1e9", "a red ball", "'=1"] {
            assert_eq!(cell(text), text);
        }
    }
}
