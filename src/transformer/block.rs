//! One transformer block: self-attention over the cache, cross-attention to the prompt or image, actions where it has a
//! module for them, feed-forward.

use candle_core::Tensor;

use super::{
    action::{ActionInputs, ActionModule},
    config::TransformerConfig,
    linear::Linear,
    observer::Observer,
};
use crate::{
    Result,
    cache::{ChunkTokens, FrameWindow, HeadGroup, KvCache, Pass, Place, rope::Angles},
    checkpoint::Weights,
    kernels,
};

/// Query, key, value and output projections with their norms; the same in self- and cross-attention.
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    norm_q: Tensor,
    norm_k: Tensor,
    heads: usize,
    eps: f32,
}

impl Attention {
    fn new(config: &TransformerConfig, weights: Weights) -> Result<Self> {
        let dim = config.dim;
        let linear = |name| Linear::new(dim, dim, weights.pp(name));
        Ok(Self {
            q: linear("q")?,
            k: linear("k")?,
            v: linear("v")?,
            o: linear("o")?,
            norm_q: weights.get([dim], "norm_q.weight")?,
            norm_k: weights.get([dim], "norm_k.weight")?,
            heads: config.heads,
            eps: config.eps as f32,
        })
    }

    /// `[tokens, dim]` to `[tokens, heads, head_dim]`.
    fn split(&self, x: &Tensor) -> Result<Tensor> {
        let (tokens, dim) = x.dims2()?;
        Ok(x.reshape((tokens, self.heads, dim / self.heads))?)
    }

    /// Queries after their norm over the whole width.
    fn queries(&self, x: &Tensor) -> Result<Tensor> {
        Ok(kernels::rms_norm(&self.q.forward(x)?, &self.norm_q, self.eps)?)
    }

    /// Keys after their norm over the whole width.
    fn keys(&self, x: &Tensor) -> Result<Tensor> {
        Ok(kernels::rms_norm(&self.k.forward(x)?, &self.norm_k, self.eps)?)
    }

    fn scale(&self) -> f64 {
        let dim = self.norm_q.elem_count() / self.heads;
        1.0 / (dim as f64).sqrt()
    }
}

/// Keys and values of the prompt or image for one block, `[rows, heads, head_dim]`: computed once per prompt.
#[derive(Clone)]
pub struct CrossAttentionTokens {
    pub keys: Tensor,
    pub values: Tensor,
}

/// How much of a forward pass is wanted of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    Full,
    /// Only the cache is to be written: what follows the keys and values is not computed.
    CacheOnly,
}

/// What self-attention attends to.
pub(super) enum Context<'a> {
    /// The cache, into which the chunk is written.
    Cached { cache: &'a mut KvCache, pass: Pass },
    /// The cache, which is written anew from frames that need not follow each other.
    Rewritten {
        cache: &'a mut KvCache,
        pass: Pass,
        places: &'a [Place],
    },
    /// All tokens of the input (bidirectional model).
    Whole,
}

impl Context<'_> {
    /// Position of the first latent frame.
    pub(super) fn start(&self) -> u64 {
        match self {
            Self::Cached { pass, .. } | Self::Rewritten { pass, .. } => pass.start,
            Self::Whole => 0,
        }
    }

    /// The pass, and the caches of a block's action module.
    fn frame_windows(&mut self, block: usize) -> Result<(Pass, &mut [FrameWindow])> {
        match self {
            Self::Cached { cache, pass } => Ok((*pass, cache.frame_windows_mut(block))),
            Self::Rewritten { .. } => Err(crate::Error::Recache {
                reason: "keys and values of actions belong to the passes that made them".into(),
            }),
            Self::Whole => Err(crate::Error::NoActionCache),
        }
    }

    /// Rotation of the input's `frames` latent frames in layer `layer`, where its heads do not rotate alike.
    pub(super) fn head_angles(&self, layer: usize, frames: usize) -> Result<Option<Angles>> {
        match self {
            Self::Cached { cache, pass } => {
                let places = pass.position..pass.position + frames as i64;
                cache.head_angles(layer, places)
            }
            Self::Rewritten { cache, places, .. } => {
                cache.head_angles(layer, places.iter().map(|place| place.position))
            }
            Self::Whole => Ok(None),
        }
    }

    /// The groups of heads of layer `layer` that attend to different keys, where they do.
    fn head_groups(&self, layer: usize) -> Result<Option<Vec<HeadGroup>>> {
        match self {
            Self::Cached { cache, pass } => cache.head_groups(layer, *pass),
            Self::Rewritten { .. } | Self::Whole => Ok(None),
        }
    }

    /// After the last block.
    pub(super) fn end_pass(&mut self) -> Result<()> {
        match self {
            Self::Cached { cache, .. } | Self::Rewritten { cache, .. } => cache.end_pass(),
            Self::Whole => Ok(()),
        }
    }
}

