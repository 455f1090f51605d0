//! The variables of the environment that all tools of the Hugging Face hub share, and where each value came from.

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{HubError, trust};
use crate::files::{self, said::redact};

/// Where the published hub is.
const PUBLIC_ENDPOINT: &str = "https://huggingface.co";
/// Longest silence of a server, in seconds; the default of `huggingface_hub`.
const DOWNLOAD_TIMEOUT: u64 = 10;
/// Most bytes of a file with a token.
const LONGEST_TOKEN: u64 = 1 << 16;

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    pub value: T,
    pub origin: Origin,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A variable of the environment.
    Variable(&'static str),
    /// A file.
    File(PathBuf),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => f.write_str(name),
            Self::File(path) => write!(f, "`{}`", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// An access token; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token as it is sent.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// How the hub is reached and where its files are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// Sent to the endpoint only.
    pub token: Option<Setting<Token>>,
    /// The folder with `models--*`; `None` when no variable tells where it is.
    pub cache: Option<Setting<PathBuf>>,
    /// Scheme and host, without a slash at the end.
    pub endpoint: Setting<String>,
    /// Whether no connection may be made.
    pub offline: Setting<bool>,
    /// Whether bars are unwanted.
    pub no_progress_bars: Setting<bool>,
    /// Longest silence of a server before a connection counts as broken.
    pub timeout: Setting<Duration>,
    /// File or folder of the certificates that are believed in place of the usual ones.
    pub certificates: Option<Setting<PathBuf>>,
}

impl HubSettings {
    /// Reads the variables; `lookup` gives the value of one, as `std::env::var_os` does. Empty variables count as
    /// unset.
    ///
    /// # Errors
    /// When HF_ENDPOINT is no address, HF_HUB_DOWNLOAD_TIMEOUT no number of seconds, or the token cannot be one.
    pub fn from_env(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let variables = Variables { lookup: &lookup };
        let home = variables.hugging_face_home();
        Ok(Self {
            token: token(&variables, home.as_ref())?,
            cache: variables
                .path("HF_HUB_CACHE")
                .or_else(|| variables.path("HUGGINGFACE_HUB_CACHE"))
                .or_else(|| {
                    home.map(|home| Setting {
                        value: home.value.join("hub"),
                        origin: home.origin,
                    })
                }),
            endpoint: endpoint(&variables)?,
            offline: variables.switch("HF_HUB_OFFLINE"),
            no_progress_bars: variables.switch("HF_HUB_DISABLE_PROGRESS_BARS"),
            timeout: timeout(&variables)?,
            certificates: trust::VARIABLES.into_iter().find_map(|name| variables.path(name)),
        })
    }

    /// The cache folder.
    ///
    /// # Errors
    /// When no variable tells where it is.
    pub fn cache_folder(&self) -> Result<&Path, HubError> {
        self.cache
            .as_ref()
            .map(|cache| cache.value.as_path())
            .ok_or(HubError::NoHome)
    }
}

/// The environment, with the rules for reading it.
struct Variables<'a> {
    lookup: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Variables<'_> {
    fn get(&self, name: &'static str) -> Option<OsString> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &'static str) -> Option<String> {
        let value = self.get(name)?.to_string_lossy().trim().to_string();
        (!value.is_empty()).then_some(value)
    }

    /// A path; `~` at its start is the home folder.
    fn path(&self, name: &'static str) -> Option<Setting<PathBuf>> {
        let path = PathBuf::from(self.get(name)?);
        let value = match (path.strip_prefix("~"), self.home()) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => path,
        };
        Some(Setting {
            value,
            origin: Origin::Variable(name),
        })
    }

    fn home(&self) -> Option<PathBuf> {
        let name = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
        self.get(name).map(PathBuf::from)
    }

    fn hugging_face_home(&self) -> Option<Setting<PathBuf>> {
        let below = |setting: Setting<PathBuf>| Setting {
            value: setting.value.join("huggingface"),
            origin: setting.origin,
        };
        let default = || {
            Some(Setting {
                value: self.home()?.join(".cache").join("huggingface"),
                origin: Origin::Default,
            })
        };
        self.path("HF_HOME")
            .or_else(|| self.path("XDG_CACHE_HOME").map(below))
            .or_else(default)
    }

    /// On for the words that `huggingface_hub` takes: 1, on, yes, true.
    fn switch(&self, name: &'static str) -> Setting<bool> {
        match self.text(name) {
            Some(text) => Setting {
                value: ["1", "on", "yes", "true"].contains(&text.to_lowercase().as_str()),
                origin: Origin::Variable(name),
            },
            None => Setting {
                value: false,
                origin: Origin::Default,
            },
        }
    }
}

