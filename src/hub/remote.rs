//! Requests to the hub: redirects, refusals told apart, waiting when it asks to.
//!
//! Redirects are followed here and not by the HTTP client, so that the token goes to the endpoint and nowhere else.

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use ureq::{
    Agent, Body,
    http::{HeaderMap, Response, StatusCode, Uri},
    tls::{RootCerts, TlsConfig},
};

use super::{
    HubError, HubSettings, Source, Waiting, Watch,
    headers::{host, origin, resolve, retry_after, text},
    source::is_commit,
    trust,
};

/// Redirects before a server counts as broken.
const MOST_REDIRECTS: usize = 10;
/// Longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Headers in which the hub describes a file, also when it redirects to its content.
const DESCRIPTION: [&str; 3] = ["x-repo-commit", "x-linked-etag", "x-linked-size"];
/// Silences that all of an answer's headers may take, and over which the rate of a content is measured.
const PATIENCE: u32 = 2;
/// First wait after a failure; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// What the hub says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Names the blob: SHA-256 of large files, git hash of small ones.
    pub etag: String,
    /// The commit that the revision is now.
    pub commit: String,
    pub bytes: u64,
}

/// Talks to the endpoint.
pub(super) struct Remote<'a> {
    settings: &'a HubSettings,
    agent: Agent,
    /// With the system's authorities, made once a certificate is refused.
    system: OnceLock<Option<Agent>>,
    /// Failures in a row before giving up.
    retries: u32,
}

/// Why a request brought nothing.
pub(super) enum Failed {
    /// It may be otherwise the next time.
    Passing(HubError),
    /// The server says when to come back.
    Wait(Duration, HubError),
    Lasting(HubError),
}

impl From<HubError> for Failed {
    fn from(error: HubError) -> Self {
        Self::Lasting(error)
    }
}

impl<'a> Remote<'a> {
    /// # Errors
    /// When a variable names a file of certificates that cannot be used.
    pub(super) fn new(settings: &'a HubSettings, retries: u32) -> Result<Self, HubError> {
        let roots = match &settings.certificates {
            Some(named) => trust::of_file(named)?,
            None => RootCerts::WebPki,
        };
        Ok(Self {
            settings,
            agent: agent(settings, roots),
            system: OnceLock::new(),
            retries,
        })
    }

    /// Time in which a server must have sent something worth the name.
    pub(super) fn patience(&self) -> Duration {
        self.settings.timeout.value * PATIENCE
    }

