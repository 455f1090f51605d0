//! Videos whose measures can be said without computing them.

use deepforcing::metrics::{Measured, Metrics, MetricsError, Options, Report};
use proptest::prelude::*;

use crate::metrics::clips::{FPS, HEIGHT, WIDTH, dimmed, flat, measure, noise, other_scene, scene};

fn value<'a>(report: &'a Report, key: &str) -> &'a Measured {
    report.metric(key).unwrap()
}

fn whole(report: &Report, key: &str) -> f64 {
    value(report, key).whole.unwrap()
}

fn change(report: &Report, key: &str) -> f64 {
    value(report, key).change.unwrap()
}

#[track_caller]
fn near(found: f64, expected: f64, by: f64) {
    assert!((found - expected).abs() <= by, "{found} instead of {expected}");
}

#[test]
fn a_still_video_has_no_flickering_no_motion_no_drift_and_no_roll_back() {
    let report = measure(vec![scene(0.0); 192]);
    assert_eq!(
        (report.pictures, report.seconds, report.per_second.len()),
        (192, 12.0, 12)
    );
    assert_eq!(whole(&report, "temporal_flickering"), 1.0);
    assert_eq!(whole(&report, "motion"), 0.0);
    assert_eq!(
        (
            value(&report, "motion").change,
            value(&report, "seam_discontinuity").whole
        ),
        (None, None)
    );
    for key in ["brightness", "contrast", "saturation", "sharpness"] {
        near(change(&report, key), 1.0, 1e-12);
    }
    for key in ["colour_drift", "colour_drift_slope", "luma_histogram_distance"] {
        near(whole(&report, key), 0.0, 1e-9);
    }
    assert_eq!(whole(&report, "sink_similarity"), 1.0);
    assert_eq!(whole(&report, "rolled_back"), 0.0);
    assert!(report.roll_backs.is_empty());
    assert_eq!(report.windows.overlap, 0.0);
}

#[test]
fn a_pan_has_its_speed_and_an_even_one_has_no_seams() {
    for speed in [0.5, 1.0, 3.0] {
        let report = measure((0..180).map(|at| scene(at as f64 * speed)));
        // The column of squares at the edge has nothing to match.
        let motion = whole(&report, "motion");
        assert!((0.85 * speed..1.1 * speed).contains(&motion), "{speed}: {motion}");
        near(change(&report, "motion"), 1.0, 0.1);
        near(whole(&report, "seam_discontinuity"), 1.0, 0.15);
        assert!(whole(&report, "temporal_flickering") < 1.0);
        assert!(report.roll_backs.is_empty(), "{:?}", report.roll_backs);
    }
}

#[test]
fn a_pan_that_slows_down_has_its_ratio() {
    let slowing = (0..192).scan(0.0, |place, at| {
        *place += if at < 96 { 2.0 } else { 1.0 };
        Some(scene(*place))
    });
    near(change(&measure(slowing), "motion"), 0.5, 0.06);
}

#[test]
fn jumps_at_the_seams_stand_out() {
    let jumping = (0..177).scan(0.0, |place, at: u32| {
        let seam = at >= 9 && (at - 9).is_multiple_of(12);
        *place += if seam { 6.0 } else { 1.0 };
        Some(scene(*place))
    });
    // 14 of 176 motions are 6, the others 1.
    let expected = 6.0 / ((14.0 * 6.0 + 162.0) / 176.0);
    near(whole(&measure(jumping), "seam_discontinuity"), expected, 0.4);
}

#[test]
fn a_fade_loses_contrast_brightness_and_sharpness_at_its_pace() {
    let bright = scene(0.0);
    let report = measure((0..192).map(|at| dimmed(&bright, 1.0 - at as f64 / 384.0)));
    for key in ["brightness", "contrast", "saturation", "sharpness"] {
        assert!(change(&report, key) < 0.8, "{key}: {}", change(&report, key));
    }
    // The variance scales with the square of the light, and rounding adds a little.
    near(change(&report, "sharpness"), 0.457, 0.03);
    assert!(whole(&report, "colour_drift_slope") > 10.0);
    let drifts: Vec<_> = report
        .per_second
        .iter()
        .skip(3)
        .map(|second| second.colour_drift)
        .collect();
    assert!(drifts.is_sorted(), "{drifts:?}");
    assert!(change(&report, "luma_histogram_distance") > 20.0);
    // A fade is no motion.
    assert!(whole(&report, "motion") < 0.2, "{}", whole(&report, "motion"));
}

