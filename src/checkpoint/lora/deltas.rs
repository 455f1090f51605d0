//! From the parts of a module to the changes of its tensors, with all shapes checked.

use std::collections::BTreeMap;

use candle_core::{DType, Device};

use super::{
    super::CheckpointError,
    Lora, LoraError,
    merge::{Delta, Factor, Form},
    names::{Modules, Part, Piece, Side},
};

/// Names of the tensors of a module.
pub(super) type Parts = BTreeMap<Part, String>;

/// What of a module is there without the rest: what it has, and what it lacks.
pub(super) fn incomplete(parts: &Parts) -> Option<(&'static str, &'static str)> {
    let has = |part: Part| parts.contains_key(&part);
    match (has(Part::Down), has(Part::Up)) {
        (true, false) => Some(("A (down)", "B (up)")),
        (false, true) => Some(("B (up)", "A (down)")),
        (false, false) if has(Part::Magnitude) => Some(("a magnitude", "pair of matrices")),
        _ if lacks_factor(parts, |part| matches!(part, Part::Kron(..)), Part::Kron) => {
            Some(("one factor of a LoKr", "other"))
        }
        _ if lacks_factor(parts, |part| matches!(part, Part::Hadamard(..)), Part::Hadamard) => {
            Some(("one factor of a LoHa", "other"))
        }
        _ if has(Part::Alpha) && parts.len() == 1 => Some(("an alpha", "pair of matrices")),
        _ => None,
    }
}

/// Whether there is one factor of a product of the kind and not the other.
fn lacks_factor(parts: &Parts, is_of_kind: fn(&Part) -> bool, make: fn(Side, Piece) -> Part) -> bool {
    let has = |side, piece| parts.contains_key(&make(side, piece));
    let factor = |side| has(side, Piece::Whole) || (has(side, Piece::A) && has(side, Piece::B));
    parts.keys().any(is_of_kind) && !(factor(Side::First) && factor(Side::Second))
}

/// A module of a file, and what the model calls it.
pub(super) struct Module<'a> {
    pub(super) lora: &'a Lora,
    pub(super) known: &'a Modules,
    /// Name in the file.
    pub(super) name: &'a str,
    /// Name in the model.
    pub(super) own: &'a str,
    pub(super) parts: &'a Parts,
    pub(super) strength: f64,
    /// Alpha where the file says none.
    pub(super) given: Option<f64>,
}

