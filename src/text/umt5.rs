//! The UMT5 encoder: T5 with one table of relative positions per block.
//!
//! The XXL model has 5.7 billion parameters and is used once per run, so no weights are kept: [`Umt5::encode`] reads the
//! rows of the embedding that the prompts need and then one block after the other, for all prompts together.

use candle_core::{D, DType, Device, Module, Tensor};
use candle_nn::ops;
use candle_transformers::models::with_tracing::Linear;

use super::{TextError, TokenizedPrompt};
use crate::{
    Result,
    checkpoint::{CheckpointError, TensorSpec, Weights},
    kernels,
};

const EPSILON: f32 = 1e-6;
const EMBEDDING: &str = "token_embedding.weight";
const POSITIONS: &str = "pos_embedding.embedding.weight";

/// Called with the name of an intermediate result (`block3.attn`) and its value.
pub type Observer<'a> = &'a mut dyn FnMut(&str, &Tensor);

/// Sizes of an encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Umt5Config {
    /// Rows of the token embedding.
    pub vocab: usize,
    /// Width of the residual stream and of the result.
    pub dim: usize,
    /// Width of queries, keys and values, all heads together.
    pub attention_dim: usize,
    /// Width inside the feed-forward layer.
    pub ffn_dim: usize,
    pub heads: usize,
    pub layers: usize,
    /// Rows of the relative-position tables.
    pub buckets: usize,
    /// Distance (tokens) from which on all positions share a bucket.
    pub max_distance: usize,
}

impl Umt5Config {
    /// UMT5-XXL, the text encoder of Wan2.1.
    pub fn xxl() -> Self {
        Self {
            vocab: 256_384,
            dim: 4096,
            attention_dim: 4096,
            ffn_dim: 10_240,
            heads: 64,
            layers: 24,
            buckets: 32,
            max_distance: 128,
        }
    }

    /// Reads the sizes off the shapes of the tensors.
    ///
    /// # Errors
    /// When a tensor that tells a size is missing or the sizes contradict each other.
    pub fn infer(weights: &Weights) -> Result<Self> {
        let origin = weights.origin();
        let matrix = |name: &str| match weights.shape(name).as_deref() {
            Some(&[rows, columns]) => Ok((rows, columns)),
            Some(other) => Err(TextError::NotUmt5 {
                origin: origin.clone(),
                reason: format!("tensor `{name}` has shape {other:?}, expected two dimensions"),
            }),
            None => Err(TextError::NotUmt5 {
                origin: origin.clone(),
                reason: format!("it has no tensor `{name}`"),
            }),
        };
        let (vocab, dim) = matrix(EMBEDDING)?;
        let (attention_dim, _) = matrix("blocks.0.attn.q.weight")?;
        let (ffn_dim, _) = matrix("blocks.0.ffn.fc1.weight")?;
        let (buckets, heads) = matrix(&format!("blocks.0.{POSITIONS}"))?;
        let layers = (1..)
            .find(|n| !weights.contains(&format!("blocks.{n}.norm1.weight")))
            .unwrap_or(1);
        let config = Self {
            vocab,
            dim,
            attention_dim,
            ffn_dim,
            heads,
            layers,
            buckets,
            max_distance: 128,
        };
        if heads == 0 || attention_dim % heads != 0 || buckets < 4 || !buckets.is_multiple_of(4) {
            let reason =
                format!("attention of width {attention_dim} with {heads} heads and {buckets} position buckets");
            return Err(TextError::NotUmt5 { origin, reason }.into());
        }
        Ok(config)
    }
}

/// Token ids as the encoder takes them: `ids` of any length of which the first `keys` are attended to.
#[derive(Debug, Clone, Copy)]
pub struct Sequence<'a> {
    pub ids: &'a [u32],
    /// Length of the prompt including its end token; padding after it never influences it.
    pub keys: usize,
}

/// The encoder, over weights that are read when needed.
pub struct Umt5 {
    weights: Weights,
    config: Umt5Config,
}

impl Umt5 {
    /// Takes a model of any size.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape; no data is read.
    pub fn new(weights: Weights) -> Result<Self> {
        let config = Umt5Config::infer(&weights)?;
        for TensorSpec { name, shape } in Self::expected_tensors(&config)? {
            let origin = weights.origin();
            match weights.shape(&name) {
                None => return Err(CheckpointError::Missing { name, origin }.into()),
                Some(found) if found != shape => {
                    return Err(CheckpointError::Shape {
                        name,
                        origin,
                        found,
                        expected: shape,
                    }
                    .into());
                }
                Some(_) => {}
            }
        }
        Ok(Self { weights, config })
    }

    /// Names and shapes of all tensors of a model, sorted by name.
    ///
    /// # Errors
    /// Never for sizes that fit each other.
    pub fn expected_tensors(config: &Umt5Config) -> Result<Vec<TensorSpec>> {
        let recorder = Weights::recorder();
        recorder.get([config.vocab, config.dim], EMBEDDING)?;
        for layer in 0..config.layers {
            Block::new(&recorder.pp("blocks").pp(layer), config)?;
        }
        final_norm(&recorder, config)?;
        Ok(recorder.recorded())
    }

