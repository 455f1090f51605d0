//! Softmax attention by cuDNN's unified operation (9.13.1 and newer): bfloat16, any number of queries and keys, views of
//! the cache as they lie.

#![allow(unsafe_code)]

use std::ffi::c_void;

use candle_core::{CudaDevice, Error, Result, cuda::cudarc::cudnn::sys};
use sys::{cudnnBackendAttributeName_t as Name, cudnnBackendDescriptorType_t as Kind, cudnnDataType_t as Data};

use super::{
    Library, aligned,
    descriptor::{Descriptor, Handle, Reference},
    failed, with,
};

/// What a plan is made for. Tokens are `heads·dim` elements apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AttentionShape {
    pub queries: usize,
    pub keys: usize,
    pub heads: usize,
    pub dim: usize,
}

/// Names of the tensors in a plan.
const QUERIES: i64 = 1;
const KEYS: i64 = 2;
const VALUES: i64 = 3;
const OUTPUT: i64 = 4;
const SCALE: i64 = 5;

/// Engine configurations to try.
const CANDIDATES: usize = 8;

/// An operation with the tensors it names.
struct Operation {
    operation: Descriptor,
    _tensors: [Descriptor; 5],
}

/// A plan that can be run any number of times.
pub(super) struct Plan {
    plan: Descriptor,
    workspace: usize,
    // What the plan was made from must live as long.
    _parts: (Operation, Vec<Descriptor>),
}

/// Runs attention over bfloat16 tensors at these addresses; false when the library has no plan for the shape, or one
/// that fails, or when a tensor is not aligned.
///
/// # Errors
/// When the device cannot be used.
pub(crate) fn attention(
    device: &CudaDevice,
    shape: AttentionShape,
    out: u64,
    inputs: [u64; 3],
    scale: f32,
) -> Result<bool> {
    let [q, k, v] = inputs;
    if !aligned([out, q, k, v]) {
        return Ok(false);
    }
    let ran = with(device, |library| {
        library.plan_attention(shape);
        let ran = library.run_attention(shape, out, inputs, scale);
        ran.or_else(|error| {
            tracing::warn!("cuDNN fails at attention {shape:?}, tiles of this program are used from now on: {error}");
            library.settle();
            library.attention.insert(shape, None);
            Ok(false)
        })
    })?;
    Ok(ran.unwrap_or(false))
}

/// Makes the plans of these shapes, which takes up to a second each.
///
/// # Errors
/// When the library fails.
pub(crate) fn warm_up(device: &CudaDevice, shapes: &[AttentionShape]) -> Result<()> {
    with(device, |library| {
        shapes.iter().for_each(|shape| library.plan_attention(*shape));
        Ok(())
    })?;
    Ok(())
}

impl Library {
    /// False when there is no plan.
    fn run_attention(&mut self, shape: AttentionShape, out: u64, inputs: [u64; 3], scale: f32) -> Result<bool> {
        let workspace = match self.attention.get(&shape) {
            Some(Some(plan)) => plan.workspace,
            _ => return Ok(false),
        };
        let workspace = self.workspace(workspace)?;
        match self.attention.get(&shape) {
            Some(Some(plan)) => plan.run(self.handle, out, inputs, scale, workspace).map(|()| true),
            _ => Ok(false),
        }
    }

    fn plan_attention(&mut self, shape: AttentionShape) {
        let handle = self.handle;
        self.attention.entry(shape).or_insert_with(|| {
            Plan::make(handle, shape)
                .inspect_err(|error| {
                    tracing::warn!("no cuDNN plan for attention {shape:?}, tiles of this program are used: {error}");
                })
                .ok()
        });
    }
}

/// A tensor `[1, heads, tokens, dim]` whose tokens lie behind each other with all their heads.
fn tokens(id: i64, count: usize, shape: AttentionShape) -> Result<Descriptor> {
    let (heads, dim) = (shape.heads as i64, shape.dim as i64);
    let row = heads * dim;
    tensor(
        id,
        Data::CUDNN_DATA_BFLOAT16,
        [1, heads, count as i64, dim],
        [count as i64 * row, dim, row, 1],
        false,
    )
}

fn tensor(id: i64, data: Data, dims: [i64; 4], strides: [i64; 4], by_value: bool) -> Result<Descriptor> {
    let tensor = Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?;
    tensor.set(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[id])?;
    tensor.set(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, &[data])?;
    tensor.set(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, &dims)?;
    tensor.set(Name::CUDNN_ATTR_TENSOR_STRIDES, &strides)?;
    tensor.set(
        Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT,
        &[if by_value { 4i64 } else { 16 }],
    )?;
    if by_value {
        tensor.set(Name::CUDNN_ATTR_TENSOR_IS_BY_VALUE, &[true])?;
    }
    tensor.finalize()
}

