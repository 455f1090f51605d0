//! The operations on a GPU against the CPU. Without a GPU each test says that it was skipped.

use candle_core::{DType, Device, Result, Tensor, cuda::cudarc::driver::CudaContext};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;

/// The first GPU; `None` on a machine without one.
pub(crate) fn gpu() -> Option<Device> {
    match CudaContext::device_count() {
        Ok(count) if count > 0 => Some(Device::new_cuda_with_stream(0).expect("the GPU that was found opens")),
        _ => {
            eprintln!("SKIPPED: this machine has no CUDA device");
            None
        }
    }
}

/// Uniform numbers in −2…2, the same for the same seed.
pub(crate) fn uniform(shape: &[usize], seed: u64) -> Tensor {
    let mut generator = StdRng::seed_from_u64(seed);
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| generator.random_range(-2f32..2f32)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Largest difference, and largest magnitude of `want`.
fn distance(got: &Tensor, want: &Tensor) -> Result<(f32, f32)> {
    let got = got.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    let largest = |t: Tensor| t.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
    Ok((largest((got - want)?)?, largest(want.clone())?))
}

/// Runs `op` in f32 on the CPU and in f32 and bf16 on the GPU, on the same numbers (rounded to bf16 for that run). The
/// inputs from `exact` on are f32 in any case. Tolerances are relative to the largest result.
pub(crate) fn compare(
    what: &str,
    inputs: &[Tensor],
    exact: usize,
    tolerances: [f32; 2],
    op: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let Some(gpu) = gpu() else { return };
    for (dtype, tolerance) in [DType::F32, DType::BF16].into_iter().zip(tolerances) {
        let cast = |(i, t): (usize, &Tensor)| if i < exact { t.to_dtype(dtype) } else { Ok(t.clone()) };
        let typed = inputs.iter().enumerate().map(cast).collect::<Result<Vec<_>>>().unwrap();
        let plain = typed.iter().map(|t| t.to_dtype(DType::F32));
        let want = op(&plain.collect::<Result<Vec<_>>>().unwrap()).unwrap();
        let moved = typed.iter().map(|t| t.to_device(&gpu)).collect::<Result<Vec<_>>>();
        let got = op(&moved.unwrap()).unwrap_or_else(|error| panic!("{what} in {dtype:?}: {error}"));
        assert_eq!(got.dims(), want.dims(), "{what}");
        let (error, largest) = distance(&got, &want).unwrap();
        assert!(
            error <= tolerance * largest.max(1.0),
            "{what} in {dtype:?}: off by {error}, values up to {largest}"
        );
    }
}

const F32: f32 = 1e-5;
const BF16: f32 = 8e-3;

#[test]
fn element_wise_operations() {
    for dim in [1536, 90] {
        let (x, y) = (uniform(&[36, dim], 1), uniform(&[36, dim], 2));
        let (a, b) = (uniform(&[3, dim], 3), uniform(&[3, dim], 4));
        let (gain, bias) = (uniform(&[dim], 5), uniform(&[dim], 6));
        let tensors = [x.clone(), a.clone(), b];
        compare("modulated_norm", &tensors, 3, [F32, BF16], |t| {
            modulated_norm(&t[0], &t[1], &t[2], 1e-6)
        });
        compare("gated_residual", &[x.clone(), y, a], 3, [F32, BF16], |t| {
            gated_residual(&t[0], &t[1], &t[2])
        });
        compare("layer_norm", &[x.clone(), gain.clone(), bias], 3, [F32, BF16], |t| {
            layer_norm(&t[0], &t[1], &t[2], 1e-6)
        });
        compare("rms_norm", &[x.clone(), gain], 2, [F32, BF16], |t| {
            rms_norm(&t[0], &t[1], 1e-6)
        });
        compare("silu", std::slice::from_ref(&x), 1, [F32, BF16], |t| silu(t[0].copy()?));
        compare("gelu_tanh", std::slice::from_ref(&x), 1, [F32, BF16], |t| {
            gelu_tanh(t[0].copy()?)
        });
        compare("sum_rows", &[x], 1, [F32, F32], |t| sum_rows(&t[0], 4));
    }
}

#[test]
fn products_with_bias() {
    let tensors = [uniform(&[70, 96], 10), uniform(&[130, 96], 11), uniform(&[130], 12)];
    compare("linear", &tensors, 3, [F32, BF16], |t| linear(&t[0], &t[1], &t[2]));
    compare("linear_gelu", &tensors, 3, [F32, BF16], |t| {
        linear_gelu(&t[0], &t[1], &t[2])
    });
}

#[test]
fn rotation() {
    let angles = uniform(&[24, 32], 21);
    let tensors = [uniform(&[24, 3, 64], 20), angles.cos().unwrap(), angles.sin().unwrap()];
    compare("rotate", &tensors, 1, [F32, BF16], |t| rotate(&t[0], &t[1], &t[2]));
}

#[test]
fn attention_by_library_tiles_and_rows() {
    // Widths of 64 and 128 go to cuDNN where it is, or to tiles; others row by row.
    for (queries, keys, heads, dim) in [(200, 333, 3, 128), (64, 1000, 2, 64), (33, 70, 2, 48), (1, 1, 1, 128)] {
        let shapes = [[queries, heads, dim], [keys, heads, dim], [keys, heads, dim]];
        let tensors: Vec<_> = (30..).zip(shapes).map(|(seed, shape)| uniform(&shape, seed)).collect();
        let scale = 1.0 / (dim as f64).sqrt();
        compare("attention", &tensors, 3, [F32, 1e-2], |t| {
            attention(&t[0], &t[1], &t[2], scale)
        });
    }
}

#[test]
fn attention_to_a_view_of_the_cache() {
    let buffer = uniform(&[300, 2, 128], 34);
    let tensors = [uniform(&[65, 2, 128], 35), buffer];
    compare("attention to a view", &tensors, 2, [F32, 1e-2], |t| {
        let view = t[1].narrow(0, 100, 150)?;
        attention(&t[0], &view, &view, 0.1)
    });
}

/// The tiles of this program, also where the library would be asked first.
#[test]
fn attention_tiles() {
    let Some(gpu) = gpu() else { return };
    let Device::Cuda(device) = &gpu else { return };
    let make = |n: usize, seed| uniform(&[n, 3, 128], seed).to_dtype(DType::BF16).unwrap();
    let (q, k, v) = (make(130, 36), make(777, 37), make(777, 38));
    let plain = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
    let want = attention(&plain(&q), &plain(&k), &plain(&v), 0.1).unwrap();
    let moved = [&q, &k, &v].map(|t| t.to_device(&gpu).unwrap());
    let out = Tensor::zeros(q.dims(), DType::BF16, &gpu).unwrap();
    let at = |t: &Tensor| cuda::Operand::of(t, "test").unwrap().at;
    let sizes = launch::AttentionSizes {
        queries: 130,
        keys: 777,
        heads: 3,
        dim: 128,
        scale: 0.1,
    };
    let launch = launch::attention(launch::Element::Bf16, at(&out), moved.each_ref().map(at), sizes).unwrap();
    cuda::run(device, &launch).unwrap();
    let (error, largest) = distance(&out, &want).unwrap();
    assert!(error <= 1e-2 * largest.max(1.0), "off by {error}");
}

#[test]
fn events_of_the_cache() {
    let tokens = 2000;
    let (keys, queries) = (uniform(&[tokens, 2, 32], 40), uniform(&[64], 41));
    compare("token_scores", &[keys, queries], 1, [F32, F32], |t| {
        token_scores(&t[0], &t[1], 0.125)
    });
    // Choices, tags and moves must be the same, not nearly so.
    let scores = uniform(&[tokens], 42);
    let tags: Vec<u32> = (0..tokens as u32).flat_map(|i| [i % 12, i % 5]).collect();
    let tags = Tensor::from_vec(tags, (tokens, 2), &Device::Cpu).unwrap();
    let buffer = uniform(&[tokens + 700, 2, 32], 43);
    type Outcome = (Vec<u32>, Vec<Vec<u32>>, Vec<f32>);
    let event = |device: &Device| -> Result<Outcome> {
        let (scores, tags) = (scores.to_device(device)?, tags.to_device(device)?.copy()?);
        let buffer = buffer.to_device(device)?.copy()?;
        let chosen = choose_on_device(&scores.narrow(0, 100, 1500)?, &tags.narrow(0, 100, 1500)?, 400, 4, 100)?;
        let kept = Kept {
            stay: 100,
            chosen: Some(&chosen),
            tail: 1600,
            rows: tokens,
        };
        keep_chosen_rows(&[&buffer], kept)?;
        keep_chosen_rows(&[&tags], kept)?;
        Ok((
            chosen.to_vec1()?,
            tags.narrow(0, 0, 900)?.to_vec2()?,
            buffer.narrow(0, 0, 900)?.flatten_all()?.to_vec1()?,
        ))
    };
    if let Some(gpu) = gpu() {
        assert_eq!(event(&gpu).unwrap(), event(&Device::Cpu).unwrap());
    }
}

#[test]
fn rows_are_written() {
    let tensors = [uniform(&[40, 2, 8], 44), uniform(&[7, 2, 8], 45)];
    compare("write_rows", &tensors, 2, [0.0, 0.0], |t| {
        let buffer = t[0].copy()?;
        write_rows(&buffer, &t[1].narrow(0, 1, 5)?, 12)?;
        Ok(buffer)
    });
}

/// Every kernel that the emulator knows is in the compiled module, and the other way round.
#[test]
fn the_module_holds_the_kernels_of_the_emulator() {
    let source = include_str!("cuda/emulator/emulator.cpp");
    let entries = cuda::PTX.matches(".entry ").count();
    let table = &source[source.find("const Entry KERNELS").unwrap()..];
    let table = &table[..table.find("};").unwrap()];
    let (single, types, widths) = (
        table.matches(" KERNEL(").count(),
        table.matches("TYPES(").count(),
        table.matches("WIDTHS(").count(),
    );
    assert_eq!(entries, single + 2 * types + 4 * widths);
}
