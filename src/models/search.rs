//! Where in a folder the files of a model are, going by what they hold.
//!
//! The folders of diffusers pipelines, of ComfyUI, of the reference repositories, and folders with files in no order.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Needs, OwnFiles, Role, configs, own, published::FileNames};
use crate::{
    Error, Result,
    checkpoint::{Checkpoint, Network, model_files, networks_in, weights_in},
    vae::LATENT_CHANNELS,
};

/// Where the files of a kind are, the first that has any; in diffusers pipelines, ComfyUI, reference repositories.
const PLACES: &[(Role, &[&str])] = &[
    (
        Role::Transformer,
        &["transformer", "diffusion_models", "unet", "checkpoints", "."],
    ),
    (
        Role::TextEncoder,
        &["text_encoder", "text_encoders", "clip", REFERENCE, "checkpoints", "."],
    ),
    (Role::Vae, &["vae", REFERENCE, "checkpoints", "."]),
    (Role::TinyDecoder, &["vae_approx", "vae", "checkpoints", "."]),
];

/// Where the reference repositories have the files of Wan.
const REFERENCE: &str = "wan_models/Wan2.1-T2V-1.3B";

const TOKENIZERS: &[&str] = &[
    "tokenizer/tokenizer.json",
    "google/umt5-xxl/tokenizer.json",
    "wan_models/Wan2.1-T2V-1.3B/google/umt5-xxl/tokenizer.json",
    "text_encoders/tokenizer.json",
    "tokenizer.json",
];

/// Folders below a place that are looked into.
const MOST_FOLDERS: usize = 64;
/// Files that a message lists.
const NAMED: usize = 8;

/// The files of a model that are somewhere in a folder; `own` are those that need not be looked for.
///
/// # Errors
/// When a kind of file is there more than once, or the folder says that it holds another model.
pub(super) fn search(root: &Path, names: &FileNames, needs: Needs, own: &OwnFiles) -> Result<OwnFiles> {
    check_pipeline(root)?;
    let mut found = OwnFiles::default();
    let wanted = Role::ALL
        .iter()
        .filter(|role| !role.is_optional() && role.is_used(needs));
    for &role in wanted.filter(|role| !own.replaces(**role)) {
        let published = names.of(role).into_iter();
        let mut published = published.flat_map(|name| [root.join(name), root.join(REFERENCE).join(name)]);
        if let Some(path) = published.find(|path| path.is_file()) {
            found.add(role, path);
        } else if role == Role::Tokenizer {
            let mut there = TOKENIZERS.iter().map(|name| root.join(name));
            if let Some(path) = there.find(|path| path.is_file()) {
                found.add(role, path);
            }
        } else if let Some(path) = by_content(root, role)? {
            found.add(role, path);
        }
    }
    Ok(found)
}

/// The folder that the other files of a model are looked for in, beside one of its files.
pub(super) fn root_of(file: &Path) -> PathBuf {
    let folder = file.parent().unwrap_or(Path::new(""));
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let is_place = |folder: &Path| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        PLACES.iter().any(|(_, places)| places.contains(&name.as_ref()))
    };
    // Below a place there may be one more folder.
    let within = folder.ancestors().take(2).find(|folder| is_place(folder));
    within.and_then(Path::parent).unwrap_or(folder).into()
}

/// The transformer in a folder that is for transformers alone, `transformer/` of a pipeline, if it is the only one.
pub(super) fn transformer_of_place(folder: &Path) -> Option<PathBuf> {
    let name = folder.file_name()?.to_string_lossy();
    let is_place = ["transformer", "diffusion_models", "unet"].contains(&name.as_ref());
    weights_in(folder).ok().filter(|_| is_place && folder.is_dir())
}

/// The one file of a kind in the first place that has any.
fn by_content(root: &Path, role: Role) -> Result<Option<PathBuf>> {
    let Some((_, places)) = PLACES.iter().find(|(known, _)| *known == role) else {
        return Ok(None);
    };
    let mut others = Vec::new();
    for place in *places {
        let folder = root.join(place);
        if !folder.is_dir() {
            continue;
        }
        let mut fitting = Vec::new();
        for path in files_of(&folder, *place != ".")? {
            match judge(&path, role) {
                Judged::Fits => fitting.push(path),
                Judged::Another(reason) => others.push((path, reason)),
                Judged::SomethingElse => {}
            }
        }
        match fitting.as_slice() {
            [] => {}
            [one] => return Ok(Some(one.clone())),
            several => {
                return Err(Error::SeveralFiles {
                    folder,
                    role: role.words(),
                    files: several
                        .iter()
                        .take(NAMED)
                        .map(|path| format!("`{}`", path.display()))
                        .collect(),
                    flag: own::flag(role),
                });
            }
        }
    }
    match others.into_iter().next() {
        Some((_, reason)) if role == Role::Transformer => Err(reason),
        _ => Ok(None),
    }
}

/// What a file is for a kind.
enum Judged {
    Fits,
    /// A network of the kind that cannot be used, and why.
    Another(Error),
    SomethingElse,
}