    /// Asks about a file, without its content.
    pub(super) fn describe(&self, path: &str, source: &Source, watch: &mut Watch<'_>) -> Result<RemoteFile, HubError> {
        let request = Request {
            path,
            source,
            from: None,
        };
        let response = self.patiently(watch, |_| self.send(&request))?;
        let headers = response.headers();
        let fault = |fault: &str| HubError::NotTheHub {
            host: self.settings.endpoint.value.clone(),
            file: source.label(),
            fault: fault.into(),
        };
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let commit = text("x-repo-commit")
            .or(source.is_pinned().then_some(source.revision.as_str()))
            .ok_or_else(|| fault("names no commit"))?;
        let etag = text("x-linked-etag")
            .or(text("etag"))
            .ok_or_else(|| fault("has no etag"))?;
        let etag = etag.trim_start_matches("W/").trim_matches('"');
        let bytes = text("x-linked-size").or(text("content-length"));
        // Both become names in the cache.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if etag.is_empty() || etag.len() > 200 || !etag.chars().all(plain) {
            return Err(fault("has an etag that is none of the hub"));
        }
        if !is_commit(commit) {
            return Err(fault("names a commit that is none"));
        }
        Ok(RemoteFile {
            etag: etag.into(),
            commit: commit.into(),
            bytes: bytes
                .and_then(|bytes| bytes.parse().ok())
                .ok_or_else(|| fault("names no size"))?,
        })
    }

    /// Asks for the content from byte `from` on.
    pub(super) fn open(&self, path: &str, source: &Source, from: u64) -> Result<Response<Body>, Failed> {
        let request = Request {
            path,
            source,
            from: Some(from),
        };
        self.send(&request)
    }

    /// Repeats a request while that can help.
    pub(super) fn patiently<T>(
        &self,
        watch: &mut Watch<'_>,
        mut attempt: impl FnMut(&mut Watch<'_>) -> Result<T, Failed>,
    ) -> Result<T, HubError> {
        let mut failures = 0;
        loop {
            watch.check()?;
            let error = match attempt(watch) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            self.wait_after(error, &mut failures, watch)?;
        }
    }

    /// Waits before the next attempt, or gives up.
    pub(super) fn wait_after(&self, error: Failed, failures: &mut u32, watch: &mut Watch<'_>) -> Result<(), HubError> {
        *failures += 1;
        let (wait, reason, error) = match error {
            Failed::Lasting(error) => return Err(error),
            Failed::Wait(wait, error) => (wait, Waiting::RateLimit, error),
            Failed::Passing(error) => {
                let wait = FIRST_WAIT * 2u32.saturating_pow((*failures - 1).min(6));
                (wait, Waiting::Failure(error.to_string()), error)
            }
        };
        if *failures > self.retries || wait > LONGEST_WAIT {
            return Err(error);
        }
        watch.wait(reason, wait)
    }

    /// Sends a request and follows redirects until there is an answer. What redirects say of the file becomes part of
    /// the answer; when they say all of it, nobody else is asked.
    fn send(&self, request: &Request<'_>) -> Result<Response<Body>, Failed> {
        let endpoint = self.settings.endpoint.value.as_str();
        let mut url = format!("{endpoint}/{}", request.path);
        let mut said = HeaderMap::new();
        for _ in 0..MOST_REDIRECTS {
            let mut response = self.call(&url, request)?;
            for name in DESCRIPTION {
                if let (None, Some(value)) = (said.get(name), response.headers().get(name)) {
                    said.insert(name, value.clone());
                }
            }
            let status = response.status();
            let described = request.from.is_none() && DESCRIPTION.iter().all(|name| said.contains_key(*name));
            if !status.is_redirection() || described {
                if !status.is_success() && !status.is_redirection() {
                    return Err(self.refusal(&url, &response, request.source));
                }
                response.headers_mut().extend(said);
                return Ok(response);
            }
            let location = response.headers().get("location").and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| resolve(&url, location));
            url = next
                .filter(|next| !(endpoint.starts_with("https://") && next.starts_with("http://")))
                .ok_or_else(|| self.not_the_hub(&url, request.source, "redirects to nowhere"))?;
        }
        Err(self.not_the_hub(&url, request.source, "redirects in a circle").into())
    }

    fn call(&self, url: &str, request: &Request<'_>) -> Result<Response<Body>, Failed> {
        let called = match self.call_as(&self.agent, url, request) {
            Err(error) if trust::refusal(&error).is_some() => match self.system_agent() {
                Some(agent) => self.call_as(agent, url, request),
                None => Err(error),
            },
            other => other,
        };
        called.map_err(|error| self.unreachable(url, error))
    }

    /// For networks with an authority of their own, which the system knows. Who names a file of certificates wants no
    /// others.
    fn system_agent(&self) -> Option<&Agent> {
        let make = || match self.settings.certificates {
            Some(_) => None,
            None => trust::of_system().map(|roots| agent(self.settings, roots)),
        };
        self.system.get_or_init(make).as_ref()
    }

    fn call_as(&self, agent: &Agent, url: &str, request: &Request<'_>) -> Result<Response<Body>, ureq::Error> {
        let mut call = match request.from {
            None => agent.head(url),
            Some(_) => agent.get(url),
        };
        if let Some(token) = &self.settings.token
            && origin(url) == origin(&self.settings.endpoint.value)
        {
            call = call.header("Authorization", format!("Bearer {}", token.value.secret()));
        }
        if let Some(from) = request.from.filter(|from| *from > 0) {
            call = call.header("Range", format!("bytes={from}-"));
        }
        call.call()
    }

    fn unreachable(&self, url: &str, error: ureq::Error) -> Failed {
        if let Some(reason) = trust::refusal(&error) {
            return Failed::Lasting(HubError::Untrusted {
                endpoint: host(url),
                reason,
                advice: trust::advice(self.settings.certificates.as_ref()),
            });
        }
        let passing = match &error {
            ureq::Error::Io(error) => error.kind() != std::io::ErrorKind::ConnectionRefused,
            ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => true,
            _ => false,
        };
        let reason = match error {
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::HostNotFound => "the host name is unknown".into(),
            ureq::Error::Timeout(_) => format!("no answer within {} s", self.settings.timeout.value.as_secs_f64()),
            other => other.to_string(),
        };
        let endpoint = host(url);
        let error = match self.proxy(url) {
            Some((proxy, variable)) => HubError::ProxyUnreachable {
                endpoint,
                proxy,
                variable,
                reason,
            },
            None => HubError::Unreachable { endpoint, reason },
        };
        match passing {
            true => Failed::Passing(error),
            false => Failed::Lasting(error),
        }
    }

    /// The proxy between here and an address, without its password, and the variable that names it.
    fn proxy(&self, url: &str) -> Option<(String, &'static str)> {
        let proxy = self.agent.config().proxy()?;
        if url.parse().is_ok_and(|uri: Uri| proxy.is_no_proxy(&uri)) {
            return None;
        }
        let scheme = proxy.uri().scheme_str().unwrap_or("http");
        let usable = |name: &str| std::env::var(name).is_ok_and(|value| ureq::Proxy::new(&value).is_ok());
        let variable = trust::proxy_variable(usable)?;
        Some((format!("{scheme}://{}:{}", proxy.host(), proxy.port()), variable))
    }

    fn not_the_hub(&self, url: &str, source: &Source, fault: &str) -> HubError {
        HubError::NotTheHub {
            host: host(url),
            file: source.label(),
            fault: fault.into(),
        }
    }

    /// Tells the refusals of the hub apart, by its error code where it gives one.
    fn refusal(&self, url: &str, response: &Response<Body>, source: &Source) -> Failed {
        let (status, headers) = (response.status(), response.headers());
        let code = text(headers, "x-error-code");
        let of_hub = origin(url) == origin(&self.settings.endpoint.value);
        let error = match (code, status) {
            (_, StatusCode::TOO_MANY_REQUESTS) => return self.rate_limit(url, headers),
            ("GatedRepo", _) => self.gated(source),
            ("RevisionNotFound", _) => HubError::NoRevision {
                repo: source.repo.clone(),
                revision: source.revision.clone(),
            },
            ("EntryNotFound", _) => no_file(source),
            (_, StatusCode::UNAUTHORIZED) if of_hub => self.unauthorized(headers, source),
            ("RepoNotFound", _) => HubError::NoRepo {
                repo: source.repo.clone(),
                endpoint: self.settings.endpoint.value.clone(),
            },
            (_, StatusCode::FORBIDDEN) if of_hub => self.gated(source),
            (_, StatusCode::NOT_FOUND) => no_file(source),
            _ => {
                let error = HubError::Status {
                    host: host(url),
                    status: status.as_u16(),
                    file: source.label(),
                };
                // Addresses of the content expire; the next attempt gets a new one.
                let passing = status.is_server_error() || !of_hub;
                return match passing {
                    true => Failed::Passing(error),
                    false => Failed::Lasting(error),
                };
            }
        };
        Failed::Lasting(error)
    }

    fn rate_limit(&self, url: &str, headers: &HeaderMap) -> Failed {
        let asked = retry_after(text(headers, "retry-after"), SystemTime::now());
        let wait = asked.unwrap_or(Duration::from_secs(5));
        let error = HubError::RateLimited {
            host: host(url),
            wait,
            token: self.settings.token.is_some(),
        };
        Failed::Wait(wait, error)
    }

    fn gated(&self, source: &Source) -> HubError {
        HubError::Gated {
            repo: source.repo.clone(),
            page: format!("{}/{}", self.settings.endpoint.value, source.repo),
            advice: match &self.settings.token {
                Some(token) => format!("with the account of the token from {}", token.origin),
                None => "then set HF_TOKEN to a token of your account".into(),
            },
        }
    }

    fn unauthorized(&self, headers: &HeaderMap, source: &Source) -> HubError {
        let refused = text(headers, "x-error-message").contains("Invalid credentials");
        match &self.settings.token {
            Some(token) if refused => HubError::TokenRefused {
                origin: token.origin.to_string(),
            },
            Some(token) => HubError::Unauthorized {
                repo: source.repo.clone(),
                advice: format!("check its name, and that the token from {} may read it", token.origin),
            },
            None => HubError::Unauthorized {
                repo: source.repo.clone(),
                advice: "check its name, or set HF_TOKEN to a token that may read it".into(),
            },
        }
    }
}

/// An HTTP client that believes `roots`.
fn agent(settings: &HubSettings, roots: RootCerts) -> Agent {
    let timeout = Some(settings.timeout.value);
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("deepforcing/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .timeout_resolve(timeout)
        .timeout_connect(timeout)
        // A line or a byte now and then is no answer.
        .timeout_recv_response(timeout.map(|timeout| timeout * PATIENCE))
        .timeout_per_read(timeout)
        .timeout_per_write(timeout);
    config.build().into()
}

/// What is asked for.
struct Request<'a> {
    path: &'a str,
    source: &'a Source,
    /// First byte of the content that is wanted; none when only its description is.
    from: Option<u64>,
}

fn no_file(source: &Source) -> HubError {
    HubError::NoFile {
        repo: source.repo.clone(),
        revision: source.revision.clone(),
        file: source.file.clone(),
    }
}
