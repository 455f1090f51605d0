//! Networks with a proxy or an authority of their own.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::Arc,
    thread,
};

use deepforcing::hub::HubError;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::hub::{
    desk::{Desk, LARGE, SMALL, pull, source},
    server::{REPO, Server},
};

const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/hub/tls/authority.pem");

/// The server behind a port that speaks TLS, with a certificate of the authority of these tests.
fn behind_tls(server: &Server) -> String {
    let chain = CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server-key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    let config = Arc::new(config);
    let plain: SocketAddr = server.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            thread::spawn(move || drop(forward(stream, config, plain)));
        }
    });
    format!("https://localhost:{port}")
}

/// One request and its answer.
fn forward(stream: TcpStream, config: Arc<ServerConfig>, plain: SocketAddr) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut tls = StreamOwned::new(connection, stream);
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") {
        tls.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let mut to = TcpStream::connect(plain)?;
    to.write_all(&request)?;
    let mut answer = Vec::new();
    to.read_to_end(&mut answer)?;
    tls.write_all(&answer)?;
    tls.conn.send_close_notify();
    tls.flush()
}

#[test]
fn an_authority_of_a_file_is_believed() {
    let desk = Desk::new();
    let endpoint = behind_tls(&desk.server);
    for variable in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"] {
        let hub = desk.hub_with(&[("HF_ENDPOINT", &endpoint), (variable, AUTHORITY)]);
        let path = pull(&hub, &source(SMALL)).unwrap();
        assert_eq!(fs::read(path).unwrap(), b"{}", "{variable}");
        let cache = desk.cache.path().read_dir().unwrap();
        cache.for_each(|entry| fs::remove_dir_all(entry.unwrap().path()).unwrap());
    }
}

#[test]
fn an_unknown_authority_is_named_with_what_to_do() {
    let desk = Desk::new();
    let endpoint = behind_tls(&desk.server);
    let error = pull(&desk.hub_with(&[("HF_ENDPOINT", &endpoint)]), &source(SMALL)).unwrap_err();
    let said = error.to_string();
    assert!(
        matches!(error, HubError::Untrusted { .. }) && !error.is_offline(),
        "{said}"
    );
    assert!(said.contains(&endpoint) && said.contains("SSL_CERT_FILE"), "{said}");
    // The server's own certificate is no authority.
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/hub/tls/server-key.pem");
    let hub = desk.hub_with(&[("HF_ENDPOINT", &endpoint), ("SSL_CERT_FILE", other)]);
    let said = pull(&hub, &source(SMALL)).unwrap_err().to_string();
    assert!(said.contains(other) && said.contains("no certificate"), "{said}");
}

/// A run of `models pull` for a model of small files.
fn program(server: &Server, endpoint: &str, folder: &Path, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let roles = ["transformer", "vae", "tiny-decoder", "text-encoder", "tokenizer"];
    let source = |role: &str| format!("[sources.{role}]\nrepo = \"{REPO}\"\nfile = \"{role}.bin\"\n");
    roles
        .iter()
        .for_each(|role| server.small(&format!("{role}.bin"), role.as_bytes()));
    let files: String = roles.iter().map(|role| format!("{role} = []\n")).collect();
    let toml = format!(
        "description = \"A test\"\n[files]\n{files}[video]\nwidth = 64\nheight = 64\nfps = 16\n{}",
        roles.map(source).concat()
    );
    fs::write(folder.join("model.toml"), toml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_deepforcing"));
    command
        .env_clear()
        .env("HOME", folder)
        .env("HF_ENDPOINT", endpoint)
        .envs(variables.iter().copied())
        .current_dir(folder)
        .args(["models", "pull", "model.toml"]);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn an_authority_of_the_system_is_believed() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let endpoint = behind_tls(&server);
    // Where the system's certificates are.
    let store = folder.path().join("certs");
    fs::create_dir(&store).unwrap();
    fs::copy(AUTHORITY, store.join("0123abcd.0")).unwrap();
    let (code, stderr) = program(&server, &endpoint, folder.path(), &[]);
    assert!(code == Some(1) && stderr.contains("is not trusted"), "{stderr}");
    let store = [("SSL_CERT_DIR", store.to_str().unwrap())];
    let (code, stderr) = program(&server, &endpoint, folder.path(), &store);
    assert_eq!(code, Some(0), "{stderr}");
}

#[test]
fn a_proxy_that_refuses_is_named_without_its_password() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let endpoint = server.endpoint();
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "http_proxy"] {
        let proxy = [(variable, "http://me:secret@127.0.0.1:1")];
        let (code, stderr) = program(&server, &endpoint, folder.path(), &proxy);
        let says = format!("cannot reach {endpoint} through the proxy http://127.0.0.1:1 (from {variable})");
        assert!(code == Some(1) && stderr.contains(&says), "{stderr}");
        assert!(!stderr.contains("secret") && stderr.contains("NO_PROXY"), "{stderr}");
    }
    let around = [("HTTPS_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "127.0.0.1")];
    let (code, stderr) = program(&server, &endpoint, folder.path(), &around);
    assert_eq!(code, Some(0), "{stderr}");
}

#[test]
fn large_files_are_not_sent_by_a_host_without_encryption() {
    let desk = Desk::new();
    let endpoint = behind_tls(&desk.server);
    let hub = desk.hub_with(&[("HF_ENDPOINT", &endpoint), ("SSL_CERT_FILE", AUTHORITY)]);
    assert!(matches!(pull(&hub, &source(LARGE)), Err(HubError::NotTheHub { .. })));
}