fn judge(path: &Path, role: Role) -> Judged {
    let network = match role {
        Role::Transformer => Network::Transformer,
        Role::TextEncoder => Network::TextEncoder,
        Role::Vae => Network::Vae,
        Role::TinyDecoder => Network::TinyDecoder,
        Role::Config | Role::Tokenizer | Role::Lora | Role::ImageEncoder => return Judged::SomethingElse,
    };
    match networks_in(path) {
        Ok(found) if found.iter().any(|(known, _)| *known == network) => {}
        _ => return Judged::SomethingElse,
    }
    match Checkpoint::open_network(path, network, None) {
        Err(error) => Judged::Another(error.into()),
        Ok(file) if network == Network::Transformer => match other_transformer(&file) {
            Some(reason) => Judged::Another(Error::not_a_transformer(path.display().to_string(), reason)),
            None => Judged::Fits,
        },
        Ok(_) => Judged::Fits,
    }
}

/// Why a transformer is not one for text-to-video of the size that is run here, if it is not.
pub(super) fn other_transformer(file: &Checkpoint) -> Option<String> {
    let shape = file.shape("patch_embedding.weight").unwrap_or_default();
    let channels = shape.get(1).copied().unwrap_or_default();
    let names = file.names();
    let has = |part: &str| names.iter().any(|name| name.contains(part));
    if has("img_emb.") || has(".k_img.") || has(".add_k_proj.") || has("image_embedder.") {
        return Some("it is an image-to-video (I2V) model, which has further layers for the image; a text-to-video model is needed".into());
    }
    if has("vace_blocks.") {
        return Some("it is a VACE model, which has further blocks; a text-to-video model is needed".into());
    }
    if channels != LATENT_CHANNELS {
        return Some(format!(
            "it takes {channels} latent channels; a text-to-video model of Wan 2.1 has {LATENT_CHANNELS} (36 are image-to-video \
             models, 48 is Wan 2.2 TI2V)"
        ));
    }
    too_large(file)
}

/// Why a transformer is too large, if it is.
pub(super) fn too_large(file: &Checkpoint) -> Option<String> {
    let width = file.shape("patch_embedding.weight")?.first().copied()?;
    (width == 5120).then(|| "it is a 14B model (width 5120, 40 blocks); models of 1.3B are run here".to_string())
}

/// The model files in a folder and, if `below`, in the folders in it.
pub(super) fn files_of(folder: &Path, below: bool) -> Result<Vec<PathBuf>> {
    let mut files = model_files(folder)?;
    if below {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut folders: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        folders.sort();
        for folder in folders.into_iter().take(MOST_FOLDERS) {
            files.extend(model_files(&folder).unwrap_or_default());
        }
    }
    Ok(files)
}

/// Kinds of networks that the parts of a pipeline of Wan 2.1 are.
const PARTS: &[(&str, &[&str])] = &[("text_encoder", &["UMT5EncoderModel"]), ("vae", &["AutoencoderKLWan"])];

/// Refuses the folder of another pipeline, by its `model_index.json`.
fn check_pipeline(root: &Path) -> Result<()> {
    let path = root.join("model_index.json");
    let Some(index) = configs::read(&path)? else {
        return Ok(());
    };
    let other = |name: &'static str, told: String, found: &str| Error::OtherConfigWord {
        config: format!("`{}`", path.display()).into(),
        origin: root.display().to_string().into(),
        name,
        told: told.escape_debug().to_string().into(),
        found: found.into(),
    };
    let class = index.get("_class_name").and_then(Value::as_str).unwrap_or_default();
    let image = ["ImageToVideo", "VACE", "Animate"]
        .iter()
        .find(|word| class.contains(*word));
    if image.is_some() || (!class.is_empty() && !class.contains("Wan")) {
        return Err(other(
            "_class_name",
            class.into(),
            "expected to be a text-to-video pipeline of Wan",
        ));
    }
    let part = |name: &str| {
        let part = index.get(name)?.as_array()?.get(1)?.as_str()?;
        Some(part.to_string())
    };
    if let Some(second) = part("transformer_2") {
        return Err(other(
            "transformer_2",
            second,
            "expected to be absent: two transformers are Wan 2.2 A14B",
        ));
    }
    for (name, classes) in PARTS {
        if let Some(told) = part(name).filter(|told| !classes.contains(&told.as_str())) {
            return Err(other(name, told, &format!("expected to be {}", classes.join(" or "))));
        }
    }
    match part("transformer").filter(|told| !told.contains("Wan")) {
        Some(told) => Err(other("transformer", told, "expected to be a Wan transformer")),
        None => Ok(()),
    }
}

/// The kind of file that holds a network.
pub(super) fn role_of(network: Network) -> Role {
    match network {
        Network::Transformer => Role::Transformer,
        Network::TextEncoder => Role::TextEncoder,
        Network::Vae => Role::Vae,
        Network::TinyDecoder => Role::TinyDecoder,
    }
}

#[cfg(test)]
mod tests;
