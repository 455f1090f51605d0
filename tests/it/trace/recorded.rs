//! What a trace says against what the policy plans.

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use deepforcing::{
    cache::{
        Plan, Policy, Slot,
        plan::{ChunkSpan, reposition},
    },
    trace::{
        Trace,
        format::{Chunk, RoomMade, Run},
        partial_of,
    },
};

use crate::trace::{
    SMALL_CACHE,
    program::{Desk, decoded, process},
};

/// Renders with a trace and reads it.
fn traced(desk: &Desk, name: &str, more: &[&str]) -> Trace {
    let path = desk.video(&format!("{name}.jsonl"));
    let file = path.display().to_string();
    let flags = [&["--trace", &file, "--vae", "tae"], more].concat();
    desk.render(&format!("{name}.mp4"), &flags);
    let trace = Trace::read(&path).unwrap();
    assert_eq!(trace.damage, None);
    trace
}

fn runs<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<Run<T>> {
    let mut runs: Vec<Run<T>> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((last, count)) if *last == value => *count += 1,
            _ => runs.push((value, 1)),
        }
    }
    runs
}

/// The tokens that an event says were selected.
fn selected(event: &RoomMade, trace: &Trace) -> Vec<(u64, usize, u32)> {
    let of_frame = event.selected.iter().flat_map(|selected| {
        let cells = selected.cells(trace.header.shape.tokens_per_frame()).unwrap();
        cells.into_iter().map(|cell| (selected.frame, cell, selected.reuses))
    });
    of_frame.collect()
}

/// Makes the cache of a layer again with the planning code and the selections of the trace; everything else that the
/// trace says must be what comes out. Returns the number of events.
fn replay(trace: &Trace, layer: usize) -> usize {
    let (shape, recipe) = (trace.header.shape, &trace.header.recipe);
    let policy = recipe.cache.resolve(shape.chunk, recipe.video.latent_frames).unwrap();
    let per_frame = shape.tokens_per_frame();
    let mut slots: Vec<Slot> = Vec::new();
    let mut events = 0;
    for chunk in &trace.chunks {
        let incoming = (0..chunk.frames * per_frame).map(|token| {
            let frame = chunk.start + (token / per_frame) as u64;
            let (row, column) = (token % per_frame / shape.columns, token % shape.columns);
            Slot::of_frame(frame, row as u32, column as u32)
        });
        let plan = Plan::make(&policy, slots.len(), chunk.frames * per_frame, per_frame).unwrap();
        slots.extend(incoming);
        let event = trace
            .events
            .iter()
            .find(|event| (event.chunk, event.layer) == (chunk.chunk, layer));
        assert_eq!(event.is_some(), plan.is_some(), "chunk {}", chunk.chunk);
        assert_eq!(chunk.event, plan.is_some());
        if let (Some(plan), Some(event)) = (plan, event) {
            events += 1;
            let chosen = follow(&policy, &plan, event, &mut slots);
            let span = ChunkSpan {
                start: chunk.start,
                frames: chunk.frames,
            };
            reposition(&policy, &mut slots, plan.sink, chosen, span, per_frame);
            assert_eq!(event.positions, runs(slots.iter().map(|slot| slot.position)));
            let kept = slots[plan.sink..plan.sink + chosen].iter();
            let kept: Vec<_> = kept
                .map(|slot| {
                    (
                        slot.frame,
                        slot.row as usize * shape.columns + slot.column as usize,
                        slot.reuses,
                    )
                })
                .collect();
            assert_eq!(selected(event, trace), kept);
            let current = slots.len() - chunk.frames * per_frame;
            assert!(slots[..current].iter().all(|slot| slot.position < chunk.start as i64));
            assert_eq!(event.bytes, slots.len() * shape.bytes_per_token);
        }
        assert_held(chunk, layer, &slots);
    }
    events
}

/// Checks an event against its plan and takes the dropped tokens out; returns how many were selected.
fn follow(policy: &Policy, plan: &Plan, event: &RoomMade, slots: &mut Vec<Slot>) -> usize {
    assert_eq!(
        (event.sink, event.total, event.select),
        (plan.sink, plan.total, plan.select)
    );
    assert_eq!(event.candidates, (plan.candidates.start, plan.candidates.end));
    let chosen = event.chosen_slots().unwrap();
    assert!(chosen.iter().all(|slot| plan.candidates.contains(slot)));
    assert!(chosen.len() <= plan.select);
    if policy.selection.is_some_and(|selection| selection.reuse_limit == 0) {
        assert_eq!(chosen.len(), plan.select);
    }
    chosen.iter().for_each(|slot| slots[*slot].reuses += 1);
    *slots = plan.kept(&chosen).into_iter().map(|slot| slots[slot]).collect();
    assert_eq!(event.kept, slots.len());
    if let Some(scores) = &event.scores {
        assert!(scores.lowest <= scores.kept_lowest && scores.kept_highest <= scores.highest);
        assert!((0.0..=1.0).contains(&scores.share) && (0.0..=1.0 + 1e-9).contains(&scores.entropy));
    }
    chosen.len()
}

