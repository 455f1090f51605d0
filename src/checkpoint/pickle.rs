//! A pickle machine that can only rebuild state dicts.
//!
//! A pickle is a program: its opcodes push values, and `GLOBAL`/`REDUCE` name and call Python functions. This machine
//! builds plain values and a fixed set of objects of PyTorch ([`Global`]); every other name is refused and nothing is
//! ever executed. Values live in an arena and refer to each other by number, so that sharing, cycles and deep nesting
//! cost no more than the bytes that describe them, and nothing recurses.

use super::torch_objects::{self, Global, StorageRef, TensorRef};

/// Values that a pickle may create; a state dict of 1000 tensors takes some 20 000.
const MAX_VALUES: usize = 4_000_000;

/// Slots of the memo; numbers are given consecutively.
const MAX_MEMO: usize = MAX_VALUES;

/// Number of a value in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(u32);

/// A value that a pickle has built.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// Entries in order of insertion; of equal keys the last counts.
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(StorageRef),
    Tensor(TensorRef),
    /// Something harmless that is of no use here: bytes, sets, devices, integers of more than 64 bits.
    Other,
}

impl Value {
    /// What it is, for messages.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Str(_) => "a string",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Global(_) => "a class or function",
            Self::Storage(_) => "a tensor storage",
            Self::Tensor(_) => "a tensor",
            Self::Other => "an object",
        }
    }
}

/// Why a pickle was not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PickleError {
    /// It names a class or function outside of the known set: `module.name`.
    Forbidden(String),
    /// It is not a valid pickle, or breaks a limit.
    Invalid { at: usize, reason: String },
}

/// Everything that a pickle has built, and which value is the result.
pub(super) struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Loads a pickle of protocol 2 to 5.
    pub(super) fn load(bytes: &[u8]) -> Result<Self, PickleError> {
        let mut machine = Machine {
            bytes,
            at: 0,
            values: Vec::new(),
            budget: MAX_VALUES,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
        };
        loop {
            let at = machine.at;
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => {
                    return Ok(Self {
                        values: machine.values,
                        root,
                    });
                }
                Err(Stop::Forbidden(name)) => return Err(PickleError::Forbidden(name)),
                Err(Stop::Invalid(reason)) => return Err(PickleError::Invalid { at, reason }),
            }
        }
    }

    /// The result.
    pub(super) fn root(&self) -> &Value {
        self.value(self.root)
    }

    pub(super) fn value(&self, id: Id) -> &Value {
        self.values.get(id.0 as usize).unwrap_or(&Value::None)
    }

    /// Entries of a dict whose keys are strings.
    pub(super) fn entries<'a>(&'a self, dict: &'a Value) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let entries = if let Value::Dict(entries) = dict {
            entries.as_slice()
        } else {
            &[]
        };
        entries.iter().filter_map(|(key, value)| match self.value(*key) {
            Value::Str(key) => Some((key.as_str(), self.value(*value))),
            _ => None,
        })
    }
}

/// Why a step failed.
pub(super) enum Stop {
    Forbidden(String),
    Invalid(String),
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Invalid(reason)
    }
}

impl From<&str> for Stop {
    fn from(reason: &str) -> Self {
        Self::Invalid(reason.into())
    }
}

type Step<T> = Result<T, Stop>;

/// The machine while it runs.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    /// Values that may still be created.
    budget: usize,
    stack: Vec<Id>,
    /// Heights of the stack where marks were set.
    marks: Vec<usize>,
    memo: Vec<Option<Id>>,
}

