//! The library against the server.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use deepforcing::hub::{Hub, HubError, HubSettings, PullEvent, Source, Verified, Waiting};
use tempfile::TempDir;

use crate::server::{COMMIT, REPO, Server, TOKEN, noise, sha256};

const LARGE: &str = "folder/model.pt";
const SMALL: &str = "config.json";

/// A server with a large and a small file, and a cache.
struct Desk {
    server: Server,
    cache: TempDir,
    content: Vec<u8>,
}

impl Desk {
    fn new() -> Self {
        let (server, content) = (Server::start(), noise(1_000_000));
        server.large(LARGE, &content);
        server.small(SMALL, b"{}");
        Self {
            server,
            cache: tempfile::tempdir().unwrap(),
            content,
        }
    }

    fn hub_with(&self, more: &[(&str, &str)]) -> Hub {
        let settings = HubSettings::from_env(|name| {
            let set = more
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value));
            set.or_else(|| match name {
                "HF_ENDPOINT" => Some(self.server.endpoint().into()),
                "HF_HUB_CACHE" => Some(self.cache.path().into()),
                "HF_HUB_DOWNLOAD_TIMEOUT" => Some("5".into()),
                _ => None,
            })
        });
        Hub::new(settings.unwrap()).unwrap().with_retries(2)
    }

    fn hub(&self) -> Hub {
        self.hub_with(&[])
    }

    fn pull(&self, source: &Source) -> Result<PathBuf, HubError> {
        pull(&self.hub(), source)
    }

    fn repo(&self) -> PathBuf {
        self.cache.path().join("models--org--model")
    }

    fn partial(&self) -> PathBuf {
        self.repo()
            .join("blobs")
            .join(format!("{}.incomplete", sha256(&self.content)))
    }

    fn blobs(&self) -> Vec<String> {
        let entries = fs::read_dir(self.repo().join("blobs")).into_iter().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn source(file: &str) -> Source {
    Source {
        repo: REPO.into(),
        file: file.into(),
        revision: "main".into(),
        bytes: None,
        sha256: None,
    }
}

fn pull(hub: &Hub, source: &Source) -> Result<PathBuf, HubError> {
    hub.pull(source, &mut |_| {}, &|| false)
}

#[test]
fn a_pulled_file_lies_where_other_tools_look() {
    let desk = Desk::new();
    let path = desk.pull(&source(LARGE)).unwrap();
    assert_eq!(path, desk.repo().join("snapshots").join(COMMIT).join(LARGE));
    assert_eq!(fs::read(&path).unwrap(), desk.content);
    assert_eq!(
        fs::read_link(&path).unwrap(),
        Path::new("../../../blobs").join(sha256(&desk.content))
    );
    assert_eq!(fs::read_to_string(desk.repo().join("refs/main")).unwrap(), COMMIT);
    let crate_finds = hf_hub::Cache::new(desk.cache.path().into())
        .model(REPO.into())
        .get(LARGE);
    assert_eq!(crate_finds, Some(path.clone()));

    // A second time nobody is asked.
    let requests = desk.server.requests().len();
    assert_eq!(desk.pull(&source(LARGE)).unwrap(), path);
    assert_eq!(desk.server.requests().len(), requests);

    let small = desk.pull(&source(SMALL)).unwrap();
    assert_eq!(fs::read(small).unwrap(), b"{}");
    assert!(
        desk.blobs().iter().all(|name| !name.contains("incomplete")),
        "{:?}",
        desk.blobs()
    );
}

#[test]
fn progress_is_told() {
    let desk = Desk::new();
    let (mut start, mut last, mut done) = (None, 0, false);
    let mut listen = |event: PullEvent<'_>| match event {
        PullEvent::Start { bytes, have, .. } => start = Some((bytes, have)),
        PullEvent::Progress { bytes } => {
            assert!(bytes > last);
            last = bytes;
        }
        PullEvent::Done { .. } => done = true,
        other => panic!("{other:?}"),
    };
    desk.hub().pull(&source(LARGE), &mut listen, &|| false).unwrap();
    assert_eq!((start, last, done), (Some((1_000_000, 0)), 1_000_000, true));
}

#[test]
fn the_token_stays_with_the_hub() {
    let desk = Desk::new();
    desk.server.faults().gated = true;
    pull(&desk.hub_with(&[("HF_TOKEN", TOKEN)]), &source(LARGE)).unwrap();
    let requests = desk.server.requests();
    let (cdn, hub): (Vec<_>, Vec<_>) = requests.iter().partition(|request| request.to_cdn);
    assert!(!hub.is_empty() && !cdn.is_empty());
    assert!(
        hub.iter()
            .all(|request| request.header("authorization") == Some("Bearer hf_secret"))
    );
    assert!(
        cdn.iter().all(|request| request.header("authorization").is_none()),
        "{cdn:?}"
    );
}

