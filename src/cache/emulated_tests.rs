//! The GPU kernels of cache events in the emulator, against the CPU.

use proptest::prelude::*;

use candle_core::Device;

use super::{
    Slot,
    rope::{Rope, TokenPosition},
    score,
};
use crate::kernels::{
    self,
    emulated::{BOTH, Memory, assert_close, flat, numbers, run, tensor},
    launch::{self, Element, Moves, SlotRotation},
};

#[test]
fn scores_equal_their_twin() {
    for (e, width) in BOTH.into_iter().flat_map(|e| [384, 37].map(|width| (e, width))) {
        let tokens = 21;
        let keys = numbers(e, tokens * width, 30);
        let queries = numbers(Element::F32, width, 31);
        let (mkeys, mqueries) = (Memory::of(e, &keys), Memory::of(Element::F32, &queries));
        let out = Memory::new(tokens * 4);
        let scale = 1.0 / (width as f32).sqrt();
        run(&launch::token_scores(e, out.at(), mkeys.at(), mqueries.at(), tokens, width, scale).unwrap());
        let keys = tensor(&keys, &[tokens, 1, width]);
        let want = kernels::token_scores(&keys, &tensor(&queries, &[width]), scale.into()).unwrap();
        assert_close(
            "token_scores",
            Element::F32,
            &out.values(Element::F32),
            &flat(&want),
            1e-4,
        );
    }
}

fn slots(reuses: &[u32]) -> Vec<Slot> {
    let slot = |(i, reuses): (usize, &u32)| Slot {
        reuses: *reuses,
        ..Slot::of_frame(0, 0, i as u32)
    };
    reuses.iter().enumerate().map(slot).collect()
}

fn check_choice(scores: &[f32], reuses: &[u32], first: usize, count: usize, limit: u32) {
    let tags: Vec<u32> = reuses.iter().enumerate().flat_map(|(i, r)| [i as u32, *r]).collect();
    let (mscores, mtags) = (Memory::of(Element::F32, scores), Memory::of_u32(&tags));
    let chosen = Memory::new(count * 4);
    let launch = launch::select_top(chosen.at(), mscores.at(), mtags.at(), scores.len(), count, limit, first).unwrap();
    if launch.is_empty() {
        return;
    }
    run(&launch);
    let want = score::choose(scores, &slots(reuses), first, count, limit);
    let got = chosen.u32s();
    let (indices, rest) = got.split_at(want.len());
    assert!(
        indices.iter().zip(&want).all(|(got, want)| *got as usize == *want),
        "{got:?} {want:?}"
    );
    assert!(rest.iter().all(|index| *index == u32::MAX));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Few distinct values, so that there are many ties at the edge; both signs, zeros and an infinity.
    #[test]
    fn the_same_are_chosen(
        picks in prop::collection::vec((0usize..9, 0u32..4), 1..2500), share in 0.0f64..1.2, limit in 0u32..4,
    ) {
        let table = [0.0, -0.0, 1.5, -1.5, 3e-9, f32::INFINITY, -7.0, 1.5000001, 256.0];
        let scores: Vec<f32> = picks.iter().map(|(i, _)| table[*i]).collect();
        let reuses: Vec<u32> = picks.iter().map(|(_, reuses)| *reuses).collect();
        check_choice(&scores, &reuses, 40, (picks.len() as f64 * share) as usize, limit);
    }
}

#[test]
fn the_same_are_chosen_of_many() {
    let scores = numbers(Element::F32, 15_600, 32);
    check_choice(&scores, &vec![0; scores.len()], 15_600, 3120, 7);
}

#[test]
fn choices_are_counted() {
    let tags = Memory::of_u32(&[0, 1, 1, 0, 2, 6]);
    let chosen = Memory::of_u32(&[0, 2, u32::MAX]);
    run(&launch::count_chosen(tags.at(), chosen.at(), 3, 3).unwrap());
    assert_eq!(tags.u32s(), [0, 2, 1, 0, 2, 7]);
}

#[test]
fn rows_that_stay_come_to_the_front_in_order() {
    // More rows than a batch of the kernel (512), so that batches follow each other.
    let (rows, stay) = (1700usize, 130usize);
    let chosen: Vec<u32> = (stay as u32..1500).filter(|i| i % 7 < 3 || i % 11 == 0).collect();
    for (width, kernel) in [(96, "keep_rows_wide"), (10, "keep_rows_narrow")] {
        let data = |seed: u8| -> Vec<u8> {
            (0..rows * width)
                .map(|i| (i * 31 + i / width * 7) as u8 ^ seed)
                .collect()
        };
        let buffers = [data(1), data(2), data(3)];
        let memory = buffers.each_ref().map(|bytes| Memory::of_bytes(bytes));
        let index = Memory::of_u32(&chosen);
        let moves = Moves {
            stay,
            chosen: index.at(),
            count: chosen.len(),
            tail: 1500,
            rows,
        };
        let launch = launch::keep_rows(&memory.each_ref().map(Memory::at), width, moves).unwrap();
        assert_eq!(launch.kernel, kernel);
        run(&launch);
        let kept: Vec<usize> = (0..stay)
            .chain(chosen.iter().map(|i| *i as usize))
            .chain(1500..rows)
            .collect();
        for (before, after) in buffers.iter().zip(&memory) {
            let row = |i: usize| &before[i * width..][..width];
            for (to, from) in kept.iter().enumerate() {
                assert_eq!(&after.data()[to * width..][..width], row(*from), "row {to} from {from}");
            }
        }
    }
}

#[test]
fn slots_are_rotated_as_the_rope_says() {
    let (heads, dim, rows, columns) = (2usize, 32usize, 3usize, 5usize);
    let rope = Rope::new(dim);
    let [time_pairs, space_pairs, _] = rope.pairs();
    let (first, slots, times) = (4usize, 22usize, [-3i64, -2]);
    // Slots of a run share a temporal position by `per_frame`; their cells are any.
    let per_frame = rows * columns;
    let cells: Vec<u32> = (0..(first + slots) as u32).map(|i| i * 7 % per_frame as u32).collect();
    let tags: Vec<u32> = cells.iter().flat_map(|cell| [*cell, 9]).collect();
    let positions = (0..slots).map(|i| TokenPosition {
        time: times[i / per_frame],
        row: cells[first + i] / columns as u32,
        column: cells[first + i] % columns as u32,
    });
    let angles = rope.angles(positions, &Device::Cpu).unwrap();
    let table = rope.table(&times, rows, columns);
    for e in BOTH {
        let raw = numbers(e, (first + slots) * heads * dim, 33);
        let (mraw, mtags, mtable) = (
            Memory::of(e, &raw),
            Memory::of_u32(&tags),
            Memory::of(Element::F32, &table),
        );
        let rotated = Memory::of(e, &vec![7.0; raw.len()]);
        let of = SlotRotation {
            first,
            slots,
            heads,
            time_pairs,
            space_pairs,
            per_frame,
            frames: times.len(),
            rows,
            columns,
        };
        run(&launch::rotate_slots(e, rotated.at(), mraw.at(), mtags.at(), mtable.at(), of).unwrap());
        let moved = tensor(&raw[first * heads * dim..], &[slots, heads, dim]);
        let want = kernels::rotate(&moved, &angles.cos, &angles.sin).unwrap();
        let got = rotated.values(e);
        let (untouched, got) = got.split_at(first * heads * dim);
        assert!(untouched.iter().all(|v| *v == 7.0));
        assert_close("rotate_slots", e, got, &flat(&want), 1e-6);
    }
}