impl<'a> Machine<'a> {
    /// Runs one opcode; gives the result at the end. Opcodes are those of Python's `pickletools`.
    #[rustfmt::skip] // one line per opcode
    fn step(&mut self) -> Step<Option<Id>> {
        match self.byte()? {
            b'.' => return self.pop().map(Some),
            0x80 => self.protocol()?,
            0x95 => { self.take(8)?; } // FRAME: a hint on sizes
            b'(' => self.set_mark()?,
            b'0' => self.pop_or_mark()?,
            b'1' => drop(self.pop_mark()?),
            b'2' => self.push_id(self.top()?)?,
            // Constants and numbers
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'J' => { let v = i32::from_le_bytes(self.array()?); self.push(Value::Int(v.into()))? }
            b'K' => { let v = self.byte()?; self.push(Value::Int(v.into()))? }
            b'M' => { let v = u16::from_le_bytes(self.array()?); self.push(Value::Int(v.into()))? }
            b'G' => { let v = f64::from_be_bytes(self.array()?); self.push(Value::Float(v))? }
            0x8a => { let length = self.length(1)?; self.long(length)? }
            0x8b => { let length = self.length(4)?; self.long(length)? }
            // Text and bytes
            b'X' => self.text(4)?,
            0x8c | b'U' => self.text(1)?,
            b'T' => self.text(4)?,
            0x8d => self.text(8)?,
            b'C' => self.opaque_bytes(1)?,
            b'B' => self.opaque_bytes(4)?,
            0x8e | 0x96 => self.opaque_bytes(8)?,
            // Containers
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b']' => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            0x8f => self.push(Value::Other)?, // EMPTY_SET
            0x91 => { self.pop_mark()?; self.push(Value::Other)? } // FROZENSET
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => { let items = self.pop_mark()?; self.push(Value::Tuple(items))? }
            b'l' => { let items = self.pop_mark()?; self.push(Value::List(items))? }
            b'd' => { let items = self.pop_mark()?; let entries = pairs(items)?; self.push(Value::Dict(entries))? }
            b'a' => { let item = self.pop()?; self.append(vec![item])? }
            b'e' => { let items = self.pop_mark()?; self.append(items)? }
            b's' => { let (value, key) = (self.pop()?, self.pop()?); self.set_items(vec![key, value])? }
            b'u' => { let items = self.pop_mark()?; self.set_items(items)? }
            0x90 => drop(self.pop_mark()?), // ADDITEMS of a set
            // Memo
            b'q' => { let slot = self.length(1)?; self.memoize(slot)? }
            b'r' => { let slot = self.length(4)?; self.memoize(slot)? }
            0x94 => self.memoize(self.memo.len())?,
            b'h' => { let slot = self.length(1)?; self.recall(slot)? }
            b'j' => { let slot = self.length(4)?; self.recall(slot)? }
            // Objects
            b'c' => { let (module, name) = (self.line()?, self.line()?); self.global(&module, &name)? }
            b'i' => { let (module, name) = (self.line()?, self.line()?); return Err(forbidden(&module, &name)) }
            0x93 => self.stack_global()?,
            b'R' => self.call()?,
            0x81 => self.call()?, // NEWOBJ: as REDUCE, of a class
            0x92 => { self.pop()?; self.call()? } // NEWOBJ_EX: with keyword arguments, which no known class needs
            b'b' => self.build()?,
            b'Q' => self.persistent()?,
            other => return Err(format!("opcode 0x{other:02x} is not part of a state dict").into()),
        }
        Ok(None)
    }

