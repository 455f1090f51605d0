//! Convolutions, and the layouts around those of cuDNN.

use candle_core::{Layout, Shape};
use proptest::prelude::*;

use super::{
    super::{
        convolution::{CausalConv3d, ConvSpec, History, Padding, WeightOrder},
        launch::{self, ConvPointers},
    },
    *,
};

/// A convolution of random weights, with weights ordered as in three- or two-dimensional files.
fn convolution(e: Element, spec: ConvSpec, three_dimensional: bool) -> (CausalConv3d, Vec<f32>) {
    let (out, time, inputs, k) = (spec.out_channels, spec.time_kernel, spec.in_channels, spec.kernel);
    let (shape, order) = if three_dimensional {
        (vec![out, inputs, time, k, k], WeightOrder::Plain)
    } else {
        (vec![out, time * inputs, k, k], WeightOrder::NewestFirst)
    };
    let weight = tensor(&numbers(e, shape.iter().product(), 40), &shape);
    let bias = numbers(e, out, 41);
    let conv = CausalConv3d::from_tensors(spec, weight, Some(tensor(&bias, &[out])), order);
    (conv, bias)
}

fn check(spec: ConvSpec, frames: usize, [height, width]: [usize; 2], with_residual: bool, three_dimensional: bool) {
    for e in BOTH {
        let (conv, bias) = convolution(e, spec.clone(), three_dimensional);
        let history = spec.history();
        let all = numbers(e, (history + frames) * spec.in_channels * height * width, 42);
        let all = tensor(&all, &[history + frames, spec.in_channels, height, width]);
        // The stream has seen the first frames already.
        let mut past = History::default();
        if history > 0 {
            conv.remember(&all.narrow(0, 0, history).unwrap(), &mut past).unwrap();
        }
        let x = all.narrow(0, history, frames).unwrap();
        let (rows, columns) = spec.output_size(height, width);
        let out_shape = Shape::from((
            (history + frames - spec.time_kernel) / spec.time_stride + 1,
            spec.out_channels,
            rows,
            columns,
        ));
        let residual = with_residual.then(|| tensor(&numbers(e, out_shape.elem_count(), 43), out_shape.dims()));
        let want = conv.stream(&x, &mut past, residual.as_ref()).unwrap();

        let weight = flat(&conv.tap_major_weight(launch::CONV_DEPTH).unwrap());
        let memory = [flat(&all), weight, bias].map(|values| Memory::of(e, &values));
        let residual = residual.map(|t| Memory::of(e, &flat(&t)));
        let out = Memory::new(out_shape.elem_count() * e.bytes());
        let at = ConvPointers {
            out: out.at(),
            x: memory[0].at(),
            weight: memory[1].at(),
            bias: memory[2].at(),
            residual: residual.as_ref().map_or(0, Memory::at),
        };
        let shape = conv
            .shape_of(&Layout::contiguous(x.shape().clone()), &out_shape)
            .unwrap();
        run(&launch::conv(e, at, out_shape.dims()[0], shape).unwrap());
        let sums = (spec.in_channels * spec.time_kernel * spec.kernel * spec.kernel) as f32;
        assert_close("conv", e, &out.values(e), &flat(&want), 1e-5 * sums.sqrt());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn convolutions_equal_the_cpus(
        inputs in 1usize..40, outputs in 1usize..70, frames in 2usize..4, height in 2usize..9, width in 2usize..20,
        with_residual: bool, relu: bool, three_dimensional: bool, kind in 0usize..7,
    ) {
        let of = |time, kernel| ConvSpec { relu, ..ConvSpec::new(inputs, outputs, time, kernel) };
        let spec = match kind {
            0 => of(3, 3),
            1 => of(1, 3),
            2 => of(1, 1),
            3 => of(3, 1),
            4 => of(1, 3).upsampled(),
            5 => of(1, 3).downsampled(),
            _ => ConvSpec { time_stride: 2, padding: Padding::Valid, ..of(3, 1) },
        };
        check(spec, frames, [height, width], with_residual, three_dimensional);
    }
}

#[test]
fn a_convolution_over_several_tiles_equals_the_cpus() {
    check(ConvSpec::new(33, 130, 3, 3), 1, [13, 21], true, true);
}

#[test]
fn finishing_and_doubling_equal_their_definition() {
    let (frames, channels, height, width) = (2, 3, 4, 5);
    for e in BOTH {
        let count = frames * channels * height * width;
        let (x, residual, bias) = (numbers(e, count, 47), numbers(e, count, 48), numbers(e, channels, 49));
        let (mx, mresidual, mbias) = (Memory::of(e, &x), Memory::of(e, &residual), Memory::of(e, &bias));
        let sizes = [frames, channels, height * width];
        run(&launch::conv_finish(e, mx.at(), mbias.at(), mresidual.at(), sizes, true).unwrap());
        let shape = [frames, channels, height, width];
        let sum = (tensor(&x, &shape) + tensor(&residual, &shape)).unwrap();
        let biased = sum.broadcast_add(&tensor(&bias, &[1, channels, 1, 1])).unwrap();
        assert_close("conv_finish", e, &mx.values(e), &flat(&biased.relu().unwrap()), 1e-6);

        let mx = Memory::of(e, &x);
        let out = Memory::new(4 * count * e.bytes());
        run(&launch::upsample(e, out.at(), mx.at(), frames * channels, height, width).unwrap());
        let want: Tensor = tensor(&x, &shape).upsample_nearest2d(2 * height, 2 * width).unwrap();
        assert_eq!(out.values(e), flat(&want));
    }
}

#[test]
fn frames_go_to_channels_last_and_back() {
    let e = Element::Bf16;
    // More positions and channels than a tile, no multiples of it.
    for (channels, height, width, doubled) in [(40, 6, 14, false), (8, 9, 2, false), (48, 10, 12, true)] {
        let scale = if doubled { 2 } else { 1 };
        let (fresh, known, history) = (2usize, 1usize, 2usize);
        let (source, positions) = (height / scale * (width / scale), height * width);
        let frame = channels * source;
        let (old, new) = (numbers(e, known * frame, 50), numbers(e, fresh * frame, 51));
        let (mold, mnew) = (Memory::of(e, &old), Memory::of(e, &new));
        let out = Memory::new((history + fresh) * channels * positions * e.bytes());
        let of = launch::Frames {
            fresh,
            history,
            missing: history - known,
            channels,
            height,
            width,
            doubled,
        };
        run(&launch::channels_last(out.at(), [mold.at(), mnew.at()], of).unwrap());
        let all = [vec![0.0; (history - known) * frame], old, new].concat();
        let all = tensor(&all, &[history + fresh, channels, height / scale, width / scale]);
        let all = all.upsample_nearest2d(height, width).unwrap();
        let want = all.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
        assert_eq!(out.values(e), flat(&want), "{channels} channels of {height}×{width}");

        let sizes = [history + fresh, channels, positions];
        let back = Memory::new(sizes.iter().product::<usize>() * e.bytes());
        run(&launch::channels_first(back.at(), out.at(), [0, 0], sizes, false).unwrap());
        assert_eq!(back.values(e), flat(&all));
        let (bias, residual) = (numbers(e, channels, 52), numbers(e, sizes.iter().product(), 53));
        let (mbias, mresidual) = (Memory::of(e, &bias), Memory::of(e, &residual));
        run(&launch::channels_first(back.at(), out.at(), [mbias.at(), mresidual.at()], sizes, true).unwrap());
        let biased = all.broadcast_add(&tensor(&bias, &[1, channels, 1, 1])).unwrap();
        let want = (biased + tensor(&residual, all.dims())).unwrap().relu().unwrap();
        assert_close("channels_first", e, &back.values(e), &flat(&want), 1e-6);
    }
}
