//! What is in the cache, and what cannot be: found, verified, removed, no space, no permission.

use std::{fs, path::Path};

use deepforcing::hub::{HubError, Source, Verified};

use crate::hub::{
    desk::{Desk, LARGE, SMALL, pull, source},
    server::{COMMIT, REPO, sha256},
};

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
    desk.server.faults().cuts.extend([10, 0, 0]);
    desk.pull(&large).unwrap_err();
    let removal = hub.plan_removal(&both, &[]);
    hub.remove(&removal).unwrap();
    assert!(!desk.repo().exists(), "{:?}", desk.blobs());
}
