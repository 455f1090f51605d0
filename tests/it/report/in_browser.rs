//! The page in a real browser: it draws, it plays in step, it asks nobody.

use std::{fs, path::Path, thread::sleep, time::Duration};

use deepforcing::report::{self, Options};
use serde_json::Value;

use crate::report::{
    browser::Browser,
    folder::{Folder, Shape},
};

const READY: &str = "return document.readyState === 'complete' \
    && [...document.querySelectorAll('video')].every((v) => v.readyState >= 2 && !v.seeking)";
const TIMES: &str = "return [...document.querySelectorAll('video')].map((v) => v.currentTime)";

fn page(folder: &Folder) -> std::path::PathBuf {
    report::write(folder.path(), &Options::default()).unwrap().page
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

/// Nothing was said on the console and nothing fetched but files and what is in the page.
#[track_caller]
fn is_clean(browser: &Browser) {
    assert_eq!(browser.console(), [""; 0]);
    let requests = browser.requests();
    assert!(!requests.is_empty());
    let outside = |url: &&String| !url.starts_with("file:") && !url.starts_with("data:") && !url.starts_with("about:");
    assert!(requests.iter().find(outside).is_none(), "{requests:?}");
}

/// Moves the scrubber as its user does.
fn scrub(browser: &Browser, second: f64) {
    browser.run(&format!(
        "const s = document.getElementById('scrub'); s.value = {second}; s.dispatchEvent(new Event('input', {{ bubbles: true }}))"
    ));
    browser.wait(READY);
}

#[test]
fn everything_is_drawn() {
    let folder = Folder::sweep(Shape::default());
    let Some(browser) = Browser::open(1400, 900) else {
        return;
    };
    browser.go(&page(&folder));
    browser.wait(READY);
    let count = |selector: &str| browser.run(&format!("return document.querySelectorAll('{selector}').length"));
    assert_eq!(count("#table tbody tr"), 3);
    assert_eq!(count("#charts .chart"), 6);
    assert_eq!(count("#more-charts .chart"), 5);
    // A line and a band for every setting.
    assert_eq!(count("[data-metric=colour_drift] .line"), 3);
    assert_eq!(count("[data-metric=colour_drift] .band"), 3);
    assert_eq!(count("#players video"), 3);
    browser.wait("return [...document.querySelectorAll('.strip img')].every((i) => i.naturalWidth > 0)");
    let sizes =
        browser.run("return [...document.querySelectorAll('.strip img')].map((i) => i.naturalWidth / i.naturalHeight)");
    // Four pictures of 96x64 side by side.
    assert_eq!(numbers(&sizes), [6.0; 3]);
    // No sideways scrolling of the page itself.
    let over = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(browser.run(over), 0);
    is_clean(&browser);
}

#[test]
fn one_scrubber_moves_all_videos() {
    let folder = Folder::sweep(Shape::default());
    let Some(browser) = Browser::open(1400, 900) else {
        return;
    };
    browser.go(&page(&folder));
    browser.wait(READY);
    for second in [2.5, 0.5, 3.75] {
        scrub(&browser, second);
        let times = numbers(&browser.run(TIMES));
        assert_eq!(times.len(), 3);
        assert!(
            times.iter().all(|time| (time - second).abs() < 0.1),
            "{second}: {times:?}"
        );
    }
    // By single pictures, with the keyboard: 8 a second.
    scrub(&browser, 1.0);
    browser.keys("..");
    browser.wait(READY);
    let times = numbers(&browser.run(TIMES));
    assert!(times.iter().all(|time| (time - 1.25).abs() < 0.1), "{times:?}");
    // They play together, and the clock with them.
    browser.click("#play");
    browser.wait(
        "const times = [...document.querySelectorAll('video')].map((v) => v.currentTime); \
        return Math.min(...times) > 1.4 && Math.max(...times) - Math.min(...times) < 0.25",
    );
    browser.click("#play");
    let paused = browser.run("return [...document.querySelectorAll('video')].every((v) => v.paused)");
    assert_eq!(paused, true);
    is_clean(&browser);
}

#[test]
fn prompts_seeds_and_settings_are_chosen() {
    let folder = Folder::sweep(Shape::default());
    let Some(browser) = Browser::open(1400, 900) else {
        return;
    };
    browser.go(&page(&folder));
    browser.wait(READY);
    let sources = "return [...document.querySelectorAll('video')].map((v) => v.getAttribute('src')).join()";
    assert_eq!(
        browser.run(sources),
        "./sink-0/00000-0.mp4,./sink-4/00000-0.mp4,./sink-10/00000-0.mp4"
    );
    let choose = |id: &str, value: u32| {
        browser.run(&format!(
            "const s = document.getElementById('{id}'); s.value = {value}; s.dispatchEvent(new Event('change'))"
        ));
        browser.wait(READY);
    };
    scrub(&browser, 2.0);
    choose("prompt", 1);
    choose("seed", 1);
    browser.click(".chip:nth-child(2)");
    browser.wait(READY);
    assert_eq!(browser.run(sources), "./sink-0/00001-1.mp4,./sink-10/00001-1.mp4");
    // The moment stays.
    let times = numbers(&browser.run(TIMES));
    assert!(times.iter().all(|time| (time - 2.0).abs() < 0.1), "{times:?}");
    assert_eq!(browser.run("return document.querySelectorAll('.strip img').length"), 2);
    assert_eq!(
        browser.run("return document.querySelectorAll('[data-metric=motion] .line').length"),
        2
    );
    // Sorted by render time, the slowest first.
    browser.click("#table th:last-child button");
    browser.click("#table th:last-child button");
    assert_eq!(
        browser.run("return document.querySelector('#table tbody th').textContent"),
        "sink 10"
    );
    is_clean(&browser);
}

#[test]
fn curves_are_those_of_the_videos_that_are_chosen() {
    let folder = Folder::sweep(Shape::default());
    let Some(browser) = Browser::open(1400, 900) else {
        return;
    };
    browser.go(&page(&folder));
    browser.wait(READY);
    let choose = |id: &str, value: &str| {
        browser.run(&format!(
            "const s = document.getElementById('{id}'); s.value = '{value}'; s.dispatchEvent(new Event('change'))"
        ));
        browser.wait(READY);
    };
    let count = |what: &str| {
        browser.run(&format!(
            "return document.querySelectorAll('[data-metric=motion] {what}').length"
        ))
    };
    let lines = || {
        let paths = "return [...document.querySelectorAll('[data-metric=motion] .line')].map((l) => l.getAttribute('d')).join()";
        browser.run(paths).as_str().unwrap().to_owned()
    };
    let options = browser.run("return [...document.getElementById('of').options].map((o) => o.value).join()");
    assert_eq!(options, "all,prompt,seed,video");
    let all = lines();
    choose("of", "prompt");
    let first = lines();
    assert!(first != all && count(".band") == 3);
    choose("prompt", "1");
    assert_ne!(lines(), first, "another prompt");
    choose("of", "seed");
    assert_eq!(count(".band"), 3);
    let seed = lines();
    choose("seed", "1");
    assert_ne!(lines(), seed, "another seed");
    // One video has no spread; what is drawn is what its line of the manifest says.
    choose("of", "video");
    assert_eq!((count(".line"), count(".band")), (3.into(), 0.into()));
    let spoken =
        browser.run("return document.querySelector('[data-metric=sink_similarity] svg').getAttribute('aria-label')");
    let line: Value = serde_json::from_str(folder.read("manifest.jsonl").lines().nth(3).unwrap()).unwrap();
    let last = line["metrics"]["per_second"][3]["sink_similarity"].as_f64().unwrap();
    let says = format!("to {last:.3}; sink 4:");
    assert!(spoken.as_str().unwrap().contains(&says), "{says}: {spoken}");
    choose("of", "all");
    assert_eq!(lines(), all);
    is_clean(&browser);
}

#[test]
fn what_is_not_there_is_said_in_its_place() {
    let folder = Folder::sweep(Shape::default());
    fs::remove_file(folder.file("sink-0/00000-0.mp4")).unwrap();
    let text = folder.read("manifest.jsonl");
    let kept: Vec<_> = text.lines().filter(|line| !line.contains("sink-4/00000-0")).collect();
    fs::write(folder.file("manifest.jsonl"), kept.join("\n") + "\n").unwrap();
    let Some(browser) = Browser::open(1400, 900) else {
        return;
    };
    browser.go(&page(&folder));
    browser.wait(READY);
    let absent = browser.run("return [...document.querySelectorAll('.absent')].map((e) => e.textContent).join()");
    assert_eq!(absent, "the file is not in the folder,not rendered yet");
    scrub(&browser, 2.0);
    assert!((numbers(&browser.run(TIMES))[0] - 2.0).abs() < 0.1);
    is_clean(&browser);
}

#[test]
fn hostile_texts_do_nothing() {
    let hostile = "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 1'> & \"quoted\" 'one'";
    let folder = Folder::sweep(Shape {
        sinks: vec![0, 4],
        prompts: vec![hostile.into(), "javascript:window.hit=1".into()],
        seeds: vec![0],
        ..Shape::default()
    });
    folder.write_plan(|plan| plan["points"][1]["label"] = hostile.into());
    let Some(browser) = Browser::open(1400, 900) else {
        return;
    };
    browser.go(&page(&folder));
    browser.wait(READY);
    assert_eq!(browser.run("return window.hit ?? 0"), 0);
    assert_eq!(browser.run("return document.querySelectorAll('img[src=x]').length"), 0);
    assert_eq!(
        browser.run("return document.getElementById('video-caption').textContent"),
        hostile
    );
    assert_eq!(
        browser.run("return document.querySelectorAll('#table tbody th')[1].textContent"),
        hostile
    );
    is_clean(&browser);
}

#[test]
fn a_narrow_screen_needs_no_sideways_scrolling() {
    let folder = Folder::sweep(Shape::default());
    let Some(browser) = Browser::open(500, 900) else { return };
    browser.dark(true);
    browser.go(&page(&folder));
    browser.wait(READY);
    let over = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(browser.run(over), 0);
    let back = "return getComputedStyle(document.body).backgroundColor";
    assert_eq!(browser.run(back), "rgb(21, 24, 29)");
    is_clean(&browser);
}

/// Seven settings, five prompts, a minute each: the size of the paper's ablation.
#[test]
fn a_large_sweep_opens_at_once() {
    opens_at_once(false, (208, 120));
}

/// The same with pictures of the model's size that are nothing but grain, the worst that there can be.
#[test]
#[ignore = "encodes seven minutes of grain at 832x480"]
fn a_large_sweep_of_grain_opens_at_once() {
    opens_at_once(true, (832, 480));
}

fn opens_at_once(grain: bool, size: (u32, u32)) {
    let shape = Shape {
        sinks: vec![0, 4, 9, 10, 12, 14, 18],
        prompts: (0..5).map(|number| format!("prompt number {number}")).collect(),
        seeds: vec![0],
        seconds: 60,
        size,
        grain,
    };
    let folder = Folder::sweep_of_copies(shape);
    let page = page(&folder);
    let bytes = fs::metadata(&page).unwrap().len();
    assert!(bytes < if grain { 60_000_000 } else { 20_000_000 }, "{bytes} bytes");
    let Some(browser) = Browser::open(1400, 900) else {
        return;
    };
    let open = || {
        browser.go(&page);
        browser.wait(READY);
        let ready = browser.run("return performance.getEntriesByName('drawn')[0].startTime");
        ready.as_f64().unwrap()
    };
    // Told, not tested: other programs run here too.
    let times = [open(), open(), open()].map(|time| format!("{time:.0}"));
    println!("{bytes} bytes; drawn after {} ms", times.join(", "));
    assert_eq!(browser.run("return document.querySelectorAll('video').length"), 7);
    is_clean(&browser);
}

/// Pictures for people of the page of any folder: `DEEPFORCING_SCREENSHOTS=DIR DEEPFORCING_REPORT=DIR cargo test --test
/// report pictures -- --ignored`.
#[test]
#[ignore = "for people: makes pictures of a page"]
fn pictures_of_a_page() {
    let folder = Folder::sweep(Shape::default());
    let page = match std::env::var_os("DEEPFORCING_REPORT") {
        Some(given) => Path::new(&given).canonicalize().unwrap().join("report.html"),
        None => page(&folder),
    };
    for (name, width, height) in [("desktop", 1400, 1000), ("narrow", 500, 900)] {
        let Some(browser) = Browser::open(width, height) else {
            return;
        };
        for dark in [false, true] {
            browser.dark(dark);
            browser.go(&page);
            browser.wait(READY);
            scrub(&browser, 1.5);
            for part in ["top", "curves", "sheets", "videos", "repeat", "metrics"] {
                browser.run(&format!(
                    "document.documentElement.style.scrollBehavior = 'auto'; \
                    (document.getElementById('{part}') ?? document.body).scrollIntoView()"
                ));
                sleep(Duration::from_millis(300));
                browser.screenshot(&format!("{name}-{}-{part}", if dark { "dark" } else { "light" }));
            }
        }
    }
}
