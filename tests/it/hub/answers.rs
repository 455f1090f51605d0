//! What the hub answers: descriptions, refusals, requests to wait.

use std::time::{Duration, Instant};

use deepforcing::hub::{HubError, PullEvent, Source, Waiting};

use crate::hub::{
    desk::{Desk, LARGE, SMALL, pull, source},
    server::{COMMIT, REPO, TOKEN},
};

#[test]
fn a_file_is_described_by_all_answers_together() {
    let desk = Desk::new();
    let moved = vec![("Location", "/elsewhere"), ("X-Repo-Commit", COMMIT)];
    let last = vec![("ETag", "W/\"abc\""), ("Content-Length", "2")];
    desk.server.faults().answers.extend([(307, moved), (200, last)]);
    let path = desk.pull(&source(SMALL)).unwrap();
    assert_eq!(path, desk.repo().join("snapshots").join(COMMIT).join(SMALL));
    assert_eq!(desk.blobs(), ["abc"]);
    let asked: Vec<_> = desk
        .server
        .requests()
        .iter()
        .map(|request| request.path.clone())
        .collect();
    assert_eq!(asked[1], "/elsewhere");
    // The content is that of the commit, whatever happens to the branch meanwhile.
    assert_eq!(asked[2], format!("/{REPO}/resolve/{COMMIT}/{SMALL}"));
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
