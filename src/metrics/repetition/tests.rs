//! Tests of the roll-back detector on small pictures.

use super::*;

const FPS: f64 = 8.0;
const CHUNK: u64 = 6;

/// What is rolled back in a video of one-pixel pictures with a sink of four: first, end, to.
fn backs(greys: impl IntoIterator<Item = u8>) -> Vec<(u64, u64, u64)> {
    of_pictures(greys.into_iter().map(|grey| vec![grey; 3]), 1)
}

fn of_pictures(pictures: impl IntoIterator<Item = Vec<u8>>, width: usize) -> Vec<(u64, u64, u64)> {
    let mut repetition = Repetition::new(FPS, CHUNK, 4);
    for picture in pictures {
        repetition.push(&picture, width);
    }
    let found = repetition.finish().stretches.into_iter();
    found.map(|stretch| (stretch.from, stretch.end, stretch.to)).collect()
}

fn echoes(greys: impl IntoIterator<Item = u8>) -> Vec<Echo> {
    let mut repetition = Repetition::new(FPS, CHUNK, 4);
    greys.into_iter().map(|grey| repetition.push(&[grey; 3], 1)).collect()
}

#[test]
fn still_and_steady_videos_do_not_roll_back() {
    let still = echoes([100; 80]);
    assert_eq!(still[15], Echo::default());
    assert_eq!((still[16].sink, still[16].earlier), (Some(1.0), Some(1.0)));
    assert_eq!(backs([100; 80]), []);
    assert_eq!(backs(0..160), []);
    // By less than anybody sees.
    assert_eq!(backs((0..80).map(|at| 100 + at % 24 / 4)), []);
}

#[test]
fn a_loop_rolls_back_from_its_second_round_on() {
    assert_eq!(backs((0..60).map(|at| (at % 24 * 8) as u8)), [(24, 60, 0)]);
}

#[test]
fn a_jump_back_is_found_and_needs_a_chunk() {
    let ramp = (0..40).map(|at| 3 * at as u8);
    assert_eq!(backs(ramp.clone().chain([1; 6])), [(40, 46, 0)]);
    assert_eq!(backs(ramp.clone().chain([1; 5])), []);
    assert_eq!(backs(ramp.clone().chain([60; 6])), [(40, 46, 20)]);
    // Somewhere else it is none.
    assert_eq!(backs(ramp.chain([200; 6])), []);
}

/// A smooth pattern without a period in sight, seen from column `at`.
fn pattern(at: f64, x: f64, y: f64) -> f64 {
    let x = x + at;
    128.0 + 40.0 * ((x * 0.13 + y * 0.05).sin() + (y * 0.11 - x * 0.031).sin() + (x * 0.0713).sin())
}

const SIZE: usize = 64;

fn picture(grey: impl Fn(f64, f64) -> f64) -> Vec<u8> {
    let grey = &grey;
    let pixels = (0..SIZE).flat_map(|y| (0..SIZE).map(move |x| grey(x as f64, y as f64) as u8));
    pixels.flat_map(|grey| [grey; 3]).collect()
}

fn seen_from(at: f64) -> Vec<u8> {
    picture(|x, y| pattern(at, x, y))
}

fn mixed(a: &[u8], b: &[u8], share: f64) -> Vec<u8> {
    let mix = |(a, b): (&u8, &u8)| (f64::from(*a) * (1.0 - share) + f64::from(*b) * share) as u8;
    a.iter().zip(b).map(mix).collect()
}

#[test]
fn a_fade_back_is_found_however_long_it_takes() {
    for fade in [4, 8, 16] {
        // Forty pictures of one scene that moves, and then the first picture again, or the first ones.
        for moves in [0.0, 0.7] {
            let there = (0..40).map(|at| seen_from(1.5 * f64::from(at)));
            let returning = (0..30).map(|at| {
                let share = (f64::from(at + 1) / f64::from(fade)).min(1.0);
                let (ahead, back) = (1.5 * f64::from(40 + at), moves * f64::from(at));
                mixed(&seen_from(ahead), &seen_from(back), share)
            });
            let found = of_pictures(there.chain(returning), SIZE);
            let [(from, 70, to)] = found[..] else {
                panic!("{fade} {moves}: {found:?}")
            };
            assert!(
                (40..40 + fade as u64).contains(&from) && to < 16,
                "{fade} {moves}: {found:?}"
            );
        }
    }
}

