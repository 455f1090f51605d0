//! Descriptors of cuDNN's graph interface.

#![allow(unsafe_code)]

use std::ffi::c_void;

use candle_core::cuda::cudarc::cudnn::sys::{
    self, cudnnBackendAttributeName_t as Name, cudnnBackendAttributeType_t as Type,
};
use candle_core::{Error, Result};

use super::failed;

/// A descriptor that is destroyed with its owner.
#[derive(Debug)]
pub(super) struct Descriptor(pub(super) sys::cudnnBackendDescriptor_t);

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once. Nothing is left to be done about a failure.
        let _ = unsafe { sys::cudnnBackendDestroyDescriptor(self.0) };
    }
}

/// Values that attributes take.
pub(super) trait Attribute: Copy {
    const TYPE: Type;
}

impl Attribute for i64 {
    const TYPE: Type = Type::CUDNN_TYPE_INT64;
}
impl Attribute for bool {
    const TYPE: Type = Type::CUDNN_TYPE_BOOLEAN;
}
impl Attribute for *mut c_void {
    const TYPE: Type = Type::CUDNN_TYPE_VOID_PTR;
}
impl Attribute for sys::cudnnDataType_t {
    const TYPE: Type = Type::CUDNN_TYPE_DATA_TYPE;
}
impl Attribute for sys::cudnnBackendHeurMode_t {
    const TYPE: Type = Type::CUDNN_TYPE_HEUR_MODE;
}

/// Handles and descriptors are plain pointers to the bindings, so that their type must be named.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Handle(pub(super) sys::cudnnHandle_t);

impl Attribute for Handle {
    const TYPE: Type = Type::CUDNN_TYPE_HANDLE;
}

#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Reference(pub(super) sys::cudnnBackendDescriptor_t);

impl Attribute for Reference {
    const TYPE: Type = Type::CUDNN_TYPE_BACKEND_DESCRIPTOR;
}

impl Descriptor {
    pub(super) fn new(kind: sys::cudnnBackendDescriptorType_t) -> Result<Self> {
        let mut made = std::ptr::null_mut();
        // SAFETY: `made` is where the library writes the descriptor.
        unsafe { sys::cudnnBackendCreateDescriptor(kind, &mut made) }
            .result()
            .map_err(failed)?;
        Ok(Self(made))
    }

    pub(super) fn set<A: Attribute>(&self, name: Name, values: &[A]) -> Result<()> {
        // SAFETY: as many values of the named type as are announced.
        unsafe {
            sys::cudnnBackendSetAttribute(
                self.0,
                name,
                A::TYPE,
                values.len() as i64,
                values.as_ptr().cast::<c_void>(),
            )
        }
        .result()
        .map_err(|error| Error::msg(format!("{name:?}: {}", failed(error))))
    }

    pub(super) fn finalize(self) -> Result<Self> {
        // SAFETY: a descriptor that was made and not destroyed.
        unsafe { sys::cudnnBackendFinalize(self.0) }.result().map_err(failed)?;
        Ok(self)
    }

    /// Writes the attribute into `values`; returns how many there were.
    pub(super) fn get<A: Attribute>(&self, name: Name, values: &mut [A]) -> Result<usize> {
        let mut count = 0;
        // SAFETY: room for as many values as are asked for.
        unsafe {
            sys::cudnnBackendGetAttribute(
                self.0,
                name,
                A::TYPE,
                values.len() as i64,
                &mut count,
                values.as_mut_ptr().cast::<c_void>(),
            )
        }
        .result()
        .map_err(|error| Error::msg(format!("{name:?}: {}", failed(error))))?;
        Ok(usize::try_from(count).unwrap_or(0).min(values.len()))
    }

    pub(super) fn reference(&self) -> Reference {
        Reference(self.0)
    }
}
