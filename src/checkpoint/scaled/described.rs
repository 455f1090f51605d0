//! What files say of how their layers were quantised: a JSON object for each layer, as ComfyUI writes it.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device};
use serde_json::{Map, Value};

use super::{
    super::{
        element::Element,
        layout::Layout,
        stored::{Label, Stored},
    },
    ScaledError, module,
};

/// Key of the header under which all layers can be described at once.
const METADATA: &str = "_quantization_metadata";
/// Ending of the tensors that describe one layer.
const TENSOR: &str = "comfy_quant";
/// No description of a layer has more bytes.
const LONGEST: usize = 1 << 16;

/// Checks all descriptions; tells whether there are any.
///
/// # Errors
/// When a layer was quantised in a way that is not known, or is not stored as it is described.
pub(super) fn check(
    layout: &Layout,
    tensors: &BTreeMap<String, Stored>,
    file: &HashMap<String, Stored>,
    notes: &HashMap<String, String>,
) -> Result<bool, ScaledError> {
    let mut any = false;
    for side in layout.sides.iter().filter(|side| side.kind == TENSOR) {
        let (Some(stored), Some(weight)) = (file.get(&side.stored), tensors.get(&side.of)) else {
            continue;
        };
        let layer = module(&side.stored);
        check_layer(layer, &read(&side.stored, stored)?, weight.element())?;
        any = true;
    }
    let Some(text) = notes.get(METADATA) else {
        return Ok(any);
    };
    let unreadable = |reason: String| ScaledError::Description {
        layer: METADATA.into(),
        reason,
    };
    let described: Value = serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
    let layers = described.get("layers").and_then(Value::as_object);
    let layers = layers.ok_or_else(|| unreadable("it has no `layers`".into()))?;
    for (layer, description) in layers {
        // A checkpoint with several networks describes the layers of all of them.
        let weight = layout.weight_of(layer).and_then(|weight| tensors.get(&weight));
        let (Some(weight), Some(description)) = (weight, description.as_object()) else {
            continue;
        };
        check_layer(layer, description, weight.element())?;
        any = true;
    }
    Ok(any)
}

/// The object in a tensor of bytes.
fn read(name: &str, stored: &Stored) -> Result<Map<String, Value>, ScaledError> {
    let unreadable = |reason: String| ScaledError::Description {
        layer: module(name).into(),
        reason,
    };
    let bytes: usize = stored.shape().iter().product();
    if stored.element() != Element::U8 || stored.shape().len() != 1 || bytes > LONGEST {
        return Err(unreadable("it is no short text in bytes".into()));
    }
    let label = Label {
        name,
        path: std::path::Path::new(""),
    };
    let bytes = stored.read(label, DType::U8, &Device::Cpu);
    let bytes = bytes.map_err(|error| unreadable(error.to_string()))?.to_vec1::<u8>();
    let bytes = bytes.map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))
}

fn check_layer(layer: &str, description: &Map<String, Value>, found: Element) -> Result<(), ScaledError> {
    let Some(format) = description.get("format").and_then(Value::as_str) else {
        return Err(ScaledError::Description {
            layer: layer.into(),
            reason: "it has no `format`".into(),
        });
    };
    let rotated = description
        .get("convrot")
        .is_some_and(|value| *value != Value::Bool(false));
    let stored = match format {
        "float8_e4m3fn" => Element::F8E4m3,
        "float8_e5m2" => Element::F8E5m2,
        "int8_tensorwise" if rotated => {
            return Err(ScaledError::Format {
                layer: layer.into(),
                format: "`int8_tensorwise` with `convrot` (its rows were rotated by a Hadamard matrix)".into(),
            });
        }
        "int8_tensorwise" => Element::I8,
        other => {
            return Err(ScaledError::Format {
                layer: layer.into(),
                format: format!("`{}`", other.escape_debug()),
            });
        }
    };
    if stored == found {
        return Ok(());
    }
    Err(ScaledError::OtherFormat {
        layer: layer.into(),
        told: format.into(),
        found: found.name(),
    })
}
