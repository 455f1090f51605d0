//! Exact comparison of a file with what a model expects.

use std::{collections::BTreeMap, fmt};

use super::{Checkpoint, CheckpointError, TensorSpec, key_map::guess_layout};

/// How many tensors of each sort a message names.
const NAMED: usize = 10;

/// All differences between the tensors of a file and those of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The file.
    pub origin: String,
    /// Number of tensors the model expects.
    pub expected: usize,
    /// Number of tensors in the file.
    pub found: usize,
    /// Expected, but not in the file.
    pub missing: Vec<String>,
    /// In the file, but not expected.
    pub unexpected: Vec<String>,
    /// Name, shape in the file, expected shape.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// What the file itself calls the missing tensors, where that is something else.
    pub stored_names: BTreeMap<String, String>,
    /// What the file looks like, if that is something else than the model.
    pub hint: Option<String>,
}

impl Checkpoint {
    /// Which model the file looks like, judged by the names of its tensors: `a Wan VAE`.
    pub fn looks_like(&self) -> Option<&'static str> {
        guess_layout(self.names().iter().map(String::as_str))
    }

    /// What the file itself calls a tensor of the model.
    pub fn stored_name(&self, name: &str) -> String {
        match self.layout() {
            Some(layout) => layout.stored_name(name),
            None => name.into(),
        }
    }

    fn stored_names(&self, names: &[String]) -> BTreeMap<String, String> {
        let names = names.iter().map(|name| (name.clone(), self.stored_name(name)));
        names.filter(|(name, stored)| name != stored).collect()
    }

    /// Refuses the file unless it holds exactly the `expected` names and shapes.
    ///
    /// Tensors of the file whose names start with one of the `ignore` prefixes may be there or not, in any shape
    /// (example: `encoder.` and `conv1.` when only the decoder of the VAE is used).
    ///
    /// # Errors
    /// [`CheckpointError::Mismatch`] with everything that is missing, unexpected or mis-shaped.
    pub fn require(&self, expected: &[TensorSpec], ignore: &[&str]) -> Result<(), CheckpointError> {
        let ignored = |name: &str| ignore.iter().any(|prefix| name.starts_with(prefix));
        let wanted: BTreeMap<&str, &[usize]> = expected.iter().map(|t| (t.name.as_str(), t.shape.as_slice())).collect();
        let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
        for (name, shape) in wanted.iter().filter(|(name, _)| !ignored(name)) {
            match self.shape(name) {
                None => missing.push((*name).to_string()),
                Some(found) if found != *shape => misshapen.push(((*name).to_string(), found, shape.to_vec())),
                Some(_) => {}
            }
        }
        let names = self.names();
        let unexpected: Vec<_> = names
            .iter()
            .filter(|name| !wanted.contains_key(name.as_str()) && !ignored(name))
            .cloned()
            .collect();
        if missing.is_empty() && misshapen.is_empty() && unexpected.is_empty() {
            return Ok(());
        }
        let looks_like = guess_layout(names.iter().map(String::as_str));
        let model = guess_layout(wanted.keys().copied());
        let hint = match (looks_like, model) {
            (Some(file), Some(model)) if file != model => Some(format!("it looks like {file}, not like {model}")),
            (Some(file), None) => Some(format!("it looks like {file}")),
            _ => None,
        };
        Err(CheckpointError::Mismatch(Box::new(Mismatch {
            origin: self.path().display().to_string(),
            expected: wanted.len(),
            found: names.len(),
            stored_names: self.stored_names(&missing),
            missing,
            unexpected: unexpected.iter().map(|name| self.stored_name(name)).collect(),
            misshapen,
            hint,
        })))
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` does not fit the model: it holds {} tensors, the model has {}",
            self.origin, self.found, self.expected
        )?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        list(f, "missing", &self.missing, |name| match self.stored_names.get(name) {
            Some(stored) => format!("`{name}` (as the file names it: `{stored}`)"),
            None => format!("`{name}`"),
        })?;
        list(f, "unexpected", &self.unexpected, |name| format!("`{name}`"))?;
        list(f, "mis-shaped", &self.misshapen, |(name, found, expected)| {
            format!("`{name}` has shape {found:?}, expected {expected:?}")
        })?;
        write!(
            f,
            "\n  use the file that belongs to this model, or the preset that belongs to this file"
        )
    }
}

impl std::error::Error for Mismatch {}

fn list<T>(f: &mut fmt::Formatter<'_>, what: &str, items: &[T], show: impl Fn(&T) -> String) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = items.iter().take(NAMED).map(show).collect();
    write!(f, "\n  {} {what}: {}", items.len(), shown.join(", "))?;
    match items.len().saturating_sub(NAMED) {
        0 => Ok(()),
        more => write!(f, ", … and {more} more"),
    }
}
