//! What answers of a hub say in their headers: addresses and times.

use std::time::{Duration, SystemTime};

use ureq::http::{HeaderMap, Uri};

use crate::files::said::redact;

/// The value of a header, empty when there is none or it is no text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

/// Scheme, host and port.
pub(super) fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let default = if scheme == "https" { 443 } else { 80 };
    Some((
        scheme,
        uri.host()?.to_ascii_lowercase(),
        uri.port_u16().unwrap_or(default),
    ))
}

/// Scheme, host and port of an address, for messages: addresses of content hold signatures, and some hold passwords.
pub(super) fn host(url: &str) -> String {
    let uri = url.parse::<Uri>().ok();
    let parts = uri
        .as_ref()
        .and_then(|uri| Some((uri.scheme_str()?, uri.authority()?.as_str())));
    match parts {
        Some((scheme, authority)) => {
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}")
        }
        None => redact(url).chars().take(100).collect(),
    }
}

/// The address that a `Location` means.
pub(super) fn resolve(base: &str, location: &str) -> Option<String> {
    if location.starts_with("http://") || location.starts_with("https://") {
        return Some(location.into());
    }
    let (scheme, _) = base.split_once("://")?;
    match (location.strip_prefix("//"), location.starts_with('/')) {
        (Some(rest), _) => Some(format!("{scheme}://{rest}")),
        (None, true) => Some(format!("{}{location}", host(base))),
        (None, false) => None,
    }
}

/// Time of a `Retry-After` header: seconds, or a date, of which the distance counts.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate(value.trim())?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn httpdate(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let words: Vec<&str> = text.split_once(", ")?.1.split(' ').collect();
    let [day, month, year, time, "GMT"] = words.as_slice() else {
        return None;
    };
    let month = MONTHS.iter().position(|name| name == month)? as u64 + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let clock: Vec<u64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hour, minute, second] = clock.as_slice() else {
        return None;
    };
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) || *hour > 23 || *minute > 59 || *second > 60 {
        return None;
    }
    // Days since 1970, with March as the first month so that leap days come last.
    let (shifted_year, shifted_month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = shifted_year / 4 - shifted_year / 100 + shifted_year / 400;
    let days = 365 * shifted_year + leap_days + (153 * shifted_month + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_resolved() {
        let base = "https://hub.example/a/b?c";
        let cases = [
            ("https://cdn.example/x", Some("https://cdn.example/x")),
            ("/x/y", Some("https://hub.example/x/y")),
            ("//cdn.example/x", Some("https://cdn.example/x")),
            ("x", None),
        ];
        for (location, expected) in cases {
            assert_eq!(resolve(base, location).as_deref(), expected);
        }
    }

    #[test]
    fn another_port_or_scheme_is_another_origin() {
        let same = origin("https://Hub.example/x");
        assert_eq!(same, origin("https://hub.example:443"));
        for other in [
            "http://hub.example",
            "https://hub.example:8443",
            "https://hub.example.evil",
        ] {
            assert_ne!(same, origin(other));
        }
    }

    #[test]
    fn hosts_in_messages_have_no_signature() {
        assert_eq!(
            host("https://cdn.example:1/x?Signature=secret"),
            "https://cdn.example:1"
        );
        assert_eq!(host("http://user:secret@127.0.0.1:1/x"), "http://127.0.0.1:1");
        assert!(!host("no address me:secret@host").contains("secret"));
    }

    #[test]
    fn the_time_to_wait_is_read_as_seconds_or_date() {
        let date = httpdate("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(date, SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777));
        let before = date - Duration::from_secs(7);
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:49:37 GMT", before),
            Some(Duration::from_secs(7))
        );
        assert_eq!(retry_after(" 12 ", before), Some(Duration::from_secs(12)));
        assert_eq!(retry_after("", before), None);
        assert_eq!(retry_after("Sun, 99 Nov 1994 08:49:37 GMT", before), None);
    }
}
