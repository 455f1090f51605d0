//! Whose certificates are believed: Mozilla's authorities, those of the system, or those of a file that a variable names.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

use super::{HubError, Setting};

/// Variables that name a file (or folder) of certificates, with the strongest first: those of OpenSSL, of the Python
/// library `requests` and of curl.
pub(super) const VARIABLES: [&str; 3] = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];

/// Largest file of certificates.
const LARGEST: u64 = 64 << 20;

/// The authorities of a file or of the files in a folder, in PEM form.
///
/// # Errors
/// [`HubError::Certificates`] when it cannot be read or holds none.
pub(super) fn of_file(named: &Setting<PathBuf>) -> Result<RootCerts, HubError> {
    let path = &named.value;
    let fault = |reason: String| HubError::Certificates {
        path: path.clone(),
        origin: named.origin.to_string(),
        reason,
    };
    let mut certificates = Vec::new();
    for file in files(path).map_err(|error| fault(error.to_string()))? {
        let length = fs::metadata(&file).map_or(0, |found| found.len());
        if length > LARGEST {
            return Err(fault(format!("it has {length} bytes")));
        }
        let pem = fs::read(&file).map_err(|error| fault(error.to_string()))?;
        certificates.extend(of_pem(&pem));
    }
    match certificates.is_empty() {
        true => Err(fault(
            "it holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)".into(),
        )),
        false => Ok(RootCerts::Specific(Arc::new(certificates))),
    }
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let paths = fs::read_dir(path)?.map(|entry| Ok(entry?.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    paths.retain(|path| path.is_file());
    Ok(paths)
}

fn of_pem(pem: &[u8]) -> impl Iterator<Item = Certificate<'static>> {
    let items = parse_pem(pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    items.collect::<Vec<_>>().into_iter()
}

/// The authorities that this system believes; `None` when it has none.
pub(super) fn of_system() -> Option<RootCerts> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!("a certificate of the system cannot be read: {error}");
    }
    let certificates: Vec<_> = found
        .certs
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect();
    (!certificates.is_empty()).then(|| RootCerts::Specific(Arc::new(certificates)))
}

/// Why the certificate of a server was refused, if that is what an error is about.
pub(super) fn refusal(error: &ureq::Error) -> Option<String> {
    let text = match error {
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Rustls(error) => error.to_string(),
        _ => return None,
    };
    let reason = text.split("invalid peer certificate: ").nth(1)?;
    Some(match reason {
        "UnknownIssuer" => "it is signed by an authority that is not known here".into(),
        reason => reason.into(),
    })
}

/// What to do about a certificate that is refused.
pub(super) fn advice(named: Option<&Setting<PathBuf>>) -> String {
    match named {
        Some(named) => format!(
            "the authorities believed are those of `{}` (from {}): add the one that is missing to it, or unset the variable",
            named.value.display(),
            named.origin
        ),
        None => "if your network or mirror has an authority of its own, name the file of its certificate (PEM) in \
                 SSL_CERT_FILE, or add it to the system's"
            .into(),
    }
}

/// The variable that names a proxy, in the order in which they are looked at.
pub(super) fn proxy_variable(lookup: impl Fn(&str) -> bool) -> Option<&'static str> {
    let names = [
        "ALL_PROXY",
        "all_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
    ];
    names.into_iter().find(|name| lookup(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::Origin;

    #[test]
    fn files_without_certificates_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let named = |path: &Path| Setting {
            value: path.to_owned(),
            origin: Origin::Variable("SSL_CERT_FILE"),
        };
        let refused = |path: &Path| of_file(&named(path)).unwrap_err().to_string();
        assert!(refused(&path).contains("SSL_CERT_FILE"));
        fs::write(&path, "no certificate").unwrap();
        for path in [path.as_path(), folder.path()] {
            let said = refused(path);
            assert!(
                said.contains("holds no certificate") && said.contains("SSL_CERT_FILE"),
                "{said}"
            );
        }
        fs::write(&path, include_str!("../../tests/it/hub/tls/authority.pem")).unwrap();
        for path in [path.as_path(), folder.path()] {
            let RootCerts::Specific(certificates) = of_file(&named(path)).unwrap() else {
                panic!("the file's certificates are not taken");
            };
            assert_eq!(certificates.len(), 1);
        }
    }

    #[test]
    fn refusals_are_told_from_other_failures() {
        let io = |text: &str| ureq::Error::Io(io::Error::other(text.to_owned()));
        let unknown = refusal(&io("invalid peer certificate: UnknownIssuer")).unwrap();
        assert!(unknown.contains("authority"), "{unknown}");
        assert_eq!(
            refusal(&io("invalid peer certificate: Expired")).as_deref(),
            Some("Expired")
        );
        assert_eq!(refusal(&io("connection reset")), None);
        assert_eq!(refusal(&ureq::Error::HostNotFound), None);
    }
}
