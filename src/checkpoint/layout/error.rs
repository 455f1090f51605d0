//! Why a file's names are not those of a network.

use super::Network;

/// Names and prefixes that a message lists.
const NAMED: usize = 5;

/// Why a network's tensors cannot be found in a file by their names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// No tensor that every file of the network has.
    #[error(
        "it is not {}: {} is in it under any prefix; it holds {}{}",
        network.kind(),
        either(network.anchors()),
        listed(names),
        hint(*looks_like)
    )]
    NotThere {
        network: Network,
        /// The first names of the file.
        names: Vec<String>,
        looks_like: Option<&'static str>,
    },
    /// Several networks of the kind, as in training files.
    #[error(
        "it holds several networks with the tensors of {network}, under the prefixes {}; choose one by its beginning: \
         `state-dict = \"{}\"` under [files] in a preset (.toml) given with --preset",
        listed(prefixes),
        prefixes.first().map_or("", |prefix| prefix.split('.').next().unwrap_or_default())
    )]
    Several { network: Network, prefixes: Vec<String> },
    /// A name that belongs to nothing.
    #[error(
        "the tensors of {network} are under the prefix `{prefix}`, but `{name}`{} is not: the file holds more than this \
         network; save the network alone",
        more(*count)
    )]
    Outside {
        network: Network,
        prefix: String,
        name: String,
        /// Names of this sort.
        count: usize,
    },
    /// Two names that mean the same tensor.
    #[error("`{first}` and `{second}` are both the tensor `{name}`; the file mixes two models")]
    SameTensor {
        name: String,
        first: String,
        second: String,
    },
    /// The network is of another family.
    #[error("it is {found}: {reason}")]
    Foreign { found: &'static str, reason: &'static str },
}

fn either(anchors: &[&str]) -> String {
    let quoted: Vec<_> = anchors.iter().map(|anchor| format!("`{anchor}`")).collect();
    match quoted.as_slice() {
        [one] => format!("no tensor `{}`", one.trim_matches('`')),
        several => format!("none of {}", several.join(", ")),
    }
}

fn listed(names: &[String]) -> String {
    let quoted = names.iter().take(NAMED).map(|name| match name.as_str() {
        "" => "no prefix".into(),
        name => format!("`{}`", name.escape_debug()),
    });
    let listed = quoted.collect::<Vec<String>>().join(", ");
    if names.len() > NAMED { listed + ", …" } else { listed }
}

fn hint(looks_like: Option<&str>) -> String {
    match looks_like {
        Some(other) if other == super::super::LORA => format!(
            "; it looks like {other}, which is added to a model: give the model itself, and this file with --lora"
        ),
        Some(other) => format!("; it looks like {other}"),
        None => String::new(),
    }
}

fn more(count: usize) -> String {
    match count.saturating_sub(1) {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    }
}
