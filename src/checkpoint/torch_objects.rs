//! The few classes and functions that a state dict is made of, rebuilt as plain values.

use super::{
    element::Element,
    pickle::{Id, Machine, Stop, Value},
};

/// More dimensions than PyTorch allows.
const MAX_RANK: usize = 64;

/// A class or function that a pickle may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`; `_v3` differs in that the dtype comes as an argument.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter` and `_rebuild_parameter_with_state`.
    RebuildParameter,
    /// `torch._tensor._rebuild_from_type_v2`: a tensor with attributes or of a subclass.
    RebuildFromType,
    /// A storage class; `None` for the untyped one.
    Storage(Option<Element>),
    Dtype(Element),
    Size,
    /// Makes something harmless and useless here: sets, bytes, devices.
    Opaque,
    /// `torch.Tensor`, `torch.nn.Parameter`: named, never called.
    TensorClass,
}

impl Global {
    /// The known ones; everything else is refused.
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Self::RebuildParameter,
            ("torch._tensor", "_rebuild_from_type_v2") => Self::RebuildFromType,
            ("torch", "Tensor") | ("torch.nn.parameter", "Parameter") => Self::TensorClass,
            ("torch", "Size") => Self::Size,
            ("torch", "device")
            | ("_codecs", "encode")
            | ("builtins" | "__builtin__", "set" | "frozenset" | "bytearray")
            | ("torch.serialization", "_get_layout") => Self::Opaque,
            ("torch" | "torch.storage", "UntypedStorage") => Self::Storage(None),
            ("torch", name) => match Element::from_torch_storage(name) {
                Some(element) => Self::Storage(Some(element)),
                None => Self::Dtype(Element::from_torch_dtype(name)?),
            },
            _ => return None,
        })
    }
}

/// A block of values in its own entry of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StorageRef {
    /// Entry `data/<key>`.
    pub(super) key: String,
    /// `None` for bytes whose format each tensor names.
    pub(super) element: Option<Element>,
    /// Number of values (bytes, if untyped).
    pub(super) count: usize,
}

/// A tensor as a view of a storage; `offset` and `strides` count values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TensorRef {
    /// Number of the storage's value: many tensors may share one.
    pub(super) storage: Id,
    pub(super) element: Element,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// A storage from its persistent id: `('storage', class, key, device, count)`.
pub(super) fn persistent(machine: &mut Machine, id: Id) -> Result<StorageRef, Stop> {
    let items = machine.items(id).ok_or("a storage is not described by a tuple")?;
    let &[tag, class, key, _device, count] = items else {
        return Err("a storage is not described by five values".into());
    };
    let (tag, class, key) = (machine.value(tag), machine.value(class), machine.value(key));
    let (Value::Str(tag), Value::Global(Global::Storage(element)), Value::Str(key)) = (tag, class, key) else {
        return Err("a storage is described by values of the wrong type".into());
    };
    if tag != "storage" {
        return Err("it refers to something outside of it that is not a storage".into());
    }
    // Keys are small numbers. A long one could be recalled again and again to fill the memory.
    if key.len() > 64 {
        return Err("the key of a storage is too long".into());
    }
    Ok(StorageRef {
        key: key.clone(),
        element: *element,
        count: number(machine, count)?,
    })
}

/// Calls a known function.
pub(super) fn call(machine: &mut Machine, function: Global, arguments: &[Id]) -> Result<Value, Stop> {
    match (function, arguments) {
        (Global::OrderedDict, []) => Ok(Value::Dict(Vec::new())),
        (Global::OrderedDict, [entries]) => ordered_dict(machine, *entries),
        (Global::RebuildTensor, [storage, offset, shape, strides, rest @ ..]) => {
            // v2: requires_grad, hooks, metadata. v3: requires_grad, hooks, dtype, metadata.
            let dtype = rest.get(2).and_then(|dtype| match machine.value(*dtype) {
                Value::Global(Global::Dtype(element)) => Some(*element),
                _ => None,
            });
            // A view that is negated or conjugated when read: `{'neg': True}`.
            let flagged = |id: &Id| matches!(machine.value(*id), Value::Dict(flags) if !flags.is_empty());
            if rest.iter().skip(2).any(flagged) {
                return Err("a tensor is a negated or conjugated view".into());
            }
            let Value::Storage(StorageRef { element, .. }) = machine.value(*storage) else {
                return Err("a tensor is not made from a storage".into());
            };
            Ok(Value::Tensor(TensorRef {
                storage: *storage,
                element: dtype.or(*element).ok_or("a tensor has no dtype")?,
                offset: number(machine, *offset)?,
                shape: numbers(machine, *shape)?,
                strides: numbers(machine, *strides)?,
            }))
        }
        (Global::RebuildParameter, [data, ..]) => tensor(machine, *data),
        (Global::RebuildFromType, [function, _class, inner, ..]) => {
            let &Value::Global(function @ (Global::RebuildTensor | Global::RebuildParameter)) =
                machine.value(*function)
            else {
                return Err("a tensor is rebuilt by something else than a known function".into());
            };
            let inner = machine
                .items(*inner)
                .ok_or("the arguments of a call are not a tuple")?
                .to_vec();
            machine.spend(inner.len())?;
            call(machine, function, &inner)
        }
        (Global::Size, [size]) => {
            let items = machine.items(*size).ok_or("a size is not a tuple")?.to_vec();
            machine.spend(items.len())?;
            Ok(Value::Tuple(items))
        }
        (Global::Size, []) => Ok(Value::Tuple(Vec::new())),
        (Global::Opaque, _) => Ok(Value::Other),
        (function, arguments) => Err(format!(
            "it calls {function:?} with {} arguments, which is not known",
            arguments.len()
        )
        .into()),
    }
}

fn ordered_dict(machine: &mut Machine, entries: Id) -> Result<Value, Stop> {
    let entries = machine.items(entries).ok_or("the entries of a dict are not a list")?;
    let pair = |entry: &Id| match machine.items(*entry) {
        Some(&[key, value]) => Ok((key, value)),
        _ => Err("an entry of a dict is not a pair".into()),
    };
    let pairs = entries.iter().map(pair).collect::<Result<Vec<_>, Stop>>()?;
    machine.spend(pairs.len())?;
    Ok(Value::Dict(pairs))
}

fn tensor(machine: &mut Machine, id: Id) -> Result<Value, Stop> {
    let Value::Tensor(tensor) = machine.value(id) else {
        return Err("a parameter does not hold a tensor".into());
    };
    let tensor = tensor.clone();
    machine.spend(tensor.shape.len())?;
    Ok(Value::Tensor(tensor))
}

/// A number that is not negative.
fn number(machine: &Machine, id: Id) -> Result<usize, Stop> {
    match machine.value(id) {
        Value::Int(value) => usize::try_from(*value).map_err(|_| format!("{value} is not a size").into()),
        other => Err(format!("{} stands where a size is expected", other.describe()).into()),
    }
}

fn numbers(machine: &mut Machine, id: Id) -> Result<Vec<usize>, Stop> {
    let items = machine.items(id).ok_or("a shape is not a tuple")?;
    if items.len() > MAX_RANK {
        return Err(format!("a tensor has {} dimensions", items.len()).into());
    }
    let numbers = items
        .iter()
        .map(|item| number(machine, *item))
        .collect::<Result<Vec<_>, _>>()?;
    machine.spend(numbers.len())?;
    Ok(numbers)
}
