//! A server on this machine that behaves like the hub, with faults on demand.
//!
//! It listens on two ports, as the hub has two hosts: one answers questions and redirects, the other one sends the
//! content of large files.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const COMMIT: &str = "37ec512624d61f7aa208f7ea8140a131f93afc9a";
pub const REPO: &str = "org/model";
pub const TOKEN: &str = "hf_secret";

pub struct Server {
    hub: SocketAddr,
    state: Arc<State>,
}

struct State {
    cdn: SocketAddr,
    files: Mutex<BTreeMap<String, File>>,
    faults: Mutex<Faults>,
    log: Mutex<Vec<Request>>,
}

#[derive(Clone)]
struct File {
    content: Vec<u8>,
    /// Large files are sent by the other host and have their SHA-256 as etag.
    large: bool,
}

/// What goes wrong.
#[derive(Default)]
pub struct Faults {
    /// Answers to the next requests to the hub, in place of the right ones.
    pub answers: VecDeque<(u16, Vec<(&'static str, &'static str)>)>,
    /// Bytes after which the next transfers break off.
    pub cuts: VecDeque<usize>,
    /// Whether requests for a part get all.
    pub ignores_range: bool,
    /// Whether the content that is sent is not the one announced.
    pub damages: bool,
    /// Whether the files need a token.
    pub gated: bool,
    /// Pause before content is sent.
    pub slowness: Duration,
    /// Pause before each byte of a content, and before each line of a description.
    pub drip: Option<Duration>,
    /// Size to announce in place of the real one.
    pub size: Option<u64>,
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    pub to_cdn: bool,
    pub method: String,
    pub path: String,
    headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

impl Server {
    pub fn start() -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (hub, cdn) = (listen(), listen());
        let server = Self {
            hub: hub.local_addr().unwrap(),
            state: Arc::new(State {
                cdn: cdn.local_addr().unwrap(),
                files: Mutex::default(),
                faults: Mutex::default(),
                log: Mutex::default(),
            }),
        };
        for (listener, to_cdn) in [(hub, false), (cdn, true)] {
            let state = server.state.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = state.clone();
                    thread::spawn(move || drop(state.serve(stream, to_cdn)));
                }
            });
        }
        server
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.hub)
    }

    /// Publishes a large file and gives its SHA-256.
    pub fn large(&self, name: &str, content: &[u8]) -> String {
        self.put(name, content, true);
        sha256(content)
    }

    /// Publishes a small file.
    pub fn small(&self, name: &str, content: &[u8]) {
        self.put(name, content, false);
    }

    fn put(&self, name: &str, content: &[u8], large: bool) {
        let file = File {
            content: content.into(),
            large,
        };
        self.state.files.lock().unwrap().insert(name.into(), file);
    }

    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        self.state.faults.lock().unwrap()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.log.lock().unwrap().clone()
    }

    /// Requests for the content of large files.
    pub fn transfers(&self) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.to_cdn);
        requests
    }
}

impl State {
    fn serve(&self, stream: TcpStream, to_cdn: bool) -> std::io::Result<()> {
        let request = read_request(&stream, to_cdn)?;
        let drip = self.faults.lock().unwrap().drip;
        if let Some(pause) = drip.filter(|_| !to_cdn && request.method == "HEAD") {
            self.log.lock().unwrap().push(request);
            (&stream).write_all(b"HTTP/1.1 200 OK\r\n")?;
            loop {
                thread::sleep(pause);
                (&stream).write_all(b"X-Line: x\r\n")?;
            }
        }
        self.log.lock().unwrap().push(request.clone());
        match to_cdn {
            true => self.send_content(&stream, &request),
            false => self.answer(&stream, &request),
        }
    }