impl Module<'_> {
    /// Whether the model has all tensors that are changed.
    pub(super) fn has_targets(&self) -> bool {
        let mut parts = self.parts.keys().filter(|part| **part != Part::Alpha);
        parts.all(|part| self.known.target(self.own, *part).is_some())
    }

    /// The changes, with the names of the tensors that they are of.
    ///
    /// # Errors
    /// When shapes do not go together or do not fit the model, or alpha cannot be used.
    pub(super) fn deltas(&self) -> Result<Vec<(String, Delta)>, LoraError> {
        let mut deltas = Vec::new();
        let pair = (self.parts.get(&Part::Down), self.parts.get(&Part::Up));
        if let (Some(down), Some(up)) = pair {
            deltas.push(self.pair(down, up)?);
        }
        if let Some((first, second)) = self.factors(Part::Kron) {
            deltas.push(self.kron(first, second)?);
        }
        if let Some((first, second)) = self.factors(Part::Hadamard) {
            deltas.push(self.hadamard(first, second)?);
        }
        for part in [Part::Diff, Part::DiffBias, Part::DiffModulation] {
            if let Some(name) = self.parts.get(&part) {
                deltas.push(self.whole(part, name)?);
            }
        }
        Ok(deltas)
    }

    fn delta(&self, scale: f64, form: Form) -> Delta {
        Delta {
            file: self.lora.checkpoint.clone(),
            scale: self.strength * scale,
            form,
        }
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        self.lora.checkpoint.shape(name).unwrap_or_default()
    }

    /// A tensor as a matrix: dimensions behind the first count as one.
    fn matrix(&self, name: &str) -> [usize; 2] {
        let shape = self.shape(name);
        let rows = shape.first().copied().unwrap_or(1);
        [rows, shape.iter().skip(1).product()]
    }

    /// Name of the tensor that a part changes; its shape must go with that of the change.
    fn target(&self, part: Part, change: &[usize]) -> Result<String, LoraError> {
        let (name, weight) = self.known.target(self.own, part).unwrap_or_default();
        let fits = match part {
            Part::Diff | Part::DiffBias | Part::DiffModulation => {
                let without_ones =
                    |shape: &[usize]| shape.iter().copied().filter(|size| *size != 1).collect::<Vec<_>>();
                without_ones(change) == without_ones(weight)
            }
            _ => weight.len() > 1 && *change == [weight[0], weight[1..].iter().product()],
        };
        if fits {
            return Ok(name);
        }
        let of_14b = change.iter().any(|size| [5120, 13824].contains(size));
        Err(LoraError::Shape {
            path: self.lora.path.clone(),
            module: self.own.into(),
            change: change.into(),
            weight: weight.into(),
            hint: if of_14b { ": it is a LoRA for the 14B model" } else { "" },
        })
    }

    fn pair(&self, down: &str, up: &str) -> Result<(String, Delta), LoraError> {
        let rank = self.rank(down, up)?;
        let change = [self.matrix(up)[0], self.matrix(down)[1]];
        let target = self.target(Part::Up, &change)?;
        let scale = self.lora.alphas.scale(self.alpha(rank)?, rank);
        let (down, up) = (down.to_string(), up.to_string());
        let magnitude = self.parts.get(&Part::Magnitude).filter(|_| self.strength != 0.0);
        let Some(magnitude) = magnitude else {
            return Ok((target, self.delta(scale, Form::Pair { down, up })));
        };
        let lengths = self.shape(magnitude);
        if lengths.iter().product::<usize>() != change[0] {
            return Err(LoraError::Shape {
                path: self.lora.path.clone(),
                module: self.own.into(),
                change: lengths,
                weight: vec![change[0]],
                hint: " rows (magnitude of a DoRA)",
            });
        }
        if self.strength != 1.0 {
            return Err(LoraError::NormedStrength {
                path: self.lora.path.clone(),
                module: self.own.into(),
                strength: self.strength,
            });
        }
        let magnitude = magnitude.clone();
        Ok((target, self.delta(scale, Form::Normed { down, up, magnitude })))
    }

    fn whole(&self, part: Part, name: &str) -> Result<(String, Delta), LoraError> {
        let target = self.target(part, &self.shape(name))?;
        Ok((target, self.delta(1.0, Form::Whole(name.into()))))
    }

    /// The two factors of a product, if the module has them.
    fn factors(&self, make: fn(Side, Piece) -> Part) -> Option<(Factor, Factor)> {
        let get = |side, piece| self.parts.get(&make(side, piece)).cloned();
        let factor = |side| match (get(side, Piece::Whole), get(side, Piece::A), get(side, Piece::B)) {
            (Some(whole), ..) => Some(Factor::Whole(whole)),
            (None, Some(a), Some(b)) => Some(Factor::Product(a, b)),
            _ => None,
        };
        Some((factor(Side::First)?, factor(Side::Second)?))
    }

    fn kron(&self, first: Factor, second: Factor) -> Result<(String, Delta), LoraError> {
        let ((one, rank), (two, other_rank)) = (self.factor(&first)?, self.factor(&second)?);
        let change = [0, 1].map(|axis| one[axis].saturating_mul(two[axis]));
        let target = self.target(Part::Kron(Side::First, Piece::Whole), &change)?;
        // With both factors whole there is no rank; files hold any number as alpha then.
        let scale = match other_rank.or(rank) {
            Some(rank) => self.lora.alphas.scale(self.alpha(rank)?, rank),
            None => 1.0,
        };
        Ok((target, self.delta(scale, Form::Kron(first, second))))
    }

    fn hadamard(&self, first: Factor, second: Factor) -> Result<(String, Delta), LoraError> {
        let ((one, rank), (two, _)) = (self.factor(&first)?, self.factor(&second)?);
        let target = self.target(Part::Hadamard(Side::First, Piece::A), &one)?;
        self.target(Part::Hadamard(Side::Second, Piece::A), &two)?;
        let rank = rank.unwrap_or(1);
        let scale = self.lora.alphas.scale(self.alpha(rank)?, rank);
        Ok((target, self.delta(scale, Form::Hadamard(first, second))))
    }

    /// Shape of a factor, and the rank of one that is a product.
    fn factor(&self, factor: &Factor) -> Result<([usize; 2], Option<usize>), LoraError> {
        match factor {
            Factor::Whole(name) => Ok((self.matrix(name), None)),
            Factor::Product(a, b) => {
                let rank = self.rank(b, a)?;
                Ok(([self.matrix(a)[0], self.matrix(b)[1]], Some(rank)))
            }
        }
    }

    /// The rank of two matrices `[rank, in…]` and `[out, rank, 1…]`.
    fn rank(&self, down: &str, up: &str) -> Result<usize, LoraError> {
        let (down, up) = (self.shape(down), self.shape(up));
        match (&down[..], &up[..]) {
            ([rank, _, ..], [_, columns, ones @ ..])
                if rank == columns && *rank > 0 && ones.iter().all(|size| *size == 1) =>
            {
                Ok(*rank)
            }
            _ => Err(LoraError::Rank {
                path: self.lora.path.clone(),
                module: self.own.into(),
                down,
                up,
            }),
        }
    }

    /// What the file, its description or the caller says of alpha; the rank, so that the scale is 1, if nobody does.
    fn alpha(&self, rank: usize) -> Result<f64, LoraError> {
        let said = match self.parts.get(&Part::Alpha) {
            Some(name) => Some(self.number(name)?),
            None => self.lora.alphas.of_module(self.name),
        };
        Ok(said.or(self.given).unwrap_or(rank as f64))
    }

    /// A tensor of one number, of any type.
    fn number(&self, name: &str) -> Result<f64, LoraError> {
        let wrong = |value: String| LoraError::Alpha {
            path: self.lora.path.clone(),
            place: format!("tensor `{name}`"),
            value,
        };
        let count: usize = self.shape(name).iter().product();
        if count != 1 {
            return Err(wrong(format!("of {count} numbers")));
        }
        let value = match self.lora.checkpoint.tensor(name, DType::F64, &Device::Cpu) {
            Err(CheckpointError::NotFinite { .. }) => return Err(wrong("NaN or infinity".into())),
            value => value?,
        };
        let value = value.flatten_all().and_then(|value| value.to_vec1::<f64>());
        let value = value.map_err(|source| CheckpointError::Device {
            name: name.into(),
            source,
        })?;
        Ok(value.first().copied().unwrap_or(0.0))
    }
}