fn token(variables: &Variables<'_>, home: Option<&Setting<PathBuf>>) -> Result<Option<Setting<Token>>, HubError> {
    if variables.switch("HF_HUB_DISABLE_IMPLICIT_TOKEN").value {
        return Ok(None);
    }
    let from_file = || {
        let path = match variables.path("HF_TOKEN_PATH") {
            Some(path) => path.value,
            None => home?.value.join("token"),
        };
        let text = files::read_text(&path, LONGEST_TOKEN).ok()?.trim().to_string();
        (!text.is_empty()).then_some((text, Origin::File(path)))
    };
    let from_variable = variables
        .text("HF_TOKEN")
        .map(|text| (text, Origin::Variable("HF_TOKEN")));
    match from_variable.or_else(from_file) {
        Some((text, origin)) if text.bytes().all(|b| b.is_ascii_graphic()) => Ok(Some(Setting {
            value: Token(text),
            origin,
        })),
        Some((_, origin)) => Err(HubError::Token {
            origin: origin.to_string(),
        }),
        None => Ok(None),
    }
}

fn endpoint(variables: &Variables<'_>) -> Result<Setting<String>, HubError> {
    let Some(value) = variables.text("HF_ENDPOINT") else {
        return Ok(Setting {
            value: PUBLIC_ENDPOINT.into(),
            origin: Origin::Default,
        });
    };
    let host = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    let legal = |host: &str| {
        let name = host.split('/').next().unwrap_or_default();
        !name.is_empty() && host.bytes().all(|b| b.is_ascii_graphic()) && !host.contains(['?', '#', '@'])
    };
    match host {
        Some(host) if legal(host) => Ok(Setting {
            value: value.trim_end_matches('/').into(),
            origin: Origin::Variable("HF_ENDPOINT"),
        }),
        // Whatever it is, there may be a password in it.
        _ => Err(HubError::Variable {
            name: "HF_ENDPOINT",
            value: redact(&value).into_owned(),
            expected: "an address such as https://huggingface.co",
        }),
    }
}