#[test]
fn a_change_of_grey_is_its_distance() {
    let report = measure((0..160).map(|at| flat([if at < 80 { 100 } else { 120 }; 3])));
    assert_eq!(change(&report, "luma_histogram_distance"), 20.0);
    // L* of 100 is 42.37, of 120 50.43.
    near(change(&report, "colour_drift"), 50.43 - 42.37, 0.02);
    assert_eq!(value(&report, "temporal_flickering").first, Some(1.0));
    near(whole(&report, "temporal_flickering"), 1.0 - 20.0 / 255.0 / 159.0, 1e-12);
}

#[test]
fn a_loop_is_found_with_its_period() {
    // Four seconds, of which the fourth returns.
    let place = |at: u32| f64::from(at % 64) * 2.0;
    let report = measure((0..160).map(|at| scene(place(at))));
    let back = report.roll_backs[0];
    assert_eq!((back.second, back.to, back.sink), (4, 0.0, true));
    assert_eq!(back.seconds, 6);
    assert!(
        report.per_second[..4]
            .iter()
            .all(|second| second.rolled_back.unwrap_or(0.0) == 0.0)
    );
    assert_eq!(report.per_second[5].rolled_back, Some(1.0));
}

#[test]
fn a_cut_is_neither_motion_nor_a_roll_back_and_a_cut_back_is_one() {
    let cut = |pictures: [u32; 3]| {
        let [a, b, c] = pictures.map(|count| count as usize);
        measure([vec![scene(0.0); a], vec![other_scene(); b], vec![scene(0.0); c]].concat())
    };
    let there = cut([80, 80, 0]);
    assert!(there.roll_backs.is_empty());
    assert!(change(&there, "colour_drift") > 10.0);
    let seconds: Vec<_> = there
        .per_second
        .iter()
        .map(|second| second.temporal_flickering.unwrap() < 1.0)
        .collect();
    assert_eq!(seconds.iter().position(|changes| *changes), Some(5));
    assert_eq!(seconds.iter().filter(|changes| **changes).count(), 1);
    let back = cut([80, 80, 48]);
    assert_eq!(
        (
            back.roll_backs.len(),
            back.roll_backs[0].second,
            back.roll_backs[0].sink
        ),
        (1, 10, true)
    );
    assert!(value(&back, "sink_similarity").last.unwrap() > value(&there, "sink_similarity").last.unwrap());
}

/// A ball of `radius` that moves over a scene.
fn ball_at(x: f64, y: f64, radius: f64) -> Vec<u8> {
    let mut picture = dimmed(&scene(0.0), 0.6);
    for (at, pixel) in picture.chunks_exact_mut(3).enumerate() {
        let (column, row) = ((at % WIDTH) as f64, (at / WIDTH) as f64);
        if (column - x).hypot(row - y) < radius {
            pixel.copy_from_slice(&[230, 40, 30]);
        }
    }
    picture
}

#[test]
fn a_bouncing_ball_does_not_roll_back() {
    for period in [14.0, 32.0, 57.0, 96.0] {
        let bounce = |at: u32| (f64::from(at) * std::f64::consts::PI / period).sin().abs();
        let up_and_down = measure((0..320).map(|at| ball_at(48.0, 52.0 - 40.0 * bounce(at), 12.0)));
        assert!(
            up_and_down.roll_backs.is_empty(),
            "{period}: {:?}",
            up_and_down.roll_backs
        );
        assert_eq!(whole(&up_and_down, "rolled_back"), 0.0);
        let across = measure((0..320).map(|at| ball_at(12.0 + 72.0 * bounce(at), 32.0, 12.0)));
        assert!(across.roll_backs.is_empty(), "{period}: {:?}", across.roll_backs);
    }
}

#[test]
fn a_camera_that_sways_does_not_roll_back() {
    for period in [24.0, 64.0, 130.0, 400.0] {
        let place = |at: u32| 40.0 * (f64::from(at) * std::f64::consts::TAU / period).sin();
        let report = measure((0..480).map(|at| scene(place(at))));
        assert!(report.roll_backs.is_empty(), "{period}: {:?}", report.roll_backs);
    }
}