/// What a block is told beside its input.
pub(super) struct Conditioning<'a> {
    /// e0 of the timesteps, `[frames or 1, 6, dim]`.
    pub modulation: &'a Tensor,
    /// Rotation of the input's tokens.
    pub angles: &'a Angles,
    /// The prompt or image, as this block sees it.
    pub prompt: &'a CrossAttentionTokens,
    /// For blocks with an action module.
    pub actions: Option<&'a ActionInputs>,
}

pub(super) struct Block {
    modulation: Tensor,
    self_attn: Attention,
    norm3: (Tensor, Tensor),
    cross_attn: Attention,
    action: Option<ActionModule>,
    ffn_in: Linear,
    ffn_out: Linear,
    eps: f64,
    index: usize,
}

impl Block {
    pub(super) fn new(config: &TransformerConfig, index: usize, weights: Weights) -> Result<Self> {
        let (dim, ffn) = (config.dim, config.ffn_dim);
        Ok(Self {
            modulation: weights.get([1, 6, dim], "modulation")?,
            self_attn: Attention::new(config, weights.pp("self_attn"))?,
            norm3: (weights.get([dim], "norm3.weight")?, weights.get([dim], "norm3.bias")?),
            cross_attn: Attention::new(config, weights.pp("cross_attn"))?,
            action: match &config.actions {
                Some(actions) if actions.blocks.contains(&index) => {
                    Some(ActionModule::new(actions, dim, &weights.pp("action_model"))?)
                }
                _ => None,
            },
            ffn_in: Linear::new(dim, ffn, weights.pp("ffn.0"))?,
            ffn_out: Linear::new(ffn, dim, weights.pp("ffn.2"))?,
            eps: config.eps,
            index,
        })
    }

    /// Keys and values of the prompt or image `[rows, dim]` (after its embedding).
    pub(super) fn cross_tokens(&self, text: &Tensor) -> Result<CrossAttentionTokens> {
        let attention = &self.cross_attn;
        Ok(CrossAttentionTokens {
            keys: attention.split(&attention.keys(text)?)?,
            values: attention.split(&attention.v.forward(text)?)?,
        })
    }