#[test]
fn a_repository_that_is_private_or_not_there() {
    let desk = Desk::new();
    let other = Source {
        repo: "org/other".into(),
        ..source(LARGE)
    };
    let error = desk.pull(&other).unwrap_err();
    assert!(matches!(error, HubError::Unauthorized { .. }), "{error:?}");
    assert!(
        error.to_string().contains("org/other") && error.to_string().contains("HF_TOKEN"),
        "{error}"
    );
    // With a token the hub says more.
    let error = pull(&desk.hub_with(&[("HF_TOKEN", TOKEN)]), &other).unwrap_err();
    assert!(matches!(error, HubError::NoRepo { .. }), "{error:?}");
}

#[test]
fn a_token_that_is_refused_is_named_by_its_origin() {
    let desk = Desk::new();
    let message = vec![("X-Error-Message", "Invalid credentials in Authorization header")];
    desk.server.faults().answers.push_back((401, message));
    let error = pull(&desk.hub_with(&[("HF_TOKEN", "hf_old")]), &source(LARGE)).unwrap_err();
    assert!(matches!(error, HubError::TokenRefused { .. }), "{error:?}");
    assert!(
        error.to_string().contains("HF_TOKEN") && !error.to_string().contains("hf_old"),
        "{error}"
    );
}

#[test]
fn a_repository_with_terms_to_agree_to() {
    let desk = Desk::new();
    desk.server.faults().gated = true;
    for hub in [desk.hub(), desk.hub_with(&[("HF_TOKEN", "hf_other")])] {
        let error = pull(&hub, &source(LARGE)).unwrap_err();
        assert!(matches!(error, HubError::Gated { .. }), "{error:?}");
        let page = format!("{}/{REPO}", desk.server.endpoint());
        assert!(
            error.to_string().contains(&page) && error.to_string().contains("HF_TOKEN"),
            "{error}"
        );
    }
}

#[test]
fn revisions_and_files_that_do_not_exist() {
    let desk = Desk::new();
    let revision = Source {
        revision: "v2".into(),
        ..source(LARGE)
    };
    let error = desk.pull(&revision).unwrap_err();
    assert!(
        matches!(error, HubError::NoRevision { .. }) && error.to_string().contains("`v2`"),
        "{error:?}"
    );
    let error = desk.pull(&source("nothing.pt")).unwrap_err();
    assert!(
        matches!(error, HubError::NoFile { .. }) && error.to_string().contains("nothing.pt"),
        "{error:?}"
    );
    // A mirror that says no more than 404.
    desk.server.faults().answers.push_back((404, vec![]));
    let error = desk.pull(&source(LARGE)).unwrap_err();
    assert!(matches!(error, HubError::NoFile { .. }), "{error:?}");
}

#[test]
fn too_many_requests_are_waited_for() {
    let desk = Desk::new();
    desk.server
        .faults()
        .answers
        .push_back((429, vec![("Retry-After", "1")]));
    let mut waits = Vec::new();
    let mut listen = |event: PullEvent<'_>| {
        if let PullEvent::Waiting { why, time } = event {
            waits.push((why.clone(), time));
        }
    };
    let began = Instant::now();
    desk.hub().pull(&source(LARGE), &mut listen, &|| false).unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(waits, [(Waiting::RateLimit, Some(Duration::from_secs(1)))]);
}