    fn answer(&self, stream: &TcpStream, request: &Request) -> std::io::Result<()> {
        if let Some((status, headers)) = self.faults.lock().unwrap().answers.pop_front() {
            return respond(
                stream,
                status,
                &headers.iter().map(|(k, v)| (*k, v.to_string())).collect::<Vec<_>>(),
            );
        }
        let refuse = |status, code: &str| respond(stream, status, &[("X-Error-Code", code.to_string())]);
        let authorized = request.header("authorization") == Some(&format!("Bearer {TOKEN}"));
        let Some((repo, rest)) = request.path.trim_start_matches('/').split_once("/resolve/") else {
            return refuse(404, "");
        };
        if repo != REPO {
            return refuse(if authorized { 404 } else { 401 }, "RepoNotFound");
        }
        let Some((revision, name)) = rest.split_once('/') else {
            return refuse(404, "");
        };
        if ![COMMIT, "main"].contains(&revision) {
            return refuse(404, "RevisionNotFound");
        }
        if self.faults.lock().unwrap().gated && !authorized {
            let with_token = request.header("authorization").is_some();
            return refuse(if with_token { 403 } else { 401 }, "GatedRepo");
        }
        let file = self.files.lock().unwrap().get(name).cloned();
        let Some(file) = file else {
            return refuse(404, "EntryNotFound");
        };
        let announced = self.faults.lock().unwrap().size.unwrap_or(file.content.len() as u64);
        let hash = sha256(&file.content);
        let mut headers = vec![("X-Repo-Commit", COMMIT.to_string())];
        if file.large {
            headers.extend([
                ("X-Linked-Etag", format!("\"{hash}\"")),
                ("X-Linked-Size", announced.to_string()),
                ("ETag", "\"of the pointer\"".to_string()),
                ("Location", format!("http://{}/{name}?signature=abc", self.cdn)),
            ]);
            return respond(stream, 302, &headers);
        }
        headers.push(("ETag", format!("\"{}\"", git_hash(&file.content))));
        headers.push(("Content-Length", announced.to_string()));
        respond(stream, 200, &headers)?;
        match request.method.as_str() {
            "HEAD" => Ok(()),
            _ => {
                let mut content = file.content;
                if self.faults.lock().unwrap().damages {
                    content[0] ^= 1;
                }
                (&*stream).write_all(&content)
            }
        }
    }

    fn send_content(&self, stream: &TcpStream, request: &Request) -> std::io::Result<()> {
        let name = request.path.trim_start_matches('/').split('?').next().unwrap();
        let file = self.files.lock().unwrap().get(name).cloned().unwrap();
        let (mut content, size) = (file.content, request.header("range"));
        let (cut, ignores_range, slowness) = {
            let mut faults = self.faults.lock().unwrap();
            if faults.damages {
                content[0] ^= 1;
            }
            (faults.cuts.pop_front(), faults.ignores_range, faults.slowness)
        };
        let whole = content.len();
        let from = size
            .filter(|_| !ignores_range)
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let part = &content[from.unwrap_or(0)..];
        let mut headers = vec![("Content-Length", part.len().to_string())];
        if let Some(from) = from {
            headers.push(("Content-Range", format!("bytes {from}-{}/{whole}", whole - 1)));
        }
        respond(stream, if from.is_some() { 206 } else { 200 }, &headers)?;
        thread::sleep(slowness);
        if let Some(pause) = self.faults.lock().unwrap().drip {
            for byte in part {
                thread::sleep(pause);
                (&*stream).write_all(&[*byte])?;
            }
        }
        (&*stream).write_all(&part[..cut.unwrap_or(part.len()).min(part.len())])
    }
}

fn read_request(stream: &TcpStream, to_cdn: bool) -> std::io::Result<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut words = first.split(' ').map(str::to_string);
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        match line.split_once(": ") {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.into()),
            None => break,
        };
    }
    Ok(Request {
        to_cdn,
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        headers,
    })
}

fn respond(mut stream: &TcpStream, status: u16, headers: &[(&str, String)]) -> std::io::Result<()> {
    let mut text = format!("HTTP/1.1 {status} Status\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        text.push_str("Content-Length: 0\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{text}\r\n").as_bytes())
}

pub fn sha256(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What git and the hub call a small file by.
pub fn git_hash(content: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", content.len()));
    hash.update(content);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that look random and are the same everywhere.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as u8
    };
    (0..bytes).map(|_| next()).collect()
}