    // Reading the program

    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or("it ends too early")?;
        let bytes = self.bytes.get(self.at..end).ok_or("it ends too early")?;
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        self.take(N)?
            .first_chunk()
            .copied()
            .ok_or_else(|| "it ends too early".into())
    }

    fn byte(&mut self) -> Step<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// An unsigned little-endian number of so many bytes.
    fn length(&mut self, bytes: usize) -> Step<usize> {
        let value = self
            .take(bytes)?
            .iter()
            .rev()
            .fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        usize::try_from(value).map_err(|_| "a length is too large".into())
    }

    /// Text up to the end of the line (names of `GLOBAL`).
    fn line(&mut self) -> Step<String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|b| *b == b'\n').ok_or("it ends too early")?;
        let line = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(line)
    }

    fn protocol(&mut self) -> Step<()> {
        match self.byte()? {
            2..=5 => Ok(()),
            other => Err(format!("pickle protocol {other} is not supported").into()),
        }
    }

    // Values

    pub(super) fn value(&self, id: Id) -> &Value {
        self.values.get(id.0 as usize).unwrap_or(&Value::None)
    }

    /// Items of a tuple or list.
    pub(super) fn items(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// Counts work or memory that is not bounded by the length of the program.
    pub(super) fn spend(&mut self, values: usize) -> Step<()> {
        self.budget = self.budget.checked_sub(values).ok_or("it builds too many values")?;
        Ok(())
    }

    fn push(&mut self, value: Value) -> Step<()> {
        self.spend(1)?;
        let id = u32::try_from(self.values.len()).map_err(|_| "it builds too many values")?;
        self.values.push(value);
        self.stack.push(Id(id));
        Ok(())
    }

    fn push_id(&mut self, id: Id) -> Step<()> {
        self.spend(1)?;
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("it takes a value where there is none".into());
        }
        self.stack
            .pop()
            .ok_or_else(|| "it takes a value where there is none".into())
    }

    fn top(&self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = self.stack.get(floor..).and_then(<[Id]>::last);
        top.copied()
            .ok_or_else(|| "it takes a value where there is none".into())
    }

    fn set_mark(&mut self) -> Step<()> {
        self.spend(1)?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Values above the last mark, which is removed.
    fn pop_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or("it closes a group that was never opened")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn pop_or_mark(&mut self) -> Step<()> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn long(&mut self, length: usize) -> Step<()> {
        let bytes = self.take(length)?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        let value = match wide.get_mut(..bytes.len()) {
            Some(low) => {
                low.copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(wide))
            }
            None => Value::Other,
        };
        self.push(value)
    }

    fn text(&mut self, length_bytes: usize) -> Step<()> {
        let length = self.length(length_bytes)?;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.push(Value::Str(text))
    }

    fn opaque_bytes(&mut self, length_bytes: usize) -> Step<()> {
        let length = self.length(length_bytes)?;
        self.take(length)?;
        self.push(Value::Other)
    }

    fn tuple(&mut self, count: usize) -> Step<()> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items))
    }

    fn append(&mut self, items: Vec<Id>) -> Step<()> {
        let list = self.top()?;
        match self.values.get_mut(list.0 as usize) {
            Some(Value::List(list)) => list.extend(items),
            Some(Value::Other) => {}
            _ => return Err("it appends to something that is not a list".into()),
        }
        Ok(())
    }

    fn set_items(&mut self, items: Vec<Id>) -> Step<()> {
        let dict = self.top()?;
        match self.values.get_mut(dict.0 as usize) {
            Some(Value::Dict(entries)) => entries.extend(pairs(items)?),
            Some(Value::Other) => {}
            _ => return Err("it sets entries of something that is not a dict".into()),
        }
        Ok(())
    }

    fn memoize(&mut self, slot: usize) -> Step<()> {
        let top = self.top()?;
        if slot >= MAX_MEMO {
            return Err("it remembers too many values".into());
        }
        if slot >= self.memo.len() {
            // Slots come in order; a jump far ahead would cost memory for nothing.
            self.spend(slot - self.memo.len())?;
            self.memo.resize(slot + 1, None);
        }
        if let Some(entry) = self.memo.get_mut(slot) {
            *entry = Some(top);
        }
        Ok(())
    }

    fn recall(&mut self, slot: usize) -> Step<()> {
        let id = self
            .memo
            .get(slot)
            .copied()
            .flatten()
            .ok_or("it recalls a value that it never stored")?;
        self.push_id(id)
    }

    // Objects

    fn global(&mut self, module: &str, name: &str) -> Step<()> {
        let global = Global::find(module, name).ok_or_else(|| forbidden(module, name))?;
        self.push(Value::Global(global))
    }

    fn stack_global(&mut self) -> Step<()> {
        let (name, module) = (self.pop()?, self.pop()?);
        match (self.value(module), self.value(name)) {
            (Value::Str(module), Value::Str(name)) => {
                let (module, name) = (module.clone(), name.clone());
                self.global(&module, &name)
            }
            _ => Err("the name of a class is not text".into()),
        }
    }

    /// `BINPERSID`: the only things outside of the pickle are storages.
    fn persistent(&mut self) -> Step<()> {
        let id = self.pop()?;
        let storage = torch_objects::persistent(self, id)?;
        self.push(Value::Storage(storage))
    }

    /// `REDUCE`: calls a known function with a tuple of arguments.
    fn call(&mut self) -> Step<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Global(function) = self.value(function) else {
            return Err(format!("it calls {}", self.value(function).describe()).into());
        };
        let function = *function;
        let Value::Tuple(arguments) = self.value(arguments) else {
            return Err("the arguments of a call are not a tuple".into());
        };
        let count = arguments.len();
        let arguments = arguments.clone();
        self.spend(count)?;
        let value = torch_objects::call(self, function, &arguments)?;
        self.push(value)
    }

    /// `BUILD`: sets attributes, such as `_metadata` of a state dict. They are of no use here.
    fn build(&mut self) -> Step<()> {
        self.pop()?;
        match self.value(self.top()?) {
            Value::Dict(_) | Value::Tensor(_) | Value::Other => Ok(()),
            other => Err(format!("it sets attributes of {}", other.describe()).into()),
        }
    }
}

/// Refuses a name; what a stranger wrote is shortened and made printable.
fn forbidden(module: &str, name: &str) -> Stop {
    Stop::Forbidden(
        module
            .chars()
            .chain(['.'])
            .chain(name.chars())
            .take(200)
            .flat_map(char::escape_debug)
            .collect(),
    )
}

fn pairs(items: Vec<Id>) -> Step<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("a dict has a key without a value".into());
    }
    Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
}

#[cfg(test)]
mod tests;