impl Operation {
    /// Needs the library, but no GPU.
    fn new(shape: AttentionShape) -> Result<Self> {
        let tensors = [
            tokens(QUERIES, shape.queries, shape)?,
            tokens(KEYS, shape.keys, shape)?,
            tokens(VALUES, shape.keys, shape)?,
            tokens(OUTPUT, shape.queries, shape)?,
            tensor(SCALE, Data::CUDNN_DATA_FLOAT, [1; 4], [1; 4], true)?,
        ];
        let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR)?;
        let names = [
            Name::CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC,
            Name::CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC,
            Name::CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC,
            Name::CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC,
            Name::CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC,
        ];
        for (name, tensor) in names.into_iter().zip(&tensors) {
            operation.set(name, &[tensor.reference()])?;
        }
        Ok(Self {
            operation: operation.finalize()?,
            _tensors: tensors,
        })
    }
}

impl Plan {
    /// The first of the library's suggestions that it can carry out.
    fn make(handle: sys::cudnnHandle_t, shape: AttentionShape) -> Result<Self> {
        let operation = Operation::new(shape)?;
        let graph = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?;
        graph.set(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, &[Handle(handle)])?;
        graph.set(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, &[operation.operation.reference()])?;
        let graph = graph.finalize()?;
        let heuristics = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?;
        heuristics.set(Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &[graph.reference()])?;
        heuristics.set(
            Name::CUDNN_ATTR_ENGINEHEUR_MODE,
            &[sys::cudnnBackendHeurMode_t::CUDNN_HEUR_MODE_A],
        )?;
        let heuristics = heuristics.finalize()?;
        let engines = (0..CANDIDATES)
            .map(|_| Descriptor::new(Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR))
            .collect::<Result<Vec<_>>>()?;
        let mut references: Vec<Reference> = engines.iter().map(Descriptor::reference).collect();
        let found = heuristics.get(Name::CUDNN_ATTR_ENGINEHEUR_RESULTS, &mut references)?;
        let mut refusal = Error::msg("cuDNN suggests no engine");
        let mut made = None;
        for engine in &references[..found] {
            match Self::finish(handle, *engine) {
                Ok(plan) => {
                    made = Some(plan);
                    break;
                }
                Err(error) => refusal = error,
            }
        }
        let (plan, workspace) = made.ok_or(refusal)?;
        let mut parts = engines;
        parts.extend([graph, heuristics]);
        Ok(Self {
            plan,
            workspace,
            _parts: (operation, parts),
        })
    }

    fn finish(handle: sys::cudnnHandle_t, engine: Reference) -> Result<(Descriptor, usize)> {
        let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?;
        plan.set(Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, &[Handle(handle)])?;
        plan.set(Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &[engine])?;
        let plan = plan.finalize()?;
        let mut workspace = [0i64];
        plan.get(Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, &mut workspace)?;
        Ok((plan, usize::try_from(workspace[0]).unwrap_or(0)))
    }

    fn run(
        &self,
        handle: sys::cudnnHandle_t,
        out: u64,
        [q, k, v]: [u64; 3],
        mut scale: f32,
        workspace: u64,
    ) -> Result<()> {
        let device = |at: u64| at as *mut c_void;
        let scale: *mut c_void = (&raw mut scale).cast();
        let pack = Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?;
        pack.set(
            Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS,
            &[QUERIES, KEYS, VALUES, OUTPUT, SCALE],
        )?;
        pack.set(
            Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
            &[device(q), device(k), device(v), device(out), scale],
        )?;
        pack.set(Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &[device(workspace)])?;
        let pack = pack.finalize()?;
        // SAFETY: addresses are those of tensors of the plan's shapes, the scale lives until the call returns.
        unsafe { sys::cudnnBackendExecute(handle, self.plan.0, pack.0) }
            .result()
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything of a plan that needs no GPU.
    #[test]
    fn the_operation_is_accepted_by_the_library() {
        for (queries, keys) in [(4680, 4680), (4680, 29_640), (1560, 32_760), (4680, 512)] {
            let shape = AttentionShape {
                queries,
                keys,
                heads: 12,
                dim: 128,
            };
            if let Err(error) = Operation::new(shape) {
                panic!("{shape:?}: {error}");
            }
        }
    }
}
