//! What can be wrong with weights of 8 bits and their scales.

/// Why weights of 8 bits cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScaledError {
    /// A scale, or another description, of a weight that is not there.
    #[error(
        "`{name}` describes a weight `{weight}` that is not in the file: half of the file is missing; download it again"
    )]
    NoWeight { name: String, weight: String },
    /// Two scales of one weight.
    #[error(
        "`{first}` and `{second}` are both the scale of one weight; which one counts cannot be told: convert the file again"
    )]
    Twice { first: String, second: String },
    /// A weight without the scale that it should have.
    #[error(
        "weight `{name}` is {dtype} and has no scale{}: what its numbers mean cannot be told. Get a complete file, or \
         convert the model again",
        if *marked { ", though the file has scales or a mark of scaled weights" } else { "" }
    )]
    NoScale {
        name: String,
        dtype: &'static str,
        marked: bool,
    },
    /// A scale of a shape that does not go with its weight.
    #[error(
        "scale `{name}` has shape {scale:?}, which does not go with the weight of shape {weight:?}: expected one number, one \
         for each row, or whole blocks of each row"
    )]
    Shape {
        name: String,
        scale: Vec<usize>,
        weight: Vec<usize>,
    },
    /// A scale that is no ordinary number.
    #[error("scale `{name}` is {dtype}, expected f32, bf16 or f16; this way of quantising is not supported")]
    Dtype { name: String, dtype: &'static str },
    /// A scale that is NaN or infinite.
    #[error("scale `{name}` is not finite; the file is damaged or was converted wrongly: get another one")]
    NotFinite { name: String },
    /// A way of quantising that is not done here.
    #[error(
        "layer `{layer}` is quantised as {format}, which is not supported; use a version of the model in bf16, f16, fp8 \
         (with or without scales) or int8"
    )]
    Format { layer: String, format: String },
    /// The description of a layer says another format than its weight has.
    #[error("layer `{layer}` is described as {told}, but its weight is stored as {found}: convert the file again")]
    OtherFormat {
        layer: String,
        told: String,
        found: &'static str,
    },
    /// The description of a layer is not what it should be.
    #[error("the description of the quantisation of `{layer}` cannot be read ({reason}); convert the file again")]
    Description { layer: String, reason: String },
}
