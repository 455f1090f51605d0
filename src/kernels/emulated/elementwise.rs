//! Norms, modulation, rotation, activations, sums, bytes.

use super::{
    super::{self as kernels, launch, launch::*},
    *,
};

const TOKENS: usize = 6;
/// A width for packs of 16 bytes, and one for single elements.
const WIDTHS: [usize; 2] = [1536, 37];

fn sizes(dim: usize) -> Tokens {
    Tokens {
        tokens: TOKENS,
        dim,
        shared: 2,
    }
}

#[test]
fn modulated_norm_equals_its_twin() {
    for (e, dim) in BOTH.into_iter().flat_map(|e| WIDTHS.map(|dim| (e, dim))) {
        let x: Vec<f32> = numbers(e, TOKENS * dim, 1);
        let (scale, shift) = (numbers(e, 3 * dim, 2), numbers(e, 3 * dim, 3));
        let (mx, mscale, mshift) = (Memory::of(e, &x), Memory::of(e, &scale), Memory::of(e, &shift));
        let out = Memory::new(TOKENS * dim * e.bytes());
        run(&launch::modulated_norm(e, out.at(), [mx.at(), mscale.at(), mshift.at()], sizes(dim), 1e-6).unwrap());
        let row = |v: &[f32]| tensor(v, &[3, dim]);
        let want = kernels::modulated_norm(&tensor(&x, &[TOKENS, dim]), &row(&scale), &row(&shift), 1e-6).unwrap();
        assert_close("modulated_norm", e, &out.values(e), &flat(&want), 1e-5);
    }
}

#[test]
fn norms_with_a_gain_equal_their_twins() {
    for (e, dim) in BOTH.into_iter().flat_map(|e| WIDTHS.map(|dim| (e, dim))) {
        let x = numbers(e, TOKENS * dim, 4);
        let (gain, bias) = (numbers(e, dim, 5), numbers(e, dim, 6));
        let (mx, mgain, mbias) = (Memory::of(e, &x), Memory::of(e, &gain), Memory::of(e, &bias));
        let (x, gain, bias) = (tensor(&x, &[TOKENS, dim]), tensor(&gain, &[dim]), tensor(&bias, &[dim]));
        let out = Memory::new(TOKENS * dim * e.bytes());
        run(&launch::layer_norm(e, out.at(), [mx.at(), mgain.at(), mbias.at()], sizes(dim), 1e-6).unwrap());
        let want = kernels::layer_norm(&x, &gain, &bias, 1e-6).unwrap();
        assert_close("layer_norm", e, &out.values(e), &flat(&want), 1e-5);
        let out = Memory::new(TOKENS * dim * e.bytes());
        run(&launch::rms_norm(e, out.at(), mx.at(), mgain.at(), sizes(dim), 1e-6).unwrap());
        let want = kernels::rms_norm(&x, &gain, 1e-6).unwrap();
        assert_close("rms_norm", e, &out.values(e), &flat(&want), 1e-5);
    }
}

#[test]
fn gated_residual_equals_its_twin() {
    for (e, dim) in BOTH.into_iter().flat_map(|e| WIDTHS.map(|dim| (e, dim))) {
        let (x, y) = (numbers(e, TOKENS * dim, 7), numbers(e, TOKENS * dim, 8));
        let gate = numbers(e, 3 * dim, 9);
        let (mx, my, mgate) = (Memory::of(e, &x), Memory::of(e, &y), Memory::of(e, &gate));
        let out = Memory::new(TOKENS * dim * e.bytes());
        run(&launch::gated_residual(e, out.at(), [mx.at(), my.at(), mgate.at()], sizes(dim)).unwrap());
        let all = [TOKENS, dim];
        let want = kernels::gated_residual(&tensor(&x, &all), &tensor(&y, &all), &tensor(&gate, &[3, dim])).unwrap();
        assert_close("gated_residual", e, &out.values(e), &flat(&want), 1e-6);
    }
}

#[test]
fn rotation_equals_its_twin() {
    let (tokens, heads, pairs) = (5, 3, 24);
    for e in BOTH {
        let x = numbers(e, tokens * heads * pairs * 2, 10);
        let (cos, sin) = (
            numbers(Element::F32, tokens * pairs, 11),
            numbers(Element::F32, tokens * pairs, 12),
        );
        let (mx, mcos, msin) = (
            Memory::of(e, &x),
            Memory::of(Element::F32, &cos),
            Memory::of(Element::F32, &sin),
        );
        let out = Memory::new(x.len() * e.bytes());
        run(&launch::rotate(e, out.at(), [mx.at(), mcos.at(), msin.at()], [tokens, heads, pairs]).unwrap());
        let angles = |v: &[f32]| tensor(v, &[tokens, pairs]);
        let want = kernels::rotate(&tensor(&x, &[tokens, heads, 2 * pairs]), &angles(&cos), &angles(&sin)).unwrap();
        assert_close("rotate", e, &out.values(e), &flat(&want), 1e-6);
    }
}

#[test]
fn activations_after_a_bias_equal_their_twins() {
    for (e, width) in BOTH.into_iter().flat_map(|e| [640, 37].map(|width| (e, width))) {
        for kind in [Activation::Identity, Activation::Silu, Activation::GeluTanh] {
            for with_bias in [false, true] {
                let x: Vec<f32> = numbers(e, 3 * width, 13).iter().map(|v| v * 32.0).collect();
                let bias = numbers(e, width, 14);
                let (mx, mbias) = (Memory::of(e, &x), Memory::of(e, &bias));
                let bias_at = if with_bias { mbias.at() } else { 0 };
                run(&launch::bias_activation(e, mx.at(), bias_at, x.len(), width, kind).unwrap());
                let mut want: Vec<f32> = x
                    .iter()
                    .enumerate()
                    .map(|(i, v)| if with_bias { v + bias[i % width] } else { *v })
                    .collect();
                match kind {
                    Activation::Identity => {}
                    Activation::Silu => kernels::silu_in_place(&mut want),
                    Activation::GeluTanh => kernels::gelu_tanh_in_place(&mut want),
                }
                assert_close("bias_activation", e, &mx.values(e), &want, 1e-5);
            }
        }
    }
}

#[test]
fn sums_of_rows_equal_their_twin() {
    let (groups, rows, width) = (3, 77, 83);
    for e in BOTH {
        let x = numbers(e, groups * rows * width, 15);
        let mx = Memory::of(e, &x);
        let out = Memory::new(groups * width * 4);
        run(&launch::sum_rows(e, out.at(), mx.at(), groups, rows, width).unwrap());
        let want = kernels::sum_rows(&tensor(&x, &[groups * rows, width]), groups).unwrap();
        assert_close("sum_rows", Element::F32, &out.values(Element::F32), &flat(&want), 1e-4);
    }
}