fn assert_held(chunk: &Chunk, layer: usize, slots: &[Slot]) {
    let held = chunk.layers.get(layer).unwrap_or(&chunk.layers[0]);
    let mut said: Vec<Run<u64>> = Vec::new();
    for (frame, tokens) in [&held.sink, &held.selected, &held.recent, &held.current]
        .into_iter()
        .flatten()
    {
        match said.last_mut() {
            Some((last, count)) if last == frame => *count += tokens,
            _ => said.push((*frame, *tokens)),
        }
    }
    assert_eq!(said, runs(slots.iter().map(|slot| slot.frame)), "chunk {}", chunk.chunk);
    let current: Vec<u64> = held.current.iter().map(|(frame, _)| *frame).collect();
    assert_eq!(
        current,
        (chunk.start..chunk.start + chunk.frames as u64).collect::<Vec<_>>()
    );
}

#[test]
fn a_trace_is_what_the_policy_plans() {
    let desk = Desk::new();
    for (at, case) in [
        &["--policy", "fifo"][..],
        &["--policy", "sink"],
        &["--policy", "deep-sink", "--positions", "paper"],
        &["--policy", "deep-forcing", "--reuse-limit", "0"],
        &["--policy", "deep-forcing", "--reuse-limit", "1"],
        &["--policy", "deep-forcing", "--positions", "paper", "--scorer", "past"],
        &["--policy", "deep-forcing", "--scorer", "random"],
    ]
    .iter()
    .enumerate()
    {
        let flags = [&SMALL_CACHE[..], &["--seconds", "4"], case].concat();
        let trace = traced(&desk, &at.to_string(), &flags);
        let layers = trace.header.shape.layers;
        assert!(layers > 1);
        for layer in 0..layers {
            assert!(replay(&trace, layer) > 2, "{case:?}");
        }
        let selects = case[1] == "deep-forcing";
        assert!(
            trace.events.iter().all(|event| (event.select > 0) == selects),
            "{case:?}"
        );
        let end = trace.end.unwrap();
        assert_eq!((end.chunks, end.complete), (trace.chunks.len() as u64, true));
    }
}

#[test]
fn a_video_without_events_has_its_chunks() {
    let desk = Desk::new();
    let trace = traced(&desk, "short", &["--policy", "global", "--seconds", "2"]);
    assert!(trace.events.is_empty() && trace.attention.is_empty());
    assert_eq!(trace.chunks.len(), 3);
    (0..trace.header.shape.layers).for_each(|layer| assert_eq!(replay(&trace, layer), 0));
    assert_eq!(trace.header.video, Some(desk.video("short.mp4").display().to_string()));
}

#[test]
fn attention_is_recorded_where_it_is_asked_for() {
    let desk = Desk::new();
    let flags = [
        &SMALL_CACHE[..],
        &["--seconds", "4", "--attention", "1:0", "--attention", "0"],
    ]
    .concat();
    let every = traced(&desk, "every", &flags);
    assert_eq!(every.attention.len(), 2 * every.chunks.len());
    for seen in &every.attention {
        assert_eq!(seen.heads, if seen.layer == 0 { vec![0, 1] } else { vec![0] });
        let chunk = every.chunks.iter().find(|chunk| chunk.chunk == seen.chunk).unwrap();
        let held = chunk.layers.get(seen.layer).unwrap_or(&chunk.layers[0]);
        let tokens = |runs: &[Run<u64>]| runs.iter().map(|(_, tokens)| tokens).sum::<u64>();
        let all = [&held.sink, &held.selected, &held.recent, &held.current];
        assert_eq!(tokens(&seen.frames), all.iter().map(|runs| tokens(runs)).sum::<u64>());
        for shares in &seen.shares {
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-4);
        }
    }
    let events = traced(&desk, "events", &[&flags[..], &["--attention-every", "event"]].concat());
    let chunks: Vec<_> = every
        .chunks
        .iter()
        .filter(|chunk| chunk.event)
        .map(|chunk| chunk.chunk)
        .collect();
    let mut seen: Vec<_> = events.attention.iter().map(|seen| seen.chunk).collect();
    seen.dedup();
    assert_eq!(seen, chunks);
}