#[test]
fn a_camera_to_and_fro_and_light_that_swells_are_motion() {
    for period in [12.0, 20.0, 32.0, 50.0, 100.0] {
        let phase = |at: u32| f64::from(at) * std::f64::consts::TAU / period;
        for wide in [6.0, 20.0, 60.0] {
            let sway = (0..240).map(|at| seen_from(wide * phase(at).sin()));
            assert_eq!(of_pictures(sway, SIZE), [], "sways by {wide} in {period}");
            let bounce = (0..240).map(|at| seen_from(wide * phase(at).sin().abs()));
            assert_eq!(of_pictures(bounce, SIZE), [], "bounces by {wide} in {period}");
            let even = |at: u32| (f64::from(at) / period).fract();
            let there_and_back = (0..240).map(|at| seen_from(wide * (1.0 - (2.0 * even(at) - 1.0).abs())));
            assert_eq!(of_pictures(there_and_back, SIZE), [], "goes {wide} in {period}");
        }
        let swells = (0..240).map(|at| (120.0 + 80.0 * phase(at).sin()) as u8);
        assert_eq!(backs(swells), [], "swells in {period}");
    }
}

#[test]
fn what_bounces_circles_or_spins_before_a_background_is_motion() {
    for period in [10.0, 17.0, 29.0, 64.0] {
        for radius in [4.0, 8.0, 12.0] {
            let ball = |at: u32, circles: bool| {
                let phase = f64::from(at) * std::f64::consts::TAU / period;
                let (x, y) = match circles {
                    true => (32.0 + 16.0 * phase.cos(), 32.0 + 16.0 * phase.sin()),
                    false => (32.0, 50.0 - 36.0 * (phase / 2.0).sin().abs()),
                };
                picture(|column, row| match (column - x).hypot(row - y) < radius {
                    true => 250.0,
                    false => pattern(0.0, column, row) / 2.0,
                })
            };
            for circles in [false, true] {
                let found = of_pictures((0..200).map(|at| ball(at, circles)), SIZE);
                assert_eq!(found, [], "radius {radius}, {period} pictures, circles: {circles}");
            }
        }
    }
}

#[test]
fn a_pattern_that_comes_round_within_three_seconds_is_motion() {
    let stripes = |at: u32| picture(|x, y| 128.0 + 90.0 * ((x + y * 0.3 + 2.5 * f64::from(at)) * 0.2).sin());
    assert_eq!(of_pictures((0..200).map(stripes), SIZE), []);
}

#[test]
fn a_jump_in_the_middle_of_a_motion_to_and_fro_is_found() {
    let sway = |at: u32| 60.0 * (f64::from(at) * std::f64::consts::TAU / 50.0).sin();
    // A period and a quarter, and the first second again from there on.
    let pictures = (0..62).map(sway).chain((0..12).map(sway)).map(seen_from);
    assert_eq!(of_pictures(pictures, SIZE), [(62, 74, 0)]);
}

#[test]
fn shares_count_pictures_that_are_old_enough() {
    let stretch = |from, end, to| Stretch { from, end, to };
    let rolled = RolledBack {
        gap: 16,
        stretches: vec![stretch(20, 30, 3), stretch(40, 44, 9)],
    };
    assert_eq!(rolled.share(0, 10), None);
    assert_eq!(rolled.share(0, 66), Some(14.0 / 50.0));
    assert_eq!(rolled.share(25, 41), Some(6.0 / 16.0));
    assert_eq!(
        (rolled.first_within(24, 32), rolled.first_within(30, 40)),
        (Some(3), None)
    );
    assert_eq!(rolled.first_within(43, 50), Some(9));
}

#[test]
fn memory_is_bounded() {
    let mut repetition = Repetition::new(4.0, 12, 5);
    for _ in 0..2000 {
        repetition.push(&[0; 3], 1);
    }
    assert_eq!((repetition.sink.len(), repetition.others.len()), (5, 480));
    assert_eq!((repetition.recent.len(), repetition.stretches.len()), (12, 0));
}

#[test]
fn thumbnails_are_means_of_cells() {
    let rgb: Vec<u8> = (0..16 * 24)
        .flat_map(|at| [(at % 16) as u8, (at / 16) as u8, 7])
        .collect();
    let cells = thumbnail(&rgb, 16);
    assert_eq!((cells[0], cells[AREA], cells[2 * AREA]), (0.5, 1.0, 7.0));
    assert_eq!((cells[1], cells[AREA - 1], cells[2 * AREA - 1]), (2.5, 14.5, 22.0));
}
