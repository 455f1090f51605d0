//! Convolutions on a GPU against the CPU. Without a GPU each test says that it was skipped.

use candle_core::Tensor;

use super::{CausalConv3d, ConvSpec, History, Padding, WeightOrder};
use crate::kernels::device_tests::{compare, uniform};

#[test]
fn convolutions() {
    let specs = [
        // Channels that lie side by side in bf16, then some that cannot.
        ConvSpec::new(24, 72, 3, 3),
        ConvSpec::new(24, 40, 1, 3).with_relu(),
        ConvSpec::new(24, 16, 1, 1),
        ConvSpec::new(24, 40, 3, 1),
        ConvSpec::new(24, 16, 1, 3).upsampled(),
        ConvSpec {
            time_stride: 2,
            padding: Padding::Valid,
            ..ConvSpec::new(24, 24, 3, 1)
        },
        ConvSpec::new(20, 70, 3, 3),
        ConvSpec::new(20, 33, 1, 3).with_relu(),
        ConvSpec::new(20, 33, 1, 1),
        ConvSpec::new(20, 40, 3, 1),
        ConvSpec::new(20, 33, 1, 3).upsampled(),
        ConvSpec::new(20, 33, 1, 3).downsampled(),
    ];
    for spec in specs {
        let (inputs, out, time, kernel) = (spec.in_channels, spec.out_channels, spec.time_kernel, spec.kernel);
        let tensors = [
            uniform(&[5, inputs, 12, 18], 1),
            uniform(&[out, inputs, time, kernel, kernel], 2),
            uniform(&[out], 3),
        ];
        compare(&format!("{spec:?}"), &tensors, 3, [1e-5, 1e-2], |t| {
            let (weight, bias) = (t[1].clone(), Some(t[2].clone()));
            let conv = CausalConv3d::from_tensors(spec.clone(), weight, bias, WeightOrder::Plain);
            // Two calls: the second one has a history.
            let mut history = History::default();
            let parts =
                [(0, 2), (2, 3)].map(|(from, count)| conv.stream(&t[0].narrow(0, from, count)?, &mut history, None));
            let [first, second] = parts;
            Tensor::cat(&[first?, second?], 0)
        });
    }
}