#[test]
fn a_crossfade_to_the_first_pictures_is_found() {
    let mixed = |a: Vec<u8>, b: Vec<u8>, share: f64| -> Vec<u8> {
        let mix = |(a, b): (u8, u8)| (f64::from(a) * (1.0 - share) + f64::from(b) * share).round() as u8;
        a.into_iter().zip(b).map(mix).collect()
    };
    for fade in [6, 12, 24] {
        // Six seconds of a pan, a fade, and the pan again from its beginning.
        let picture = |at: u32| match at.checked_sub(96) {
            None => scene(f64::from(at)),
            Some(since) => {
                let share = (f64::from(since) / f64::from(fade)).min(1.0);
                mixed(scene(f64::from(at)), scene(f64::from(since)), share)
            }
        };
        let report = measure((0..144).map(picture));
        let [back] = report.roll_backs[..] else {
            panic!("{fade}: {:?}", report.roll_backs)
        };
        assert!(
            back.sink && back.to < 1.5 && (6..8).contains(&back.second),
            "{fade}: {back:?}"
        );
        assert_eq!(back.second + back.seconds, 9, "{fade}: {back:?}");
        let last = report.per_second.last().unwrap();
        assert_eq!(last.rolled_back, Some(1.0));
        // 48 of 112 pictures that are compared at most.
        assert!((0.25..0.43).contains(&whole(&report, "rolled_back")), "{fade}");
    }
}

#[test]
fn noise_flickers_and_hardly_moves() {
    let report = measure((0..160).map(noise));
    // The mean difference of two random bytes is 85.33.
    near(whole(&report, "temporal_flickering"), 1.0 - 85.33 / 255.0, 2e-3);
    assert!(whole(&report, "motion") < 0.3, "{}", whole(&report, "motion"));
    assert!(report.roll_backs.is_empty());
    near(change(&report, "sharpness"), 1.0, 0.02);
}

#[test]
fn short_videos_state_what_their_windows_share() {
    let report = measure(vec![scene(0.0); 128]);
    assert_eq!((report.windows.first, report.windows.last), ([0.0, 5.0], [3.0, 8.0]));
    assert_eq!(report.windows.overlap, 2.0);
    let report = measure(vec![scene(0.0); 24]);
    assert_eq!(
        (report.windows.first, report.windows.last, report.windows.overlap),
        ([0.0, 1.5], [0.0, 1.5], 1.5)
    );
    assert_eq!(report.per_second.last().unwrap().pictures, 8);
}

#[test]
fn of_one_picture_what_needs_two_is_absent() {
    let report = measure([scene(0.0)]);
    for key in [
        "temporal_flickering",
        "colour_drift_slope",
        "motion",
        "seam_discontinuity",
        "sink_similarity",
        "earlier_similarity",
        "rolled_back",
    ] {
        let found = value(&report, key);
        assert_eq!(
            (found.whole, found.first, found.last, found.change),
            (None, None, None, None),
            "{key}"
        );
    }
    assert!(whole(&report, "sharpness") > 0.0);
    assert_eq!(report.per_second.len(), 1);
    assert_eq!(report.per_second[0].temporal_flickering, None);
}

#[test]
fn what_is_no_video_is_refused() {
    let new = |width, height, fps| Metrics::new(width, height, fps, Options::default()).map(|_| ());
    assert_eq!(new(0, 4, 16.0), Err(MetricsError::NoPixels { width: 0, height: 4 }));
    for fps in [0.0, -16.0, 0.5, f64::INFINITY] {
        assert_eq!(new(4, 4, fps), Err(MetricsError::FrameRate { fps }));
    }
    assert!(new(4, 4, f64::NAN).is_err());
    let mut metrics = Metrics::new(WIDTH, HEIGHT, FPS, Options::default()).unwrap();
    let error = metrics.push(&[0; 5]).unwrap_err();
    assert_eq!(error.to_string(), "picture 0 has 5 bytes, expected 18432 for 96x64 RGB");
    assert_eq!(metrics.finish().unwrap_err(), MetricsError::NoPictures);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is pushed, at any size and rate: no panic, no value that is not a number, seconds that add up.
    #[test]
    fn values_are_numbers(
        (width, height) in (1usize..40, 1usize..40), fps in 1.0f64..70.0, pictures in 1usize..90, seed in 0u32..99
    ) {
        let mut metrics = Metrics::new(width, height, fps, Options::default()).unwrap();
        for at in 0..pictures {
            let bytes = noise(seed + at as u32 / 7);
            metrics.push(&bytes[..width * height * 3]).unwrap();
        }
        let report = metrics.finish().unwrap();
        for measured in &report.metrics {
            for value in [measured.whole, measured.first, measured.last, measured.change].into_iter().flatten() {
                prop_assert!(value.is_finite(), "{}: {value}", measured.metric.key);
            }
        }
        prop_assert_eq!(report.per_second.iter().map(|second| second.pictures).sum::<u64>(), pictures as u64);
        prop_assert_eq!(report.per_second.len(), ((pictures - 1) as f64 / fps) as usize + 1);
        let flicker = report.metric("temporal_flickering").unwrap();
        prop_assert!(flicker.whole.is_none_or(|score| (0.0..=1.0).contains(&score)));
    }
}
