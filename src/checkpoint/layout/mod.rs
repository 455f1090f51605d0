//! Where the tensors of a network are in a file, and what they are called there (docs/algorithms/weight_layouts.md).
//!
//! Everything here goes by names and shapes alone, for every kind of container.
//!
//! | file | what it holds |
//! |---|---|
//! | `network` | the networks, the tensors that they are found by, prefixes of files with several |
//! | `names` | the names of other tools, as tables |
//! | `foreign` | networks that look alike and are others |

mod error;
mod foreign;
mod names;
mod network;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::key_map::{MARKERS, guess_layout};

pub use error::LayoutError;
pub use names::Naming;
pub use network::Network;

use names::Stride;

/// A tensor that text encoders of ComfyUI carry their tokenizer in.
const SPIECE: &str = "spiece_model";

/// Prefixes that change nothing about which network it is.
const WRAPPERS: &[&str] = &["model.", "diffusion_model.", "model.diffusion_model.", "net.", "taehv."];

/// Names that a message lists.
const NAMED: usize = 5;

/// Name and shape of a tensor in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    pub(super) shape: &'a [usize],
}

/// Which tensors of a file are those of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub network: Network,
    pub naming: Naming,
    /// What stands before the names of the network, wrappers left out; empty or ending in a dot.
    pub prefix: String,
    /// Tensors by their names in the model: the name in the file.
    pub(super) tensors: BTreeMap<String, String>,
    /// The same tensor under a second name, which must hold the same: name in the model, name in the file.
    pub(super) twins: BTreeMap<String, String>,
    /// What describes other tensors: name in the model of the tensor that it would belong to, and what its name ends in.
    pub(super) sides: Vec<Side>,
    /// Tensors that are no part of the network, by their names in the file.
    pub(super) passed_over: Vec<String>,
    stride: Stride,
    /// Whether the prefix was chosen among several: what is outside of it is then meant to be left alone.
    picked: bool,
}

/// A tensor that says something of another one: `X.scale_weight` of `X.weight`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Side {
    /// `scale_weight`.
    pub(super) kind: &'static str,
    /// Name in the model of what it is about: `X.weight`. Empty for what is about the whole file.
    pub(super) of: String,
    /// Name in the file.
    pub(super) stored: String,
}

/// What the names of tensors end in that say something of `.weight` of the same module.
const SIDES: &[&str] = &[
    "scale_weight_tensor",
    "scale_weight",
    "weight_scale_2",
    "weight_scale",
    "scale_input",
    "input_scale",
    "comfy_quant",
    "weight_global_scale",
    "input_global_scale",
];

/// What is about the whole file.
pub(super) const OF_FILE: &str = "scaled_fp8";

