//! What a file holds, in words.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::Checkpoint;

/// A network in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Description {
    /// Whose names the tensors have: `wan`, `diffusers`.
    pub layout: &'static str,
    /// What stands before them.
    pub prefix: String,
    /// State dict of a `.pt` file that they are in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dict: Option<String>,
    pub tensors: usize,
    /// Numbers in all tensors.
    pub parameters: usize,
    /// Bytes in the file of each type of number.
    pub types: BTreeMap<&'static str, u64>,
    /// Tensors with scales.
    pub scaled: usize,
    /// Tensors beside the network that are not read.
    pub passed_over: usize,
}

impl Checkpoint {
    /// What the network in the file is, if it was opened as one ([`Checkpoint::open_network`]).
    pub fn describe(&self) -> Option<Description> {
        let layout = self.layout()?;
        let mut types = BTreeMap::new();
        for stored in self.tensors.values() {
            let bytes = types.entry(stored.element().name()).or_insert(0u64);
            *bytes = bytes.saturating_add(stored.bytes());
        }
        Some(Description {
            layout: layout.naming.name(),
            prefix: layout.prefix.clone(),
            state_dict: self.state_dict().map(str::to_string),
            tensors: self.tensors.len(),
            parameters: self.parameters(),
            types,
            scaled: self.tensors.values().filter(|stored| stored.is_scaled()).count(),
            passed_over: layout.passed_over.len(),
        })
    }
}

impl Description {
    /// Whether weights of 8 bits have no scales, as after a plain cast.
    pub fn is_plain_cast(&self) -> bool {
        self.scaled == 0 && self.types.keys().any(|name| name.starts_with("f8"))
    }
}

impl fmt::Display for Description {
    /// `825 tensors, bf16, in wan names under `model.``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut types: Vec<_> = self.types.iter().collect();
        types.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
        let types: Vec<_> = types.iter().map(|(name, _)| **name).collect();
        write!(f, "{} tensors, {}", self.tensors, types.join(" and "))?;
        match (self.scaled, self.is_plain_cast()) {
            (0, true) => write!(f, " (8-bit weights without scales)")?,
            (0, false) => {}
            (scaled, _) => write!(f, " ({scaled} with scales)")?,
        }
        write!(f, ", {} names", self.layout)?;
        if !self.prefix.is_empty() {
            write!(f, " under `{}`", self.prefix.escape_debug())?;
        }
        if let Some(key) = &self.state_dict {
            write!(f, ", state dict `{}`", key.escape_debug())?;
        }
        if self.passed_over > 0 {
            write!(f, ", {} other tensors in the file", self.passed_over)?;
        }
        Ok(())
    }
}
