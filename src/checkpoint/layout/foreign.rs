//! Networks whose tensors look like those of a Wan model and are others, by a sign that only they have.

use super::{Entry, Layout, LayoutError, Network};

/// Refuses what names alone tell.
pub(super) fn refuse_names<'a>(
    network: Network,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), LayoutError> {
    let has = |ending: &str| names.clone().any(|name| name.ends_with(ending));
    if network == Network::TinyDecoder && has("decoder.1.conv.0.weight") && !has("decoder.1.weight") {
        return Err(LayoutError::Foreign {
            found: "a \"super\" variant of the tiny decoder (depth-wise 7×7 convolutions)",
            reason: "these are not supported; use taew2_1.pth or taew2_1.safetensors",
        });
    }
    Ok(())
}

/// Refuses what the tensors of the network tell.
pub(super) fn refuse_shapes(layout: &Layout, entries: &[Entry<'_>]) -> Result<(), LayoutError> {
    let shape = |name: &str| {
        let stored = layout.tensors.get(name)?;
        let entry = entries.iter().find(|entry| entry.name == stored)?;
        Some(entry.shape)
    };
    let has = |name: String| layout.tensors.contains_key(&name);
    let latents = |name: &str| shape(name).and_then(|shape| shape.get(1).copied());
    match layout.network {
        Network::TextEncoder => {
            let bias = |block: usize| has(format!("blocks.{block}.pos_embedding.embedding.weight"));
            let block = |block: usize| has(format!("blocks.{block}.attn.q.weight"));
            if block(1) && bias(0) && !(1..).take_while(|at| block(*at)).any(bias) {
                return Err(LayoutError::Foreign {
                    found: "a T5 v1.1 text encoder (as FLUX and Stable Diffusion 3 have)",
                    reason: "only its block 0 has relative positions (`relative_attention_bias`), those of the blocks from 1 \
                             on are missing; Wan models need UMT5-XXL, whose every block has its own",
                });
            }
        }
        Network::Vae if latents("decoder.conv1.weight") == Some(48) => {
            return Err(LayoutError::Foreign {
                found: "the VAE of Wan 2.2 TI2V (48 latent channels)",
                reason: "models of Wan 2.1 need the VAE of Wan 2.1 (16 channels), Wan2.1_VAE.pth or wan_2.1_vae.safetensors",
            });
        }
        Network::TinyDecoder if latents("decoder.1.weight") == Some(48) => {
            return Err(LayoutError::Foreign {
                found: "the tiny decoder of Wan 2.2 (48 latent channels)",
                reason: "models of Wan 2.1 need taew2_1.pth (16 channels)",
            });
        }
        _ => {}
    }
    Ok(())
}