    /// `x` is `[tokens, dim]`. `None` when `depth` asks for no output.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        conditioning: &Conditioning<'_>,
        context: &mut Context<'_>,
        depth: Depth,
        observer: &mut Observer<'_>,
    ) -> Result<Option<Tensor>> {
        let Conditioning {
            modulation,
            angles,
            prompt,
            actions,
        } = *conditioning;
        let modulation = modulation.broadcast_add(&self.modulation)?;
        let row = |i: usize| modulation.narrow(1, i, 1)?.squeeze(1)?.contiguous();
        let (shift, scale, gate) = (row(0)?, row(1)?, row(2)?);

        observer.block(self.index, "norm1", || plain_norm(x, self.eps));
        let z = kernels::modulated_norm(x, &scale, &shift, self.eps)?;
        // An action module has a cache of its own, behind the attention.
        let attended = if self.action.is_some() { Depth::Full } else { depth };
        let Some(y) = self.self_attention(&z, angles, context, attended, observer)? else {
            return Ok(None);
        };
        let x = kernels::gated_residual(x, &y, &gate)?;

        let z = kernels::layer_norm(&x, &self.norm3.0, &self.norm3.1, self.eps as f32)?;
        observer.block(self.index, "norm3", || Ok(z.clone()));
        let mut x = (x + self.cross_attention(&z, prompt, observer)?)?;
        if let Some(action) = &self.action {
            let (pass, windows) = context.frame_windows(self.index)?;
            let actions = actions.ok_or(crate::Error::NoActions)?;
            x = action.forward(&x, actions, pass, windows)?;
            observer.block(self.index, "action", || Ok(x.clone()));
            if depth == Depth::CacheOnly {
                return Ok(None);
            }
        }

        let (shift, scale, gate) = (row(3)?, row(4)?, row(5)?);
        observer.block(self.index, "norm2", || plain_norm(&x, self.eps));
        let z = kernels::modulated_norm(&x, &scale, &shift, self.eps)?;
        let hidden = self.ffn_in.forward_gelu(&z)?;
        let y = self.ffn_out.forward(&hidden)?;
        observer.block(self.index, "ffn", || Ok(y.clone()));
        Ok(Some(kernels::gated_residual(&x, &y, &gate)?))
    }

    fn self_attention(
        &self,
        z: &Tensor,
        angles: &Angles,
        context: &mut Context<'_>,
        depth: Depth,
        observer: &mut Observer<'_>,
    ) -> Result<Option<Tensor>> {
        let attention = &self.self_attn;
        observer.block(self.index, "self_attn.q", || attention.q.forward(z));
        let (queries, keys) = (attention.queries(z)?, attention.keys(z)?);
        let values = attention.v.forward(z)?;
        observer.block(self.index, "self_attn.norm_q", || Ok(queries.clone()));
        observer.block(self.index, "self_attn.norm_k", || Ok(keys.clone()));
        observer.block(self.index, "self_attn.v", || Ok(values.clone()));
        let (queries, keys, values) = (
            attention.split(&queries)?,
            attention.split(&keys)?,
            attention.split(&values)?,
        );
        let queries = kernels::rotate(&queries, &angles.cos, &angles.sin)?;
        let rotated = kernels::rotate(&keys, &angles.cos, &angles.sin)?;
        let (all_keys, all_values) = match context {
            Context::Whole => (rotated, values),
            Context::Cached { cache, pass } | Context::Rewritten { cache, pass, .. } => cache.update(
                self.index,
                *pass,
                ChunkTokens {
                    queries: &queries,
                    keys: &keys,
                    rotated: &rotated,
                    values: &values,
                },
            )?,
        };
        if depth == Depth::CacheOnly {
            return Ok(None);
        }
        let out = match context.head_groups(self.index)? {
            None => kernels::attention(&queries, &all_keys, &all_values, attention.scale())?,
            Some(groups) => attend_in_groups(&queries, &groups, attention.scale())?,
        };
        let out = attention.o.forward(&out.flatten_from(1)?)?;
        observer.block(self.index, "self_attn", || Ok(out.clone()));
        Ok(Some(out))
    }

    fn cross_attention(
        &self,
        z: &Tensor,
        prompt: &CrossAttentionTokens,
        observer: &mut Observer<'_>,
    ) -> Result<Tensor> {
        let attention = &self.cross_attn;
        let queries = attention.split(&attention.queries(z)?)?;
        let out = kernels::attention(&queries, &prompt.keys, &prompt.values, attention.scale())?;
        let out = attention.o.forward(&out.flatten_from(1)?)?;
        observer.block(self.index, "cross_attn", || Ok(out.clone()));
        Ok(out)
    }
}

/// Attention of each group of heads to its keys; `[tokens, heads, head_dim]`, heads in their order.
fn attend_in_groups(queries: &Tensor, groups: &[HeadGroup], scale: f64) -> Result<Tensor> {
    let order: Vec<u32> = groups.iter().flat_map(|group| group.heads.iter().copied()).collect();
    let attend = |group: &HeadGroup| -> Result<Tensor> {
        let heads = Tensor::new(group.heads.as_slice(), queries.device())?;
        let queries = queries.index_select(&heads, 1)?;
        Ok(kernels::attention(&queries, &group.keys, &group.values, scale)?)
    };
    let out = Tensor::cat(&groups.iter().map(attend).collect::<Result<Vec<_>>>()?, 1)?;
    let mut places = vec![0u32; order.len()];
    for (place, head) in (0..).zip(order) {
        places[head as usize] = place;
    }
    Ok(out
        .contiguous()?
        .index_select(&Tensor::new(places, queries.device())?, 1)?)
}

/// LayerNorm without parameters, as an observer wants to see it.
fn plain_norm(x: &Tensor, eps: f64) -> Result<Tensor> {
    let zeros = Tensor::zeros((1, x.dim(1)?), x.dtype(), x.device())?;
    Ok(kernels::modulated_norm(x, &zeros, &zeros, eps)?)
}
