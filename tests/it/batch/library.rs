//! The same runs without the command line: what a program that uses the library gets.

use deepforcing::{
    Error,
    batch::{Existing, Item, List, Naming, Run, Shard, State, items},
    config::{Environment, Layer, Layers},
    models::Locator,
    prompts::Scene,
    recipe::Disclosure,
    render::{
        Event,
        jobs::{Request, works},
        run,
        session::Session,
    },
    rollout::{CancelToken, request::PictureSize},
    video::{Form, read_frames},
};

use crate::batch::{desk::Batches, program::environment};

/// A session with the model of `batches`, 32×32 and 0.5 s; nothing of this process's environment counts.
fn session(batches: &Batches) -> Session {
    let layer = Layer {
        model: Some(batches.desk.model.folder().display().to_string()),
        size: Some(PictureSize { width: 32, height: 32 }),
        seconds: Some(0.5),
        ..Layer::default()
    };
    let layers = Layers::load(layer, &Environment::default()).unwrap();
    let variables = environment();
    let locator = Locator::from_env(|name| {
        let found = variables.iter().find(|(known, _)| known == name)?;
        Some(found.1.clone())
    });
    Session::locate(&locator, &layers, false, &CancelToken::default(), &mut |_| {}).unwrap()
}

fn list<'a>(session: &'a Session, scenes: &'a [Scene], folder: &'a std::path::Path) -> List<'a> {
    List {
        keeps_state: false,
        disclosure: Disclosure::default(),
        session,
        sessions: &[],
        scenes,
        points: &[],
        folder,
        shard: Shard::ALL,
        form: Form::Mp4,
        existing: Existing::Refuse,
        measures: false,
        trace: None,
        checks_memory: true,
    }
}

fn named(scenes: &[Scene]) -> Vec<Item> {
    items(scenes, 1, Naming::default(), "mp4", 0).unwrap().items
}

/// The words of an event that are looked at here.
fn told(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Stage(text) => Some((*text).to_owned()),
        Event::Video(video) => Some(format!("video {} of {}", video.number.0, video.number.1)),
        Event::Finished { complete, .. } => Some(format!("finished, complete: {complete}")),
        Event::Skipped { video, .. } => Some(format!("skipped {video}")),
        _ => None,
    }
}

#[test]
fn a_list_is_made_video_by_video() {
    let batches = Batches::new();
    let (session, cancel) = (session(&batches), CancelToken::default());
    let scenes = ["a red ball", "the sea"].map(Scene::of_prompt);
    let (items, folder) = (named(&scenes), batches.path("out"));
    let list = list(&session, &scenes, &folder);
    let mut heard = Vec::new();
    let mut observe = |event: Event<'_>| heard.extend(told(&event));
    let mut run = Run::open(&list, &items, || Ok(()), &cancel, &mut observe).unwrap();
    let first = run.next(&cancel, &mut observe).unwrap().unwrap();
    assert_eq!(first.entry.prompt, "a red ball");
    assert_eq!(first.path, folder.join(list.file(&items[0])));
    // The first video is there and noted before the second is begun.
    assert_eq!(batches.lines("out/manifest.jsonl").len(), 1);
    assert!(run.next(&cancel, &mut observe).unwrap().is_some());
    assert!(run.next(&cancel, &mut observe).unwrap().is_none());
    assert_eq!((run.tally().made, run.tally().there, run.tally().failed), (2, 0, 0));
    drop(run);
    assert_eq!(
        heard,
        [
            "loading the model",
            "reading the prompts",
            "video 1 of 2",
            "finished, complete: true",
            "video 2 of 2",
            "finished, complete: true",
        ]
    );

    // What is there is not made again, and needs no model in memory.
    heard.clear();
    let mut observe = |event: Event<'_>| heard.extend(told(&event));
    let mut run = Run::open(&list, &items, || Ok(()), &cancel, &mut observe).unwrap();
    assert!(run.next(&cancel, &mut observe).unwrap().is_none());
    assert_eq!((run.tally().made, run.tally().there), (0, 2));
    assert!(heard.is_empty(), "{heard:?}");
}