    /// The sizes.
    pub fn config(&self) -> &Umt5Config {
        &self.config
    }

    /// Embeds prompts: each `[text_len, dim]` in f32, zero after the prompt.
    ///
    /// # Errors
    /// When a prompt does not fit, a token id is outside the vocabulary, or weights cannot be read.
    pub fn encode(&self, prompts: &[&TokenizedPrompt], text_len: usize) -> Result<Vec<Tensor>> {
        let sequences: Vec<_> = prompts
            .iter()
            .map(|p| Sequence {
                ids: &p.ids,
                keys: p.ids.len(),
            })
            .collect();
        self.encode_with(&sequences, text_len, None)
    }

    /// As [`Umt5::encode`], also for padded sequences, and shows intermediate results.
    ///
    /// Per sequence in order the observer gets `token_embedding`, per block `blockN.{pos_bias, norm1, attn, norm2, ffn,
    /// out}` and last `norm`: `[ids, dim]`, the bias `[heads, ids, ids]`; rows of padding are not zeroed there.
    ///
    /// # Errors
    /// As [`Umt5::encode`].
    pub fn encode_with(
        &self,
        sequences: &[Sequence],
        text_len: usize,
        mut observer: Option<Observer>,
    ) -> Result<Vec<Tensor>> {
        let config = &self.config;
        let mut states = Vec::with_capacity(sequences.len());
        let mut buckets = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            let x = self.embed_tokens(sequence, text_len)?;
            show(&mut observer, None, "token_embedding", &x);
            states.push(x);
            buckets.push(position_buckets(sequence.ids.len(), config, self.weights.device())?);
        }
        for layer in 0..config.layers {
            let block = Block::new(&self.weights.pp("blocks").pp(layer), config)?;
            for ((x, sequence), buckets) in states.iter_mut().zip(sequences).zip(&buckets) {
                let mut show = |name: &str, value: &Tensor| show(&mut observer, Some(layer), name, value);
                *x = block.forward(x, buckets, sequence.keys, &mut show)?;
            }
        }
        let norm = final_norm(&self.weights, config)?;
        let finish = |(x, sequence): (Tensor, &Sequence)| {
            let x = ops::rms_norm(&x, &norm, EPSILON)?;
            show(&mut observer, None, "norm", &x);
            Ok(x.narrow(0, 0, sequence.keys)?
                .pad_with_zeros(0, 0, text_len - sequence.keys)?)
        };
        states.into_iter().zip(sequences).map(finish).collect()
    }

    /// Rows of the embedding matrix, `[ids, dim]`.
    fn embed_tokens(&self, sequence: &Sequence, text_len: usize) -> Result<Tensor> {
        let Sequence { ids, keys } = *sequence;
        if keys > ids.len() || ids.len() > text_len || keys == 0 {
            return Err(TextError::Length {
                tokens: if keys == 0 { 0 } else { keys.max(ids.len()) },
                text_len,
            }
            .into());
        }
        if let Some(&id) = ids.iter().find(|id| **id as usize >= self.config.vocab) {
            let (vocab, origin) = (self.config.vocab, self.weights.origin());
            return Err(TextError::OutsideVocabulary { id, vocab, origin }.into());
        }
        let rows = self
            .weights
            .rows([self.config.vocab, self.config.dim], EMBEDDING, ids)?;
        Ok(rows.to_dtype(DType::F32)?)
    }
}

fn show(observer: &mut Option<Observer>, layer: Option<usize>, name: &str, value: &Tensor) {
    let Some(observer) = observer else { return };
    match layer {
        Some(layer) => observer(&format!("block{layer}.{name}"), value),
        None => observer(name, value),
    }
}

/// A tensor in f32, whatever the weights give out.
fn parameter(weights: &Weights, shape: impl Into<Vec<usize>>, name: &str) -> Result<Tensor> {
    Ok(weights.get(shape, name)?.to_dtype(DType::F32)?)
}

fn linear(weights: &Weights, inputs: usize, outputs: usize, name: &str) -> Result<Linear> {
    Ok(Linear::from_weights(
        parameter(weights, [outputs, inputs], &format!("{name}.weight"))?,
        None,
    ))
}

fn final_norm(weights: &Weights, config: &Umt5Config) -> Result<Tensor> {
    parameter(weights, [config.dim], "norm.weight")
}

struct Block {
    norm1: Tensor,
    attention: Attention,
    norm2: Tensor,
    ffn: FeedForward,
    /// `[buckets, heads]`.
    positions: Tensor,
}

impl Block {
    fn new(weights: &Weights, config: &Umt5Config) -> Result<Self> {
        Ok(Self {
            norm1: parameter(weights, [config.dim], "norm1.weight")?,
            attention: Attention::new(&weights.pp("attn"), config)?,
            norm2: parameter(weights, [config.dim], "norm2.weight")?,
            ffn: FeedForward::new(&weights.pp("ffn"), config)?,
            positions: parameter(weights, [config.buckets, config.heads], POSITIONS)?,
        })
    }

