//! The convolution against its definition.

use candle_core::Device;
use proptest::prelude::*;

use super::*;

/// The definition, one output element after the other, in f64; `x` includes the history.
fn reference(conv: &CausalConv3d, x: &Tensor, residual: Option<&Tensor>) -> Vec<f64> {
    let spec = &conv.spec;
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (frames, channels, height, width) = x.dims4().unwrap();
    let (x, weight, bias) = (values(x), values(&conv.weight), conv.bias.as_ref().map(values));
    let scale = if spec.upsample { 2 } else { 1 };
    let at = |frame: usize, channel: usize, row: usize, column: usize| {
        let before = spec.padding.before(spec.kernel);
        let (Some(row), Some(column)) = (row.checked_sub(before), column.checked_sub(before)) else {
            return 0.0;
        };
        if row >= height * scale || column >= width * scale {
            return 0.0;
        }
        x[((frame * channels + channel) * height + row / scale) * width + column / scale] as f64
    };
    let (rows, columns) = spec.output_size(height, width);
    let mut out = Vec::new();
    for frame in 0..(frames - spec.time_kernel) / spec.time_stride + 1 {
        for channel in 0..spec.out_channels {
            for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                let mut sum = bias.as_ref().map_or(0.0, |bias| bias[channel] as f64);
                for tap in 0..spec.taps() * channels {
                    let (input, tap) = (tap / spec.taps(), tap % spec.taps());
                    let (dt, area) = (tap / (spec.kernel * spec.kernel), tap % (spec.kernel * spec.kernel));
                    let (dy, dx) = (area / spec.kernel, area % spec.kernel);
                    let weight = weight[(channel * channels + input) * spec.taps() + tap] as f64;
                    let (row, column) = (row * spec.stride + dy, column * spec.stride + dx);
                    sum += weight * at(frame * spec.time_stride + dt, input, row, column);
                }
                out.push(sum);
            }
        }
    }
    for (out, residual) in out.iter_mut().zip(residual.map(values).unwrap_or_default()) {
        *out += residual as f64;
    }
    out.into_iter()
        .map(|v| if spec.relu { v.max(0.0) } else { v })
        .collect()
}

fn check(spec: ConvSpec, frames: usize, (height, width): (usize, usize), with_residual: bool) {
    let random = |shape: &[usize]| Tensor::rand(-1f32, 1f32, shape, &Device::Cpu).unwrap();
    let shape = [
        spec.out_channels,
        spec.in_channels,
        spec.time_kernel,
        spec.kernel,
        spec.kernel,
    ];
    let bias = Some(random(&[spec.out_channels]));
    let conv = CausalConv3d::from_tensors(spec.clone(), random(&shape), bias, WeightOrder::Plain);
    let x = random(&[frames, spec.in_channels, height, width]);
    let zeros = Tensor::zeros(
        (spec.history(), spec.in_channels, height, width),
        x.dtype(),
        &Device::Cpu,
    )
    .unwrap();
    let from_zeros = Tensor::cat(&[&zeros, &x], 0).unwrap();
    let (rows, columns) = spec.output_size(height, width);
    let out_frames = (frames + spec.history() - spec.time_kernel) / spec.time_stride + 1;
    let residual = with_residual.then(|| random(&[out_frames, spec.out_channels, rows, columns]));
    let got = conv.stream(&x, &mut History::default(), residual.as_ref()).unwrap();
    assert_eq!(got.dims(), [out_frames, spec.out_channels, rows, columns]);
    let want = reference(&conv, &from_zeros, residual.as_ref());
    let size = (spec.in_channels * spec.taps()) as f64;
    for (got, want) in got
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap()
        .into_iter()
        .zip(want)
    {
        // Terms are of order 1; their rounding errors add up like a random walk over sums of that size.
        assert!(
            (got as f64 - want).abs() < 1e-6 + 2e-7 * size,
            "{got} instead of {want}: {spec:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn agrees_with_the_definition(
        in_channels in 1usize..12, out_channels in 1usize..20, frames in 3usize..6,
        height in 2usize..24, width in 2usize..24, with_residual: bool, relu: bool, kind in 0usize..7,
    ) {
        let of = |time, kernel| ConvSpec { relu, ..ConvSpec::new(in_channels, out_channels, time, kernel) };
        let spec = match kind {
            0 => of(3, 3),
            1 => of(1, 3),
            2 => of(1, 1),
            3 => of(3, 1),
            4 => of(1, 3).upsampled(),
            5 => of(1, 3).downsampled(),
            _ => ConvSpec { time_stride: 2, ..of(3, 1) },
        };
        check(spec, frames, (height, width), with_residual);
    }
}

#[test]
fn agrees_with_the_definition_when_tiled_in_every_direction() {
    check(ConvSpec::new(3, 5, 3, 3), 5, (21, 401), true);
    check(ConvSpec::new(3, 5, 1, 3).upsampled(), 1, (9, 211), false);
    check(ConvSpec::new(3, 5, 1, 3).downsampled(), 1, (18, 662), false);
    // Many input channels, and more sums than one task holds.
    check(ConvSpec::new(300, 9, 3, 3), 3, (9, 30), false);
    check(ConvSpec::new(2, 300, 3, 3), 9, (32, 30), true);
}

#[test]
fn a_short_history_is_completed_with_zeros_and_filled_up() {
    let spec = ConvSpec::new(2, 2, 3, 3);
    let weight = Tensor::rand(-1f32, 1f32, (2, 2, 3, 3, 3), &Device::Cpu).unwrap();
    let bias = Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap();
    let conv = CausalConv3d::from_tensors(spec, weight, Some(bias), WeightOrder::Plain);
    let x = Tensor::rand(-1f32, 1f32, (6, 2, 4, 5), &Device::Cpu).unwrap();
    let whole = conv.stream(&x, &mut History::default(), None).unwrap();
    let mut history = History::default();
    for (start, count) in [(0, 1), (1, 1), (2, 1), (3, 3)] {
        let part = conv
            .stream(&x.narrow(0, start, count).unwrap(), &mut history, None)
            .unwrap();
        let want = whole.narrow(0, start, count).unwrap();
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(&part), values(&want));
    }
    assert_eq!(history.0.unwrap().dims(), [2, 2, 4, 5]);
    assert!(
        conv.forward(&Tensor::zeros((1, 3, 4, 5), candle_core::DType::F32, &Device::Cpu).unwrap())
            .is_err()
    );
}

#[test]
fn weights_for_a_gpu_begin_where_their_memory_does() {
    // Views that begin anywhere, of which neither order needs a copy to be as the kernels want it.
    let values = Tensor::arange(0f32, 32.0 * 4.0 + 3.0, &Device::Cpu).unwrap();
    let view = values.narrow(0, 3, 32 * 4).unwrap();
    let stored = [
        (WeightOrder::NewestFirst, view.reshape((4, 32, 1, 1)).unwrap()),
        (WeightOrder::Plain, view.reshape((4, 32, 1, 1, 1)).unwrap()),
    ];
    for (order, weight) in stored {
        let conv = CausalConv3d::from_tensors(ConvSpec::new(32, 4, 1, 1), weight, None, order);
        for weight in [conv.frame_major_weight().unwrap(), conv.tap_major_weight(32).unwrap()] {
            assert_eq!(weight.layout().start_offset(), 0);
            let values = weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(values.iter().zip(3..).all(|(value, want)| *value == want as f32));
        }
    }
}
