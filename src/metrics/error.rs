//! What can be wrong with pictures that are to be measured.

/// Why a video cannot be measured.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// A frame rate that is none.
    #[error("{fps} pictures per second cannot be measured: the rate must be between 1 and 1000")]
    FrameRate { fps: f64 },
    /// A picture without pixels.
    #[error("pictures of {width}x{height} cannot be measured: they have no pixels")]
    NoPixels { width: usize, height: usize },
    /// Chunks without pictures.
    #[error("chunks of {first} and then {rest} pictures cannot be: each needs one picture at least")]
    Chunks { first: u64, rest: u64 },
    /// A picture of another size.
    #[error("picture {picture} has {found} bytes, expected {expected} for {width}x{height} RGB")]
    PictureSize {
        picture: u64,
        found: usize,
        expected: usize,
        width: usize,
        height: usize,
    },
    /// The system gives no thread to measure on.
    #[error("cannot measure beside the rendering: {reason}; leave measuring out with --no-metrics")]
    Thread { reason: String },
    /// Nothing was pushed.
    #[error("there are no pictures to measure")]
    NoPictures,
}
