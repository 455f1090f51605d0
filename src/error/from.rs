//! Errors that are boxed, because they are large.

use super::Error;
use crate::{checkpoint::lora::LoraError, models::convert::ConvertError};

impl From<ConvertError> for Error {
    fn from(error: ConvertError) -> Self {
        Self::Convert(Box::new(error))
    }
}

impl From<LoraError> for Error {
    fn from(error: LoraError) -> Self {
        Self::Lora(Box::new(error))
    }
}
