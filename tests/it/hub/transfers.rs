//! Content on its way: broken, resumed, damaged, stopped.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use deepforcing::hub::{HubError, PullEvent, Source, Waiting};

use crate::hub::{
    desk::{Desk, LARGE, SMALL, pull, source},
    server::{COMMIT, noise, sha256},
};

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
    desk.server.faults().cuts.extend([400_000, 0, 0]);
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
    desk.server.faults().cuts.extend([300_000, 0, 0]);
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
fn a_server_that_falls_silent() {
    let desk = Desk::new();
    desk.server.faults().slowness = Duration::from_secs(60);
    let hub = desk.hub_with(&[("HF_HUB_DOWNLOAD_TIMEOUT", "0.2")]).with_retries(1);
    let began = Instant::now();
    let error = pull(&hub, &source(LARGE)).unwrap_err();
    assert!(matches!(error, HubError::Broken { .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(60));
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
fn two_at_once_download_once() {
    let desk = Desk::new();
    desk.server.faults().slowness = Duration::from_secs(2);
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
fn a_server_that_drips_is_given_up() {
    let desk = Desk::new();
    desk.server.faults().drip = Some(Duration::from_millis(50));
    let hub = desk.hub_with(&[("HF_HUB_DOWNLOAD_TIMEOUT", "0.3")]).with_retries(1);
    let began = Instant::now();
    // A line of the description now and then.
    let error = hub.describe(&source(LARGE), &|| false).unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error:?}");
    // A byte of the content: known without asking.
    let pinned = Source {
        revision: COMMIT.into(),
        ..source(LARGE)
    };
    let headers = vec![
        ("X-Linked-Etag", "abc"),
        ("X-Linked-Size", "1000000"),
        ("X-Repo-Commit", COMMIT),
    ];
    desk.server.faults().drip = None;
    desk.server.faults().answers.push_back((200, headers));
    let mut begun = false;
    let mut listen = |event: PullEvent<'_>| {
        if let PullEvent::Start { .. } = event {
            begun = true;
            desk.server.faults().drip = Some(Duration::from_millis(50));
        }
    };
    let error = hub.pull(&pinned, &mut listen, &|| false).unwrap_err();
    assert!(begun && error.to_string().contains("bytes a second"), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_small_file_is_compared_with_its_git_hash() {
    let desk = Desk::new();
    let verified = |file: &str| {
        let mut verified = None;
        let mut listen = |event: PullEvent<'_>| {
            if let PullEvent::Done { verified: done, .. } = event {
                verified = Some(done);
            }
        };
        desk.hub().pull(&source(file), &mut listen, &|| false).map(|_| verified)
    };
    desk.server.faults().damages = true;
    let error = verified(SMALL).unwrap_err();
    assert!(error.to_string().contains("has git hash"), "{error}");
    assert!(desk.blobs().is_empty(), "{:?}", desk.blobs());
    desk.server.faults().damages = false;
    assert_eq!(verified(SMALL), Ok(Some(true)));
    assert_eq!(verified(LARGE), Ok(Some(true)));
    // Without a hash nothing is claimed.
    desk.server.small("other.json", b"{}");
    let last = vec![("ETag", "\"abc\""), ("X-Repo-Commit", COMMIT), ("Content-Length", "2")];
    desk.server.faults().answers.push_back((200, last));
    assert_eq!(verified("other.json"), Ok(Some(false)));
}
