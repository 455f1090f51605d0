//! Attention: the tensor core tiles and the row kernel.

use super::{
    super::{self as kernels, launch, launch::*},
    *,
};

fn check(e: Element, sizes: AttentionSizes, kernel: &str, error: f32) {
    let AttentionSizes {
        queries,
        keys,
        heads,
        dim,
        scale,
    } = sizes;
    let q = numbers(e, queries * heads * dim, 20);
    let (k, v) = (numbers(e, keys * heads * dim, 21), numbers(e, keys * heads * dim, 22));
    let (mq, mk, mv) = (Memory::of(e, &q), Memory::of(e, &k), Memory::of(e, &v));
    let out = Memory::new(q.len() * e.bytes());
    let launch = launch::attention(e, out.at(), [mq.at(), mk.at(), mv.at()], sizes).unwrap();
    assert_eq!(launch.kernel, kernel);
    run(&launch);
    let shaped = |values: &[f32], tokens: usize| tensor(values, &[tokens, heads, dim]);
    let want = kernels::attention(&shaped(&q, queries), &shaped(&k, keys), &shaped(&v, keys), scale.into()).unwrap();
    assert_close(kernel, e, &out.values(e), &flat(&want), error);
}

#[test]
fn tiles_equal_the_twin_at_odd_sizes() {
    for (queries, keys, heads, dim) in [(70, 130, 2, 64), (64, 64, 1, 128), (5, 3, 2, 128), (17, 200, 1, 128)] {
        let scale = 1.0 / (dim as f32).sqrt();
        let sizes = AttentionSizes {
            queries,
            keys,
            heads,
            dim,
            scale,
        };
        // Weights are rounded to bf16 before they are multiplied with the values.
        check(Element::Bf16, sizes, &format!("attention_tiles_{dim}"), 8e-3);
    }
}

#[test]
fn rows_equal_the_twin_at_odd_sizes() {
    for (queries, keys, heads, dim) in [(9, 70, 2, 48), (1, 1, 1, 8), (20, 33, 1, 256)] {
        let sizes = AttentionSizes {
            queries,
            keys,
            heads,
            dim,
            scale: 0.2,
        };
        check(Element::F32, sizes, "attention_rows_f32", 2e-5);
        check(Element::Bf16, sizes, "attention_rows_bf16", 1e-4);
    }
}

#[test]
fn large_scores_do_not_overflow() {
    let sizes = AttentionSizes {
        queries: 16,
        keys: 70,
        heads: 1,
        dim: 64,
        scale: 20.0,
    };
    check(Element::Bf16, sizes, "attention_tiles_64", 2e-2);
}
