//! Tensors whose values lie in blocks that share scales: decoded piece by piece, on all threads.

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

use super::{
    super::{
        element::Target,
        gguf::BlockType,
        staging::{self, Staged},
    },
    Bad,
    runs::{CHUNK, Part, convert_run},
};

/// Values that are decoded at a time: whole blocks of every type, few enough to stay in the processor's first cache.
const PIECE: usize = 4096;

/// The blocks of a tensor, one after the other in row-major order.
pub(super) struct Blocks<'a> {
    pub(super) file: &'a [u8],
    /// First byte of the first block.
    pub(super) start: usize,
    pub(super) kind: &'static BlockType,
}

impl Blocks<'_> {
    /// Reads the parts onto the device; they are dense, as all tensors of blocks are.
    pub(super) fn read(&self, parts: &[Part], shape: Vec<usize>, dtype: DType, device: &Device) -> Result<Tensor, Bad> {
        if let [part] = parts {
            let from = part.first;
            let staged = match dtype {
                DType::F32 => staging::upload::<f32>(&shape, device, |at, out| self.fill(from + at, out))?,
                DType::BF16 => staging::upload::<bf16>(&shape, device, |at, out| self.fill(from + at, out))?,
                _ => Staged::No,
            };
            if let Staged::Yes(tensor) = staged {
                return Ok(tensor);
            }
        }
        let host = match dtype {
            DType::F32 => Tensor::from_vec(self.gather::<f32>(parts)?, shape, &Device::Cpu),
            DType::BF16 => Tensor::from_vec(self.gather::<bf16>(parts)?, shape, &Device::Cpu),
            DType::F16 => Tensor::from_vec(self.gather::<f16>(parts)?, shape, &Device::Cpu),
            // No value has more digits than f32.
            _ => Tensor::from_vec(self.gather::<f32>(parts)?, shape, &Device::Cpu).and_then(|t| t.to_dtype(dtype)),
        };
        host.and_then(|tensor| tensor.to_device(device)).map_err(Bad::Device)
    }

    fn gather<T: Target>(&self, parts: &[Part]) -> Result<Vec<T>, Bad> {
        let count = |part: &Part| part.shape.iter().product::<usize>();
        let mut values = vec![T::zero(); parts.iter().map(count).sum()];
        let mut rest = values.as_mut_slice();
        for part in parts {
            let (own, others) = rest.split_at_mut(count(part));
            self.fill(part.first, own)?;
            rest = others;
        }
        Ok(values)
    }

    /// Values number `from`, `from + 1`, … into `out`.
    fn fill<T: Target>(&self, from: usize, out: &mut [T]) -> Result<(), Bad> {
        if out.len() <= CHUNK {
            return self.decode(from, out);
        }
        out.par_chunks_mut(CHUNK)
            .enumerate()
            .try_for_each(|(chunk, out)| self.decode(from + chunk * CHUNK, out))
    }

    fn decode<T: Target>(&self, from: usize, out: &mut [T]) -> Result<(), Bad> {
        let (values, bytes) = (self.kind.values(), self.kind.bytes());
        let mut piece = [0f32; PIECE];
        let mut done = 0;
        while done < out.len() {
            // A row may begin inside of a block.
            let (first, skipped) = ((from + done) / values, (from + done) % values);
            let taken = (PIECE - skipped).min(out.len() - done);
            let blocks = (skipped + taken).div_ceil(values);
            let begin = self.start + first * bytes;
            let encoded = self.file.get(begin..begin + blocks * bytes).ok_or(Bad::OutOfFile)?;
            let decoded = &mut piece[..blocks * values];
            self.kind.decode(encoded, decoded);
            let wanted = decoded[skipped..skipped + taken].iter().copied();
            convert_run(wanted, &mut out[done..done + taken])?;
            done += taken;
        }
        Ok(())
    }
}