#[test]
fn too_many_requests_for_too_long() {
    let desk = Desk::new();
    desk.server
        .faults()
        .answers
        .push_back((429, vec![("Retry-After", "3600")]));
    let error = desk.pull(&source(LARGE)).unwrap_err();
    assert!(matches!(error, HubError::RateLimited { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("3600 s") && text.contains("HF_TOKEN"), "{text}");
    // Again and again.
    let again = || (429, vec![("Retry-After", "0")]);
    desk.server.faults().answers.extend([again(), again(), again()]);
    let error = desk.pull(&source(LARGE)).unwrap_err();
    assert!(matches!(error, HubError::RateLimited { .. }), "{error:?}");
}

#[test]
fn a_hub_in_trouble_is_asked_again() {
    let desk = Desk::new();
    desk.server.faults().answers.push_back((503, vec![]));
    desk.pull(&source(LARGE)).unwrap();
    let desk = Desk::new();
    desk.server
        .faults()
        .answers
        .extend([(500, vec![]), (502, vec![]), (503, vec![])]);
    let error = desk.pull(&source(LARGE)).unwrap_err();
    assert!(matches!(error, HubError::Status { status: 503, .. }), "{error:?}");
}

#[test]
fn a_server_that_is_no_hub() {
    let desk = Desk::new();
    desk.server.faults().answers.push_back((200, vec![]));
    let error = desk.pull(&source(LARGE)).unwrap_err();
    assert!(
        matches!(error, HubError::NotTheHub { .. }) && error.to_string().contains("HF_ENDPOINT"),
        "{error:?}"
    );
    // Names that would lead out of the cache.
    let evil = vec![("X-Repo-Commit", COMMIT), ("ETag", "\"../../evil\"")];
    desk.server.faults().answers.push_back((200, evil));
    assert!(matches!(desk.pull(&source(LARGE)), Err(HubError::NotTheHub { .. })));
    desk.server
        .faults()
        .answers
        .push_back((302, vec![("Location", "nowhere")]));
    assert!(matches!(desk.pull(&source(LARGE)), Err(HubError::NotTheHub { .. })));
}

#[test]
fn a_transfer_that_breaks_goes_on_where_it_broke() {
    let desk = Desk::new();
    desk.server.faults().cuts.extend([300_000, 200_000]);
    let path = desk.pull(&source(LARGE)).unwrap();
    assert_eq!(fs::read(path).unwrap(), desk.content);
    let ranges: Vec<_> = desk
        .server
        .transfers()
        .iter()
        .map(|t| t.header("range").map(str::to_string))
        .collect();
    assert_eq!(
        ranges,
        [None, Some("bytes=300000-".into()), Some("bytes=500000-".into())]
    );
}

#[test]
fn a_later_run_goes_on_as_well() {
    let desk = Desk::new();
    // Three connections bring nothing more: the run gives up.
    desk.server.faults().cuts.extend([400_000, 0, 0, 0]);
    let error = desk.pull(&source(LARGE)).unwrap_err();
    assert!(
        matches!(
            error,
            HubError::Broken {
                received: 400_000,
                bytes: 1_000_000,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("run the command again"), "{error}");
    assert_eq!(fs::metadata(desk.partial()).unwrap().len(), 400_000);
    let pinned = Source {
        bytes: Some(1_000_000),
        sha256: Some(sha256(&desk.content)),
        ..source(LARGE)
    };
    for source in [pinned, source(LARGE)] {
        let missing = desk.hub().missing(&[source], &|| false).unwrap();
        assert_eq!((missing[0].bytes, missing[0].have), (1_000_000, 400_000));
    }

    let before = desk.server.transfers().len();
    let path = desk.pull(&source(LARGE)).unwrap();
    assert_eq!(fs::read(path).unwrap(), desk.content);
    let transfers = desk.server.transfers();
    assert_eq!(transfers.len(), before + 1);
    assert_eq!(transfers[before].header("range"), Some("bytes=400000-"));
    assert_eq!(desk.blobs(), [sha256(&desk.content)]);
}

#[test]
fn a_server_that_ignores_ranges_sends_all_again() {
    let desk = Desk::new();
    {
        let mut faults = desk.server.faults();
        faults.cuts.push_back(300_000);
        faults.ignores_range = true;
    }
    let path = desk.pull(&source(LARGE)).unwrap();
    assert_eq!(fs::read(path).unwrap(), desk.content);
    assert_eq!(desk.server.transfers().len(), 2);
}

#[test]
fn a_file_that_changed_meanwhile_is_downloaded_from_its_beginning() {
    let desk = Desk::new();
    desk.server.faults().cuts.extend([300_000, 0, 0, 0]);
    desk.pull(&source(LARGE)).unwrap_err();
    let changed = noise(900_000).split_off(1);
    desk.server.large(LARGE, &changed);
    let before = desk.server.transfers().len();
    let path = desk.pull(&source(LARGE)).unwrap();
    assert_eq!(fs::read(path).unwrap(), changed);
    assert_eq!(desk.server.transfers()[before].header("range"), None);
}

#[test]
fn a_partial_file_of_other_content_is_given_up() {
    let desk = Desk::new();
    fs::create_dir_all(desk.partial().parent().unwrap()).unwrap();
    for junk in [noise(300_000).split_off(7), noise(2_000_000)] {
        fs::write(desk.partial(), junk).unwrap();
        let path = desk.pull(&source(LARGE)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), desk.content);
        fs::remove_file(fs::canonicalize(&path).unwrap()).unwrap();
    }
}

#[test]
fn damaged_content_is_not_put_in_place() {
    let desk = Desk::new();
    desk.server.faults().damages = true;
    let error = desk.pull(&source(LARGE)).unwrap_err();
    let HubError::WrongHash { found, expected, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*expected, sha256(&desk.content));
    let text = error.to_string();
    assert!(
        text.contains(found) && text.contains(expected) && text.contains("run the command again"),
        "{text}"
    );
    assert_eq!(desk.hub().find(&source(LARGE)), None);
    assert!(desk.blobs().is_empty(), "{:?}", desk.blobs());
}

#[test]
fn another_file_than_the_preset_names_is_not_even_downloaded() {
    let desk = Desk::new();
    let other_hash = Source {
        sha256: Some(sha256(b"something else")),
        ..source(LARGE)
    };
    let error = desk.pull(&other_hash).unwrap_err();
    assert!(matches!(error, HubError::WrongHash { .. }), "{error:?}");
    let other_size = Source {
        bytes: Some(5),
        ..source(LARGE)
    };
    let error = desk.pull(&other_size).unwrap_err();
    assert!(matches!(error, HubError::WrongSize { .. }), "{error:?}");
    assert!(desk.server.transfers().is_empty());
    // The git hash of a small file says nothing of its SHA-256: it is checked after the download.
    let small = Source {
        sha256: Some(sha256(b"something else")),
        ..source(SMALL)
    };
    let error = desk.pull(&small).unwrap_err();
    assert!(matches!(error, HubError::WrongHash { .. }), "{error:?}");
    assert_eq!(desk.hub().find(&source(SMALL)), None);
}

#[test]
fn offline_files_of_the_cache_are_found_and_others_refused() {
    let desk = Desk::new();
    let path = desk.pull(&source(LARGE)).unwrap();
    let asked = desk.server.requests().len();
    let offline = desk.hub_with(&[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(pull(&offline, &source(LARGE)).unwrap(), path);
    let error = pull(&offline, &source(SMALL)).unwrap_err();
    assert!(
        matches!(error, HubError::Offline { .. }) && error.is_offline(),
        "{error:?}"
    );
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    assert!(matches!(
        offline.missing(&[source(SMALL)], &|| false),
        Err(HubError::Offline { .. })
    ));
    assert_eq!(desk.server.requests().len(), asked);
}

#[test]
fn a_hub_that_cannot_be_reached() {
    let desk = Desk::new();
    let hub = desk.hub_with(&[("HF_ENDPOINT", "http://127.0.0.1:1")]);
    let error = pull(&hub, &source(LARGE)).unwrap_err();
    assert!(
        matches!(error, HubError::Unreachable { .. }) && error.is_offline(),
        "{error:?}"
    );
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[test]
fn a_server_that_falls_silent() {
    let desk = Desk::new();
    desk.server.faults().slowness = Duration::from_secs(4);
    let hub = desk.hub_with(&[("HF_HUB_DOWNLOAD_TIMEOUT", "0.2")]).with_retries(1);
    let began = Instant::now();
    let error = pull(&hub, &source(LARGE)).unwrap_err();
    assert!(matches!(error, HubError::Broken { .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_download_can_be_stopped_and_gone_on_with() {
    let desk = Desk::new();
    let stop = AtomicBool::new(false);
    let mut listen = |event: PullEvent<'_>| {
        if let PullEvent::Progress { bytes: 200_000.. } = event {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let stopped = desk
        .hub()
        .pull(&source(LARGE), &mut listen, &|| stop.load(Ordering::Relaxed));
    assert_eq!(stopped, Err(HubError::Cancelled));
    let kept = fs::metadata(desk.partial()).unwrap().len();
    assert!((200_000..1_000_000).contains(&kept), "{kept}");
    desk.pull(&source(LARGE)).unwrap();
    let range = format!("bytes={kept}-");
    assert_eq!(
        desk.server.transfers().last().unwrap().header("range"),
        Some(range.as_str())
    );
}

#[test]
fn a_disk_that_is_too_small_is_noticed_before_the_download() {
    let desk = Desk::new();
    desk.server.faults().size = Some(1 << 60);
    let error = desk.pull(&source(LARGE)).unwrap_err();
    let HubError::NoSpace { needed, free, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(*needed == 1 << 60 && *free > 0);
    let text = error.to_string();
    assert!(
        text.contains("HF_HOME") && text.contains(desk.cache.path().to_str().unwrap()),
        "{text}"
    );
    assert!(desk.server.transfers().is_empty());
}

#[test]
#[cfg(target_os = "linux")]
fn a_disk_that_fills_up() {
    let desk = Desk::new();
    fs::create_dir_all(desk.partial().parent().unwrap()).unwrap();
    // Every write to it fails for want of space.
    std::os::unix::fs::symlink("/dev/full", desk.partial()).unwrap();
    let error = desk.pull(&source(LARGE)).unwrap_err();
    assert!(matches!(error, HubError::DiskFull { .. }), "{error:?}");
    assert!(error.to_string().contains("HF_HOME"), "{error}");
    assert_eq!(desk.hub().find(&source(LARGE)), None);
}

#[test]
#[cfg(target_os = "linux")]
fn a_cache_that_cannot_be_written() {
    let desk = Desk::new();
    // Not even the superuser makes folders there.
    let hub = desk.hub_with(&[("HF_HUB_CACHE", "/sys/deepforcing")]);
    let error = pull(&hub, &source(LARGE)).unwrap_err();
    assert!(matches!(error, HubError::NotWritable { .. }), "{error:?}");
    assert!(
        error.to_string().contains("/sys/deepforcing") && error.to_string().contains("HF_HOME"),
        "{error}"
    );
}

#[test]
fn two_at_once_download_once() {
    let desk = Desk::new();
    desk.server.faults().slowness = Duration::from_millis(500);
    let (first, second) = (desk.hub(), desk.hub());
    let mut waited = false;
    std::thread::scope(|scope| {
        let other = scope.spawn(|| pull(&first, &source(LARGE)).unwrap());
        while desk.server.transfers().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut listen = |event: PullEvent<'_>| {
            if let PullEvent::Waiting { why, .. } = event {
                waited |= *why == Waiting::OtherProcess;
            }
        };
        let path = second.pull(&source(LARGE), &mut listen, &|| false).unwrap();
        assert_eq!(path, other.join().unwrap());
    });
    assert!(waited);
    assert_eq!(desk.server.transfers().len(), 1);
}

#[test]
fn verification_reads_the_file() {
    let desk = Desk::new();
    assert!(matches!(
        desk.hub().verify(&source(LARGE)),
        Err(HubError::NotCached { .. })
    ));
    let path = desk.pull(&source(LARGE)).unwrap();
    let hash = sha256(&desk.content);
    assert_eq!(desk.hub().verify(&source(LARGE)), Ok(Verified::Hash(hash)));
    let mut damaged = desk.content.clone();
    damaged[999_999] ^= 1;
    fs::write(&path, &damaged).unwrap();
    assert!(matches!(
        desk.hub().verify(&source(LARGE)),
        Err(HubError::WrongHash { .. })
    ));
    fs::write(&path, &damaged[1..]).unwrap();
    let sized = Source {
        bytes: Some(1_000_000),
        ..source(LARGE)
    };
    assert!(matches!(
        desk.hub().verify(&sized),
        Err(HubError::WrongSize { found: 999_999, .. })
    ));
    // Of a small file the hub states a git hash only.
    desk.pull(&source(SMALL)).unwrap();
    assert!(matches!(
        desk.hub().verify(&source(SMALL)),
        Ok(Verified::Unknown { .. })
    ));
}

#[test]
fn a_removal_spares_what_others_use() {
    let desk = Desk::new();
    let (large, small) = (source(LARGE), source(SMALL));
    desk.pull(&large).unwrap();
    desk.pull(&small).unwrap();
    let hub = desk.hub();
    let both = [large.clone(), small.clone()];

    // Another model needs the small file.
    let removal = hub.plan_removal(&both, std::slice::from_ref(&small));
    assert_eq!(removal.bytes, 1_000_000);
    hub.remove(&removal).unwrap();
    assert!(hub.find(&large).is_none() && hub.find(&small).is_some());

    // An older snapshot of another tool links to the same content.
    let blob = fs::canonicalize(hub.find(&small).unwrap()).unwrap();
    let older = desk
        .repo()
        .join("snapshots/0000000000000000000000000000000000000001/other.json");
    fs::create_dir_all(older.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&blob, &older).unwrap();
    let removal = hub.plan_removal(&both, &[]);
    assert_eq!(removal.bytes, 0);
    hub.remove(&removal).unwrap();
    assert!(hub.find(&small).is_none() && fs::read(&older).unwrap() == b"{}");

    // The last file takes the folder along, with what broken downloads left.
    fs::remove_file(&older).unwrap();
    desk.pull(&small).unwrap();
    desk.server.faults().cuts.extend([10, 0, 0, 0]);
    desk.pull(&large).unwrap_err();
    let removal = hub.plan_removal(&both, &[]);
    hub.remove(&removal).unwrap();
    assert!(!desk.repo().exists(), "{:?}", desk.blobs());
}