fn timeout(variables: &Variables<'_>) -> Result<Setting<Duration>, HubError> {
    const NAME: &str = "HF_HUB_DOWNLOAD_TIMEOUT";
    let Some(value) = variables.text(NAME) else {
        return Ok(Setting {
            value: Duration::from_secs(DOWNLOAD_TIMEOUT),
            origin: Origin::Default,
        });
    };
    match value.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(Setting {
            value: Duration::from_secs_f64(seconds),
            origin: Origin::Variable(NAME),
        }),
        _ => Err(HubError::Variable {
            name: NAME,
            value,
            expected: "a number of seconds above 0",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<HubSettings, HubError> {
        HubSettings::from_env(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    fn cache(variables: &[(&str, &str)]) -> Option<(PathBuf, Origin)> {
        let setting = settings(variables).unwrap().cache;
        setting.map(|setting| (setting.value, setting.origin))
    }

    #[test]
    fn the_cache_is_found_in_the_documented_order() {
        let all = [
            ("HOME", "/home/u"),
            ("XDG_CACHE_HOME", "/xdg"),
            ("HF_HOME", "/hf"),
            ("HUGGINGFACE_HUB_CACHE", "/old"),
            ("HF_HUB_CACHE", "/cache"),
        ];
        let expected = [
            ("/home/u/.cache/huggingface/hub", Origin::Default),
            ("/xdg/huggingface/hub", Origin::Variable("XDG_CACHE_HOME")),
            ("/hf/hub", Origin::Variable("HF_HOME")),
            ("/old", Origin::Variable("HUGGINGFACE_HUB_CACHE")),
            ("/cache", Origin::Variable("HF_HUB_CACHE")),
        ];
        for (count, (path, origin)) in (1..).zip(expected) {
            assert_eq!(cache(&all[..count]), Some((path.into(), origin)));
        }
        assert_eq!(cache(&[]), None);
        assert!(matches!(settings(&[]).unwrap().cache_folder(), Err(HubError::NoHome)));
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "")]).unwrap().1, Origin::Default);
        assert_eq!(
            cache(&[("HOME", "/h"), ("HF_HOME", "~/m")]).unwrap().0,
            Path::new("/h/m/hub")
        );
    }

    #[test]
    fn the_token_is_found_in_the_documented_order() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let own = folder.path().join("own");
        std::fs::write(folder.path().join("token"), "hf_home\n").unwrap();
        std::fs::write(&own, " hf_path ").unwrap();
        let token = |variables: &[(&str, &str)]| {
            let token = settings(variables).unwrap().token;
            token.map(|token| (token.value.0, token.origin))
        };
        let home = ("HF_HOME", home);
        let path = ("HF_TOKEN_PATH", own.to_str().unwrap());
        let variable = ("HF_TOKEN", "hf_variable");
        let file = |name: &str| Origin::File(folder.path().join(name));
        assert_eq!(token(&[home]), Some(("hf_home".into(), file("token"))));
        assert_eq!(token(&[home, path]), Some(("hf_path".into(), file("own"))));
        assert_eq!(
            token(&[home, path, variable]),
            Some(("hf_variable".into(), Origin::Variable("HF_TOKEN")))
        );
        assert_eq!(
            token(&[home, path, variable, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]),
            None
        );
        assert_eq!(token(&[("HF_HOME", "/nowhere")]), None);
        assert!(matches!(settings(&[("HF_TOKEN", "a\nb")]), Err(HubError::Token { .. })));
    }

    #[test]
    fn a_token_is_never_printed() {
        let settings = settings(&[("HF_TOKEN", "hf_secret")]).unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
    }

    #[test]
    fn endpoint_timeout_and_switches_are_read() {
        let read = settings(&[
            ("HF_ENDPOINT", "http://127.0.0.1:80/"),
            ("HF_HUB_OFFLINE", "Yes"),
            ("HF_HUB_DISABLE_PROGRESS_BARS", "0"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "2.5"),
        ])
        .unwrap();
        assert_eq!(read.endpoint.value, "http://127.0.0.1:80");
        assert!(read.offline.value);
        assert!(!read.no_progress_bars.value);
        assert_eq!(read.timeout.value, Duration::from_millis(2500));
        let default = settings(&[]).unwrap();
        assert_eq!(default.endpoint.value, "https://huggingface.co");
        assert_eq!(default.timeout.value, Duration::from_secs(10));
        assert!(!default.offline.value);
        assert_eq!(default.certificates, None);
    }

    #[test]
    fn certificates_are_those_of_the_strongest_variable() {
        let all = [
            ("CURL_CA_BUNDLE", "/curl"),
            ("REQUESTS_CA_BUNDLE", "/requests"),
            ("SSL_CERT_FILE", "/ssl"),
        ];
        for (count, (name, path)) in (1..).zip(all) {
            let found = settings(&all[..count]).unwrap().certificates.unwrap();
            assert_eq!((found.value, found.origin), (path.into(), Origin::Variable(name)));
        }
    }

    #[test]
    fn variables_that_cannot_be_are_named() {
        for (name, value) in [
            ("HF_ENDPOINT", "huggingface.co"),
            ("HF_ENDPOINT", "https://"),
            ("HF_ENDPOINT", "ftp://a"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "soon"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "0"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "inf"),
        ] {
            let error = settings(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
        for value in [
            "https://me:SECRET@host",
            "me:SEC/RET@host",
            "http://host/SECRET?x",
            "http://host/SECRET#x",
        ] {
            let error = settings(&[("HF_ENDPOINT", value)]).unwrap_err().to_string();
            assert!(error.contains("HF_ENDPOINT") && error.contains("host"), "{error}");
            assert!(!error.contains("SEC") && !error.contains("RET"), "{error}");
        }
    }
}