impl Layout {
    /// Finds a network among the tensors of a file. `pick` is the beginning of the prefix to take where there are several.
    ///
    /// # Errors
    /// When the network is not in the file, or more than one is, or a name cannot be understood.
    pub(super) fn find(network: Network, entries: &[Entry<'_>], pick: Option<&str>) -> Result<Self, LayoutError> {
        let clean: Vec<(String, Entry<'_>)> = entries.iter().map(|entry| (bare(entry.name), *entry)).collect();
        foreign::refuse_names(network, clean.iter().map(|(name, _)| name.as_str()))?;
        let (prefix, picked) = prefix(network, &clean, pick)?;
        let own: Vec<(&str, Entry<'_>)> = clean
            .iter()
            .filter_map(|(name, entry)| Some((name.strip_prefix(&prefix)?, *entry)))
            .collect();
        let names: BTreeSet<&str> = own.iter().map(|(name, _)| *name).collect();
        let mut namings = network.namings().iter().copied();
        let naming = namings.find(|naming| naming.is_told_by(|name| names.contains(name)));
        let mut layout = Self {
            network,
            naming: naming.unwrap_or(Naming::Original),
            prefix,
            tensors: BTreeMap::new(),
            twins: BTreeMap::new(),
            sides: Vec::new(),
            passed_over: Vec::new(),
            stride: Stride::of(names.iter().copied()),
            picked,
        };
        layout.sort(&clean)?;
        foreign::refuse_shapes(&layout, entries)?;
        Ok(layout)
    }

    /// Puts every tensor of the file in its place.
    fn sort(&mut self, clean: &[(String, Entry<'_>)]) -> Result<(), LayoutError> {
        let mut outside = Vec::new();
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, entry) in clean {
            let stored = entry.name.to_string();
            if let Some(first) = seen.insert(name, entry.name) {
                return Err(LayoutError::SameTensor {
                    name: name.clone(),
                    first: first.into(),
                    second: stored,
                });
            }
            let of_another = self.network.is_of_another(name) || name.ends_with(SPIECE);
            match name.strip_prefix(&self.prefix) {
                _ if of_another => self.passed_over.push(stored),
                _ if name == OF_FILE => self.mark(stored),
                Some(OF_FILE) => self.mark(stored),
                Some(own) => self.place(own, stored)?,
                None => outside.push(stored),
            }
        }
        if self.picked {
            self.passed_over.append(&mut outside);
        }
        let Some(name) = outside.first() else { return Ok(()) };
        // The same tensor with and without the prefix is the worse of the two faults.
        let twice = outside.iter().find_map(|name| {
            let model = self.naming.to_model(&bare(name), self.stride)?;
            Some((self.tensors.get(&model)?.clone(), model, name.clone()))
        });
        Err(match twice {
            Some((first, name, second)) => LayoutError::SameTensor { name, first, second },
            None => LayoutError::Outside {
                network: self.network,
                prefix: self.prefix.clone(),
                name: name.clone(),
                count: outside.len(),
            },
        })
    }

    fn mark(&mut self, stored: String) {
        self.sides.push(Side {
            kind: OF_FILE,
            of: String::new(),
            stored,
        });
    }

    /// Places a tensor below the prefix.
    fn place(&mut self, own: &str, stored: String) -> Result<(), LayoutError> {
        if self.naming.is_beside(own) {
            self.passed_over.push(stored);
            return Ok(());
        }
        if let Some((kind, module)) = side(own) {
            let weight = format!("{module}.weight");
            self.sides.push(Side {
                kind,
                of: self.naming.to_model(&weight, self.stride).unwrap_or(weight),
                stored,
            });
            return Ok(());
        }
        let name = self
            .naming
            .to_model(own, self.stride)
            .unwrap_or_else(|| own.to_string());
        let Some(first) = self.tensors.get(&name) else {
            self.tensors.insert(name, stored);
            return Ok(());
        };
        // Whole T5 models tie the two.
        if self.naming == Naming::HuggingFace && name == "token_embedding.weight" && !self.twins.contains_key(&name) {
            self.twins.insert(name, stored);
            return Ok(());
        }
        Err(LayoutError::SameTensor {
            first: first.clone(),
            second: stored,
            name,
        })
    }

    /// The model's name of the weight of a module that the file calls so, with or without the prefix.
    pub(super) fn weight_of(&self, module: &str) -> Option<String> {
        let bare = bare(module);
        if self.network.is_of_another(&bare) {
            return None;
        }
        let own = bare.strip_prefix(&self.prefix).unwrap_or(&bare);
        self.naming.to_model(&format!("{own}.weight"), self.stride)
    }

    /// What the file calls a tensor of the model, there or not.
    pub(super) fn stored_name(&self, name: &str) -> String {
        match self.tensors.get(name) {
            Some(stored) => stored.clone(),
            None => {
                let own = self.naming.to_file(name, self.stride);
                format!("{}{}", self.prefix, own.as_deref().unwrap_or(name))
            }
        }
    }
}

/// Every network whose tensors are in a file, with its prefix.
pub(super) fn networks<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(Network, String)> {
    let names: Vec<String> = names.map(bare).collect();
    let found = Network::ALL.iter().flat_map(|network| {
        let prefixes = candidates(*network, names.iter().map(String::as_str));
        prefixes.into_iter().map(|prefix| (*network, prefix.to_string()))
    });
    found.collect()
}

/// A name without what wrappers of training put into it: some at any depth, data parallelism at the front.
fn bare(name: &str) -> String {
    let bare = MARKERS
        .iter()
        .fold(name.to_owned(), |name, marker| name.replace(marker, ""));
    let mut rest = bare.as_str();
    while let Some(inner) = rest.strip_prefix("module.") {
        rest = inner;
    }
    rest.into()
}

/// Kind and module of a name that says something of another tensor.
fn side(name: &str) -> Option<(&'static str, &str)> {
    SIDES.iter().find_map(|kind| {
        let module = name.strip_suffix(kind)?.strip_suffix('.')?;
        (!module.is_empty()).then_some((*kind, module))
    })
}

/// What stands before the names of a network, and whether it was chosen among several.
fn prefix(network: Network, clean: &[(String, Entry<'_>)], pick: Option<&str>) -> Result<(String, bool), LayoutError> {
    let names = || clean.iter().map(|(name, _)| name.as_str());
    let found = candidates(network, names());
    let picked = pick.and_then(|pick| {
        let of_it = |prefix: &&&str| prefix.strip_prefix(pick).is_some_and(|rest| rest.starts_with('.'));
        let mut matching = found.iter().filter(of_it);
        matching.next().filter(|_| matching.next().is_none())
    });
    match (picked, found.iter().collect::<Vec<_>>().as_slice()) {
        (_, [only]) => Ok((only.to_string(), false)),
        (Some(picked), _) => Ok((picked.to_string(), true)),
        (None, []) => Err(LayoutError::NotThere {
            network,
            names: first_names(clean),
            looks_like: guess_layout(names()).filter(|other| *other != network.words()),
        }),
        (None, several) => Err(
            nested(network, &found, names()).unwrap_or_else(|| LayoutError::Several {
                network,
                prefixes: several.iter().map(|prefix| prefix.to_string()).collect(),
            }),
        ),
    }
}

/// The error for a tensor that is there with and without a prefix.
fn nested<'a>(
    network: Network,
    found: &BTreeSet<&str>,
    mut names: impl Iterator<Item = &'a str>,
) -> Option<LayoutError> {
    let shortest = found.iter().min_by_key(|prefix| prefix.len())?;
    let wraps = |prefix: &&&str| {
        prefix
            .strip_prefix(shortest)
            .is_some_and(|rest| WRAPPERS.contains(&rest))
    };
    let inner = found.iter().find(wraps)?;
    let own = |name: &'a str| {
        network
            .anchors()
            .iter()
            .find(|anchor| name.strip_prefix(inner) == Some(anchor))
    };
    let (second, anchor) = names.find_map(|name| Some((name, own(name)?)))?;
    Some(LayoutError::SameTensor {
        name: (*anchor).into(),
        first: format!("{shortest}{anchor}"),
        second: second.into(),
    })
}

/// Every prefix under which a tensor stands that each file of the network has.
fn candidates<'a>(network: Network, names: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let of_anchor = |name: &'a str| {
        let prefixes = network.anchors().iter().filter_map(|anchor| name.strip_suffix(anchor));
        let mut whole = prefixes.filter(|prefix| prefix.is_empty() || prefix.ends_with('.'));
        whole.next()
    };
    let own = |prefix: &&str| {
        // The other half of a whole T5 has a table as well.
        let inner = prefix.trim_end_matches('.').rsplit('.').next();
        let other_half = network == Network::TextEncoder && inner == Some("decoder");
        !other_half && !network.is_of_another(prefix)
    };
    names.filter_map(of_anchor).filter(own).collect()
}

fn first_names(clean: &[(String, Entry<'_>)]) -> Vec<String> {
    let mut names: Vec<_> = clean.iter().map(|(_, entry)| entry.name.to_string()).collect();
    names.sort();
    // One more than is listed, so that the message says that there are more.
    names.truncate(NAMED + 1);
    names
}
