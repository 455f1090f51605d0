//! A look at what happens inside a forward pass.

use candle_core::Tensor;

use crate::Result;

/// Optional listener to intermediate tensors, for parity tests; costs nothing when silent.
pub struct Observer<'a>(Option<Listener<'a>>);

/// Called with the name of an intermediate tensor and its value.
type Listener<'a> = &'a mut dyn FnMut(&str, &Tensor);

impl<'a> Observer<'a> {
    /// Nobody listens.
    pub fn silent() -> Self {
        Self(None)
    }

    /// `listener` is called with the name and value of each tensor.
    pub fn new(listener: &'a mut dyn FnMut(&str, &Tensor)) -> Self {
        Self(Some(listener))
    }

    /// Shows a tensor.
    pub(super) fn see(&mut self, name: &str, tensor: &Tensor) {
        if let Some(listener) = &mut self.0 {
            listener(name, tensor);
        }
    }

    /// Shows a tensor of a block, which is made only if somebody listens.
    pub(super) fn block(&mut self, index: usize, name: &str, tensor: impl FnOnce() -> Result<Tensor>) {
        if let Some(listener) = &mut self.0
            && let Ok(tensor) = tensor()
        {
            listener(&format!("block.{index}.{name}"), &tensor);
        }
    }
}
