//! Tensors on their way to a GPU: converted piece by piece into two page-locked buffers, each of which is copied to the
//! device while the other is filled.
//!
//! A copy from ordinary memory would wait for the host to copy into page-locked memory first, and a tensor of its own on
//! the host would be written and read once more.

use candle_core::{Device, Tensor};

use super::stored::Bad;

/// Bytes of one buffer: copying takes about a millisecond.
#[cfg(feature = "cuda")]
pub(super) const BUFFER: usize = 16 << 20;
/// Tensors below this are copied plainly.
#[cfg(feature = "cuda")]
const LEAST: usize = 1 << 20;

/// Whether a tensor went this way.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub(super) enum Staged {
    Yes(Tensor),
    /// It is to be copied plainly.
    No,
}

/// Two buffers of the host, and the device that they are copied to.
#[cfg(any(test, feature = "cuda"))]
pub(super) trait Staging<T> {
    /// Elements of one buffer.
    fn len(&self) -> usize;
    /// Buffer 0 or 1, once its last copy is done.
    fn free(&mut self, buffer: usize) -> candle_core::Result<&mut [T]>;
    /// Begins to copy the first `count` elements of a buffer to element `to` of the tensor.
    fn send(&mut self, buffer: usize, count: usize, to: usize) -> candle_core::Result<()>;
}

/// Fills and sends `count` elements; `fill` writes elements `from…` into what it is given.
#[cfg(any(test, feature = "cuda"))]
pub(super) fn pass<T>(
    count: usize,
    staging: &mut impl Staging<T>,
    fill: impl Fn(usize, &mut [T]) -> Result<(), Bad>,
) -> Result<(), Bad> {
    let piece = staging.len().max(1);
    for (number, from) in (0..count).step_by(piece).enumerate() {
        let here = piece.min(count - from);
        let buffer = number % 2;
        let held = staging.free(buffer).map_err(Bad::Device)?;
        fill(from, &mut held[..here])?;
        staging.send(buffer, here, from).map_err(Bad::Device)?;
    }
    Ok(())
}

/// A tensor of this shape on a GPU, with the values that `fill` gives.
#[cfg(feature = "cuda")]
pub(super) fn upload<T: super::staged_cuda::Element>(
    shape: &[usize],
    device: &Device,
    fill: impl Fn(usize, &mut [T]) -> Result<(), Bad>,
) -> Result<Staged, Bad> {
    let bytes = shape.iter().product::<usize>() * size_of::<T>();
    match device {
        Device::Cuda(device) if bytes >= LEAST => super::staged_cuda::upload(shape, device, fill),
        _ => Ok(Staged::No),
    }
}

/// This build has no GPU.
#[cfg(not(feature = "cuda"))]
pub(super) fn upload<T>(
    _shape: &[usize],
    _device: &Device,
    _fill: impl Fn(usize, &mut [T]) -> Result<(), Bad>,
) -> Result<Staged, Bad> {
    Ok(Staged::No)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device whose copies happen as late as they may: when the buffer is wanted again, or at the end.
    struct Late {
        buffers: [Vec<u32>; 2],
        waiting: [Option<(usize, usize)>; 2],
        tensor: Vec<u32>,
        /// Buffers in the order in which they were sent.
        sent: Vec<usize>,
    }

    impl Late {
        fn new(buffer: usize, count: usize) -> Self {
            Self {
                buffers: [vec![u32::MAX; buffer], vec![u32::MAX; buffer]],
                waiting: [None, None],
                tensor: vec![u32::MAX; count],
                sent: Vec::new(),
            }
        }

        fn copy(&mut self, buffer: usize) {
            if let Some((count, to)) = self.waiting[buffer].take() {
                self.tensor[to..to + count].copy_from_slice(&self.buffers[buffer][..count]);
            }
        }
    }

    impl Staging<u32> for Late {
        fn len(&self) -> usize {
            self.buffers[0].len()
        }

        fn free(&mut self, buffer: usize) -> candle_core::Result<&mut [u32]> {
            self.copy(buffer);
            Ok(&mut self.buffers[buffer])
        }

        fn send(&mut self, buffer: usize, count: usize, to: usize) -> candle_core::Result<()> {
            assert!(self.waiting[buffer].is_none(), "sent twice without being filled");
            self.waiting[buffer] = Some((count, to));
            self.sent.push(buffer);
            Ok(())
        }
    }

    fn numbers(from: usize, out: &mut [u32]) -> Result<(), Bad> {
        out.iter_mut()
            .zip(from as u32..)
            .for_each(|(slot, value)| *slot = value);
        Ok(())
    }

    #[test]
    fn buffers_take_turns_and_every_value_arrives() {
        for (buffer, count, pieces) in [(4, 0, 0), (4, 3, 1), (4, 4, 1), (4, 5, 2), (4, 23, 6), (1, 3, 3)] {
            let mut device = Late::new(buffer, count);
            assert!(pass(count, &mut device, numbers).is_ok());
            device.copy(0);
            device.copy(1);
            let wanted: Vec<u32> = (0..count as u32).collect();
            assert_eq!(device.tensor, wanted, "{buffer} {count}");
            let turns: Vec<usize> = (0..pieces).map(|piece| piece % 2).collect();
            assert_eq!(device.sent, turns, "{buffer} {count}");
        }
    }

    #[test]
    fn a_bad_value_ends_the_way() {
        let mut device = Late::new(4, 20);
        let bad = |from: usize, out: &mut [u32]| match from {
            8 => Err(Bad::NotFinite),
            _ => numbers(from, out),
        };
        assert!(matches!(pass(20, &mut device, bad), Err(Bad::NotFinite)));
        assert_eq!(device.sent, [0, 1]);
    }
}