#[test]
fn a_list_that_is_stopped_goes_on_where_it_was() {
    let batches = Batches::new();
    let session = session(&batches);
    let scenes = ["a red ball", "the sea"].map(Scene::of_prompt);
    let (items, folder) = (named(&scenes), batches.path("out"));
    let list = list(&session, &scenes, &folder);
    let cancel = CancelToken::default();
    let mut run = Run::open(&list, &items, || Ok(()), &cancel, &mut |_| {}).unwrap();
    run.next(&cancel, &mut |_| {}).unwrap().unwrap();
    cancel.now();
    let stopped = run.next(&cancel, &mut |_| {}).err();
    assert!(matches!(stopped, Some(Error::Cancelled)), "{stopped:?}");
    drop(run);
    let cancel = CancelToken::default();
    let mut run = Run::open(&list, &items, || Ok(()), &cancel, &mut |_| {}).unwrap();
    let second = run.next(&cancel, &mut |_| {}).unwrap().unwrap();
    assert_eq!(second.entry.prompt, "the sea");
    assert_eq!((run.tally().made, run.tally().there), (1, 1));
}

#[test]
fn what_is_in_the_way_is_refused_kept_or_replaced() {
    let batches = Batches::new();
    let session = session(&batches);
    let scenes = [Scene::of_prompt("a red ball")];
    let (items, folder) = (named(&scenes), batches.path("out"));
    let mut list = list(&session, &scenes, &folder);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(list.file(&items[0])), "something else").unwrap();
    let manifest = deepforcing::batch::Manifest::read(&folder, Shard::ALL).unwrap();
    let mut planned = |existing| {
        list.existing = existing;
        let (planned, conflicts) = list.plan(&items, &manifest, &[], &mut |_| {}).unwrap();
        let state = match planned[0].state {
            State::InTheWay => "in the way",
            State::Kept => "kept",
            State::Todo(_) => "to do",
            _ => "something else",
        };
        (state, conflicts.refuse(&list).is_ok())
    };
    assert_eq!(planned(Existing::Refuse), ("in the way", false));
    assert_eq!(planned(Existing::Keep), ("kept", true));
    assert_eq!(planned(Existing::Replace), ("to do", true));
}

#[test]
fn a_request_becomes_videos_with_their_recipes() {
    let batches = Batches::new();
    let (session, cancel) = (session(&batches), CancelToken::default());
    let request = Request {
        scenes: ["a red ball", "the sea"].map(Scene::of_prompt).into(),
        output: Some(batches.path("{index}.mp4")),
        sidecar: true,
        ..Request::default()
    };
    let works = works(&request, &session, &mut |_| {}).unwrap();
    let files = session.files(&cancel, &mut |_| {}).unwrap();
    let compute = session.compute(&mut |_| {}).unwrap();
    session.check_memory(&files, &works, &compute).unwrap();
    let mut run = run::Run::load(&files, &compute, works, &mut |_| {}).unwrap();
    let mut made = 0;
    while let Some(video) = run.next(&cancel, &mut |_| {}).unwrap() {
        made += 1;
        assert!(video.outcome.complete);
        let summary = video.outcome.summary.unwrap();
        assert_eq!(
            read_frames(&summary.path, 100).unwrap().frames.len() as u64,
            summary.frames
        );
        let sidecar = std::fs::read_to_string(video.work.sidecar.unwrap()).unwrap();
        let recipe = deepforcing::recipe::Recipe::from_json(&sidecar).unwrap();
        assert_eq!(recipe.prompts, video.work.job.recipe.prompts);
        assert_eq!(recipe.encoding.encoder.as_deref(), Some(summary.encoder.name));
    }
    assert_eq!(made, 2);

    // The same request again: its files are there.
    let again = deepforcing::render::jobs::works(&request, &session, &mut |_| {}).err();
    assert!(again.is_some_and(|error| error.to_string().contains("--overwrite")));
}