    /// `x`: `[L, dim]`; `buckets`: `[L, L]`; only the first `keys` rows are attended to.
    fn forward(
        &self,
        x: &Tensor,
        buckets: &Tensor,
        keys: usize,
        show: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let bias = self.position_bias(buckets)?;
        show("pos_bias", &bias);
        let normed = ops::rms_norm(x, &self.norm1, EPSILON)?;
        show("norm1", &normed);
        let attention = self.attention.forward(&normed, &bias, keys)?;
        show("attn", &attention);
        let x = (x + attention)?;
        let normed = ops::rms_norm(&x, &self.norm2, EPSILON)?;
        show("norm2", &normed);
        let ffn = self.ffn.forward(&normed)?;
        show("ffn", &ffn);
        let x = (x + ffn)?;
        show("out", &x);
        Ok(x)
    }

    /// `[heads, L, L]`.
    fn position_bias(&self, buckets: &Tensor) -> Result<Tensor> {
        let (queries, keys) = buckets.dims2()?;
        let by_head = self.positions.t()?.contiguous()?;
        let bias = by_head.index_select(&buckets.flatten_all()?, 1)?;
        Ok(bias.reshape(((), queries, keys))?)
    }
}

struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    heads: usize,
}

impl Attention {
    fn new(weights: &Weights, config: &Umt5Config) -> Result<Self> {
        let (dim, inner) = (config.dim, config.attention_dim);
        Ok(Self {
            q: linear(weights, dim, inner, "q")?,
            k: linear(weights, dim, inner, "k")?,
            v: linear(weights, dim, inner, "v")?,
            o: linear(weights, inner, dim, "o")?,
            heads: config.heads,
        })
    }

    /// Softmax over the first `keys` rows of `x`: leaving padding out equals giving it weight 0. Scores are not scaled
    /// by the head size (T5 scales at initialisation instead).
    fn forward(&self, x: &Tensor, bias: &Tensor, keys: usize) -> Result<Tensor> {
        let attended = x.narrow(0, 0, keys)?;
        let q = self.split_heads(self.q.forward(x)?)?;
        let k = self.split_heads(self.k.forward(&attended)?)?;
        let v = self.split_heads(self.v.forward(&attended)?)?;
        let scores = (q.matmul(&k.t()?)? + bias.narrow(2, 0, keys)?)?;
        let mixed = ops::softmax_last_dim(&scores)?.matmul(&v)?;
        Ok(self.o.forward(&mixed.transpose(0, 1)?.flatten_from(1)?)?)
    }

    /// `[L, heads·d]` to `[heads, L, d]`.
    fn split_heads(&self, x: Tensor) -> Result<Tensor> {
        let size = x.dim(D::Minus1)? / self.heads;
        Ok(x.reshape(((), self.heads, size))?.transpose(0, 1)?.contiguous()?)
    }
}

/// `fc2(fc1(x) · gelu(gate(x)))`.
struct FeedForward {
    gate: Linear,
    fc1: Linear,
    fc2: Linear,
}

impl FeedForward {
    fn new(weights: &Weights, config: &Umt5Config) -> Result<Self> {
        let (dim, inner) = (config.dim, config.ffn_dim);
        Ok(Self {
            gate: linear(weights, dim, inner, "gate.0")?,
            fc1: linear(weights, dim, inner, "fc1")?,
            fc2: linear(weights, inner, dim, "fc2")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let gate = kernels::gelu_tanh(self.gate.forward(x)?)?;
        Ok(self.fc2.forward(&(self.fc1.forward(x)? * gate)?)?)
    }
}

/// Bucket of every pair of positions, `[L, L]` (query, key).
fn position_buckets(length: usize, config: &Umt5Config, device: &Device) -> Result<Tensor> {
    let bucket =
        |query: usize, key: usize| relative_bucket(key as i64 - query as i64, config.buckets, config.max_distance);
    let all: Vec<u32> = (0..length)
        .flat_map(|query| (0..length).map(move |key| bucket(query, key)))
        .collect();
    Ok(Tensor::from_vec(all, (length, length), device)?)
}

/// Bucket of the distance `relative` = key − query: exact for near tokens, logarithmic up to `max_distance`, one half of
/// the `buckets` per direction.
pub fn relative_bucket(relative: i64, buckets: usize, max_distance: usize) -> u32 {
    let half = buckets / 2;
    let exact = half / 2;
    let offset = if relative > 0 { half } else { 0 };
    let distance = relative.unsigned_abs() as usize;
    let within = if distance < exact {
        distance
    } else {
        let (far, max) = (distance as f64 / exact as f64, max_distance as f64 / exact as f64);
        let steps = far.ln() / max.ln() * (half - exact) as f64;
        (exact + steps as usize).min(half - 1)
    };
    (offset + within) as u32
}

#[cfg(test)]
mod tests;