#[test]
fn a_trace_does_not_change_the_video() {
    let desk = Desk::new();
    let flags = [&SMALL_CACHE[..], &["--seconds", "3"]].concat();
    let plain = desk.pixels(&flags);
    let trace = desk.video("t.jsonl").display().to_string();
    let traced = desk.pixels(&[&flags[..], &["--trace", &trace, "--attention", "all"]].concat());
    assert!(plain == traced);
    assert_eq!(
        Trace::read(&desk.video("t.jsonl")).unwrap().header.video,
        None,
        "a stream has no name"
    );
}

#[test]
fn several_videos_have_a_trace_each_and_rerun_repeats_one() {
    let desk = Desk::new();
    let flags = [
        "a red ball",
        "green hills",
        "--prompt-given",
        "--vae",
        "tae",
        "--trace",
        "traces-{index}.jsonl",
    ];
    desk.command("{index}.mp4", &flags).assert().success();
    let names: Vec<_> = desk
        .names()
        .into_iter()
        .filter(|name| name.ends_with("jsonl"))
        .collect();
    assert_eq!(names.len(), 2, "{:?}", desk.names());

    let model = desk.model.folder().display().to_string();
    let video = desk.names().into_iter().find(|name| name.ends_with("mp4")).unwrap();
    let words = [
        "rerun",
        &video,
        "--model",
        &model,
        "-o",
        "again.mp4",
        "--trace",
        "again.jsonl",
    ];
    let output = desk.run(&words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = |name: &str| -> Vec<String> {
        let text = fs::read_to_string(desk.video(name)).unwrap();
        text.lines().skip(1).map(str::to_owned).collect()
    };
    assert_eq!(lines("again.jsonl"), lines(&names[0]));
}

#[test]
fn a_killed_run_leaves_whole_lines() {
    let desk = Desk::new();
    let path = desk.video("t.jsonl");
    let trace = path.display().to_string();
    let flags = [&SMALL_CACHE[..], &["--seconds", "600", "--trace", &trace]].concat();
    let mut command = process(&desk.words("killed.mp4", &flags));
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    // Under another name until it is whole, so that the same command can go on.
    let path = partial_of(&path);
    let chunks = || fs::read_to_string(&path).map_or(0, |text| text.matches("{\"kind\":\"chunk\"").count());
    while chunks() < 4 && begun.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(5));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(fs::read(&path).unwrap().ends_with(b"}\n"));
    let trace = Trace::read(&path).unwrap();
    assert_eq!((trace.damage, trace.end), (None, None));
    assert!(trace.chunks.len() >= 4 && !trace.events.is_empty());
    assert!(!desk.video("t.jsonl").exists());
    desk.command("killed.mp4", &["--trace", "t.jsonl"]).assert().success();
    assert!(Trace::read(&desk.video("t.jsonl")).unwrap().end.unwrap().complete && !path.exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_costs_the_trace_and_not_the_video() {
    let desk = Desk::new();
    let output = desk
        .command("whole.mp4", &["--trace", "/dev/full", "--overwrite"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let says = "cannot write the trace `/dev/full` beyond its first 0 chunks";
    assert!(
        stderr.contains(says) && stderr.contains("the video is not affected"),
        "{stderr}"
    );
    assert_eq!(decoded(&desk.video("whole.mp4")).frames.len(), 24);
}

#[test]
fn a_batch_puts_a_trace_beside_each_video() {
    let desk = Desk::new();
    fs::write(desk.video("prompts.txt"), "a red ball\ngreen hills\n").unwrap();
    let model = desk.model.folder().display().to_string();
    let words = [
        "batch",
        "prompts.txt",
        "-o",
        "out",
        "--traces",
        "--model",
        &model,
        "--size",
        "32x32",
        "--seconds",
        "1",
    ];
    let output = desk.run(&words);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let videos: Vec<_> = fs::read_dir(desk.video("out"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "mp4"))
        .collect();
    assert_eq!(videos.len(), 2);
    for video in videos {
        let trace = Trace::read(&video.with_extension("trace.jsonl")).unwrap();
        assert!(trace.end.unwrap().complete);
        let named = trace.header.video.unwrap();
        assert_eq!(desk.video(&named), video);
    }
}
