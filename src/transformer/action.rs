//! The module of a block that reads what a player does (docs/algorithms/matrix_game_2.md section 3).
//!
//! Two branches, each with a cache of its own that is counted in latent frames ([`crate::cache::FrameWindow`]): the mouse
//! changes what a token carries along time, each place of the picture for itself; the keyboard is attended to by all
//! tokens.

use candle_core::{DType, Device, Tensor};

use super::{conditions::FrameActions, linear::Linear};
use crate::{
    Error, Result,
    cache::{FrameWindow, Pass},
    checkpoint::Weights,
    kernels,
};

/// Rows of actions that a latent frame sees.
pub const WINDOW_ROWS: usize = 12;
/// Numbers of a mouse row.
pub const MOUSE_COLUMNS: usize = 2;
/// Base of the angles.
const THETA: f64 = 256.0;
/// Channels of a head that rotate with the latent frame; those of row and column stay at position 0.
const TIME_CHANNELS: usize = 8;
/// Of the norm of the mouse branch.
const MOUSE_NORM_EPS: f32 = 1e-5;
/// Of the norms of queries and keys.
const HEAD_NORM_EPS: f32 = 1e-6;

/// Sizes of the action modules of a network; all are alike.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionConfig {
    /// Numbers of the blocks that have a module.
    pub blocks: Vec<usize>,
    /// Key columns of a row.
    pub keys: usize,
    /// Whether there is a mouse branch.
    pub mouse: bool,
    /// Width of an embedded keyboard row.
    pub key_dim: usize,
    pub heads: usize,
    pub head_dim: usize,
}

impl ActionConfig {
    /// That of the published checkpoints (docs/algorithms/matrix_game_2.md section 1).
    pub fn matrix_game_2(keys: usize, mouse: bool) -> Self {
        Self {
            blocks: (0..15).collect(),
            keys,
            mouse,
            key_dim: 128,
            heads: 16,
            head_dim: 64,
        }
    }

    /// Reads the sizes from the modules of a network of width `dim` with `layers` blocks; `None` where it has none.
    ///
    /// # Errors
    /// When the shapes make no module of this kind.
    pub fn from_weights(weights: &Weights, dim: usize, layers: usize) -> Result<Option<Self>> {
        let module = |block: usize| weights.pp("blocks").pp(block).pp("action_model");
        let has = |block: &usize| module(*block).contains("keyboard_embed.0.weight");
        let blocks: Vec<usize> = (0..layers).filter(has).collect();
        let Some(first) = blocks.first().map(|block| module(*block)) else {
            return Ok(None);
        };
        let wrong = |reason: String| Error::not_a_transformer(weights.origin(), reason);
        let dims = |name: &str, rank: usize| match first.shape(name) {
            Some(shape) if shape.len() == rank => Ok(shape),
            found => Err(wrong(format!(
                "tensor `{name}` of its action modules has shape {found:?}, expected {rank} axes"
            ))),
        };
        let [key_dim, keys] = [0, 1].map(|axis| dims("keyboard_embed.0.weight", 2).map(|shape| shape[axis]));
        let (key_dim, keys) = (key_dim?, keys?);
        let kv = dims("keyboard_attn_kv.weight", 2)?;
        let head_dim = dims("key_attn_q_norm.weight", 1)?[0];
        let width = kv[0] / 2;
        if head_dim < TIME_CHANNELS || !head_dim.is_multiple_of(2) || width == 0 || !width.is_multiple_of(head_dim) {
            return Err(wrong(format!(
                "heads of {head_dim} do not divide its action modules of width {width}"
            )));
        }
        if kv[1] != WINDOW_ROWS * key_dim {
            return Err(wrong(format!(
                "its action modules read {} numbers of the keyboard for a latent frame, expected {WINDOW_ROWS} rows of {key_dim}",
                kv[1]
            )));
        }
        let mouse = first.contains("mouse_mlp.0.weight");
        if mouse && dims("mouse_mlp.0.weight", 2)? != [width, dim + WINDOW_ROWS * MOUSE_COLUMNS] {
            let expected = [width, dim + WINDOW_ROWS * MOUSE_COLUMNS];
            let found = dims("mouse_mlp.0.weight", 2)?;
            return Err(wrong(format!(
                "`mouse_mlp.0.weight` has shape {found:?}, expected {expected:?}"
            )));
        }
        Ok(Some(Self {
            blocks,
            keys,
            mouse,
            key_dim,
            heads: width / head_dim,
            head_dim,
        }))
    }

    /// Width of all heads together.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Keys of a latent frame of `tokens` tokens, branch by branch in the order in which a module uses its caches.
    pub fn items(&self, tokens: usize) -> Vec<usize> {
        let mouse = self.mouse.then_some(tokens * self.heads);
        mouse.into_iter().chain([self.heads]).collect()
    }
}

/// What all modules of a network read of a chunk.
pub struct ActionInputs {
    /// `[frames · rows, keys]`.
    keyboard: Tensor,
    /// `[frames, rows · 2]`.
    mouse: Option<Tensor>,
    /// Rotation of the chunk's latent frames, `[frames, head_dim/2]`.
    cos: Tensor,
    sin: Tensor,
    frames: usize,
}

impl ActionInputs {
    /// Of a chunk of `frames` latent frames from position `start` on, in the number format and on the device of the
    /// network.
    ///
    /// # Errors
    /// When the actions are not those of such a chunk, or of another model.
    pub fn new(
        config: &ActionConfig,
        actions: &FrameActions,
        start: u64,
        frames: usize,
        (dtype, device): (DType, &Device),
    ) -> Result<Self> {
        let expected = [frames, WINDOW_ROWS, config.keys];
        let moves = [frames, WINDOW_ROWS * MOUSE_COLUMNS];
        let fits = match &actions.mouse {
            Some(mouse) => config.mouse && mouse.dims() == moves,
            None => !config.mouse,
        };
        if actions.keyboard.dims() != expected || !fits {
            return Err(Error::ActionShape {
                keyboard: actions.keyboard.dims().to_vec(),
                mouse: actions.mouse.as_ref().map(|mouse| mouse.dims().to_vec()),
                expected: expected.to_vec(),
                moves: config.mouse.then(|| moves.to_vec()),
            });
        }
        let here = |tensor: &Tensor| tensor.to_device(device)?.to_dtype(dtype)?.contiguous();
        let (cos, sin) = angles(config.head_dim, start, frames, device)?;
        Ok(Self {
            keyboard: here(&actions.keyboard.flatten(0, 1)?)?,
            mouse: actions.mouse.as_ref().map(here).transpose()?,
            cos,
            sin,
            frames,
        })
    }
}

/// Angles of latent frames: pair `i` of the first [`TIME_CHANNELS`] channels turns by `frame · 256^(−2i/8)`, the others
/// not at all. From integers, in f64, rounded once: there is no last frame.
fn angles(head_dim: usize, start: u64, frames: usize, device: &Device) -> Result<(Tensor, Tensor)> {
    let pairs = head_dim / 2;
    let frequency = |pair: usize| THETA.powf(-2.0 * pair as f64 / TIME_CHANNELS as f64);
    let (mut cos, mut sin) = (Vec::new(), Vec::new());
    for frame in start..start + frames as u64 {
        for pair in 0..pairs {
            let turns = if pair < TIME_CHANNELS / 2 { frequency(pair) } else { 0.0 };
            let (s, c) = (frame as f64 * turns).sin_cos();
            cos.push(c as f32);
            sin.push(s as f32);
        }
    }
    Ok((
        Tensor::from_vec(cos, (frames, pairs), device)?,
        Tensor::from_vec(sin, (frames, pairs), device)?,
    ))
}

/// Mouse and keyboard, added to the tokens of a block.
pub struct ActionModule {
    mouse: Option<MouseBranch>,
    keyboard: KeyboardBranch,
    heads: Heads,
}

/// Attention along time at each place of the picture.
struct MouseBranch {
    hidden: [Linear; 2],
    norm: (Tensor, Tensor),
    qkv: Linear,
    out: Linear,
}

/// Attention of all tokens to the keyboard rows of the latent frames.
struct KeyboardBranch {
    embed: [Linear; 2],
    /// `mouse_attn_q`, whatever it is called.
    q: Linear,
    kv: Linear,
    out: Linear,
}

/// How both branches cut what they attend with into heads.
struct Heads {
    count: usize,
    dim: usize,
    /// Gain of the norms: the files have vectors for it that the reference never multiplies by.
    ones: Tensor,
}

impl ActionModule {
    /// Asks `weights` for every tensor of a module by its published name; `dim` is the width of the network.
    ///
    /// # Errors
    /// When a tensor is missing, mis-shaped or not finite.
    pub fn new(config: &ActionConfig, dim: usize, weights: &Weights) -> Result<Self> {
        let width = config.width();
        let plain = |inputs, outputs, name: &str| Linear::without_bias(inputs, outputs, weights.pp(name));
        let mouse = if config.mouse {
            let mlp = weights.pp("mouse_mlp");
            unused_norms(config, weights, "img_attn")?;
            Some(MouseBranch {
                hidden: [
                    Linear::new(dim + WINDOW_ROWS * MOUSE_COLUMNS, width, mlp.pp(0))?,
                    Linear::new(width, width, mlp.pp(2))?,
                ],
                norm: (mlp.pp(3).get([width], "weight")?, mlp.pp(3).get([width], "bias")?),
                qkv: plain(width, 3 * width, "t_qkv")?,
                out: plain(width, dim, "proj_mouse")?,
            })
        } else {
            None
        };
        unused_norms(config, weights, "key_attn")?;
        let embed = weights.pp("keyboard_embed");
        Ok(Self {
            mouse,
            keyboard: KeyboardBranch {
                embed: [
                    Linear::new(config.keys, config.key_dim, embed.pp(0))?,
                    Linear::new(config.key_dim, config.key_dim, embed.pp(2))?,
                ],
                q: plain(dim, width, "mouse_attn_q")?,
                kv: plain(WINDOW_ROWS * config.key_dim, 2 * width, "keyboard_attn_kv")?,
                out: plain(width, dim, "proj_keyboard")?,
            },
            heads: Heads {
                count: config.heads,
                dim: config.head_dim,
                ones: Tensor::ones(config.head_dim, weights.dtype(), weights.device())?,
            },
        })
    }

    /// `x` `[frames · tokens, dim]` with what the actions of the chunk add to it. `windows`: of the branches, in the order of
    /// [`ActionConfig::items`].
    ///
    /// # Errors
    /// When sizes or windows are not those of the module, or on a device failure.
    pub fn forward(
        &self,
        x: &Tensor,
        inputs: &ActionInputs,
        pass: Pass,
        windows: &mut [FrameWindow],
    ) -> Result<Tensor> {
        match (&self.mouse, &inputs.mouse, windows) {
            (Some(branch), Some(rows), [mouse, keyboard]) => {
                let x = (x + branch.forward(x, rows, inputs, &self.heads, pass, mouse)?)?;
                let keys = self.keyboard.forward(&x, inputs, &self.heads, pass, keyboard)?;
                Ok((x + keys)?)
            }
            (None, None, [keyboard]) => Ok((x + self.keyboard.forward(x, inputs, &self.heads, pass, keyboard)?)?),
            (.., windows) => Err(Error::ActionWindows {
                found: windows.len(),
                expected: 1 + usize::from(self.mouse.is_some()),
            }),
        }
    }
}

/// Asks for the gains that are in the files and multiply nothing.
fn unused_norms(config: &ActionConfig, weights: &Weights, branch: &str) -> Result<()> {
    for norm in ["q_norm", "k_norm"] {
        weights.get([config.head_dim], &format!("{branch}_{norm}.weight"))?;
    }
    Ok(())
}

impl MouseBranch {
    fn forward(
        &self,
        x: &Tensor,
        rows: &Tensor,
        inputs: &ActionInputs,
        heads: &Heads,
        pass: Pass,
        window: &mut FrameWindow,
    ) -> Result<Tensor> {
        let (tokens, frames) = (x.dim(0)?, inputs.frames);
        let places = tokens / frames;
        let moves = rows.dim(1)?;
        let rows = rows.unsqueeze(1)?.expand((frames, places, moves))?;
        let joined = Tensor::cat(&[x, &rows.reshape((tokens, moves))?], 1)?;
        let hidden = self.hidden[1].forward(&self.hidden[0].forward_gelu(&joined)?)?;
        let hidden = kernels::layer_norm(&hidden, &self.norm.0, &self.norm.1, MOUSE_NORM_EPS)?;
        let qkv = self.qkv.forward(&hidden)?;
        let width = heads.count * heads.dim;
        let part = |i: usize| qkv.narrow(1, i * width, width)?.contiguous();
        // A head of a place is a head of its own: tokens lie frame by frame.
        let own = places * heads.count;
        let queries = heads.placed(&part(0)?, frames, own, inputs)?;
        let keys = heads.placed(&part(1)?, frames, own, inputs)?;
        let values = part(2)?.reshape((frames, own, heads.dim))?;
        let (keys, values) = window.write(pass, &keys, &values)?;
        let seen = kernels::attention(&queries, &keys, &values, heads.scale())?;
        self.out.forward(&seen.reshape((tokens, width))?)
    }
}

impl KeyboardBranch {
    fn forward(
        &self,
        x: &Tensor,
        inputs: &ActionInputs,
        heads: &Heads,
        pass: Pass,
        window: &mut FrameWindow,
    ) -> Result<Tensor> {
        let (tokens, frames) = (x.dim(0)?, inputs.frames);
        let rows = kernels::silu(self.embed[0].forward(&inputs.keyboard)?)?;
        let rows = self.embed[1].forward(&rows)?;
        let rows = rows.reshape((frames, rows.elem_count() / frames))?;
        let kv = self.kv.forward(&rows)?;
        let width = heads.count * heads.dim;
        let part = |i: usize| kv.narrow(1, i * width, width)?.contiguous();
        let keys = heads.placed(&part(0)?, frames, heads.count, inputs)?;
        let values = part(1)?.reshape((frames, heads.count, heads.dim))?;
        let (keys, values) = window.write(pass, &keys, &values)?;
        let queries = heads.placed(&self.q.forward(x)?, frames, tokens / frames * heads.count, inputs)?;
        let queries = queries.reshape((tokens, heads.count, heads.dim))?;
        let seen = kernels::attention(&queries, &keys, &values, heads.scale())?;
        self.out.forward(&seen.reshape((tokens, width))?)
    }
}

impl Heads {
    fn scale(&self) -> f64 {
        1.0 / (self.dim as f64).sqrt()
    }

    /// Norm of each head, then the rotation of its latent frame: to `[frames, items, head_dim]`.
    fn placed(&self, x: &Tensor, frames: usize, items: usize, inputs: &ActionInputs) -> Result<Tensor> {
        let x = x.reshape((frames * items, self.dim))?;
        let x = kernels::rms_norm(&x, &self.ones, HEAD_NORM_EPS)?;
        let x = x.reshape((frames, items, self.dim))?;
        Ok(kernels::rotate(&x, &inputs.cos, &inputs.sin)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_channels_turn_and_far_frames_keep_their_precision() {
        let (cos, sin) = angles(64, 1_000_003, 2, &Device::Cpu).unwrap();
        assert_eq!(cos.dims(), [2, 32]);
        let (cos, sin) = (cos.to_vec2::<f32>().unwrap(), sin.to_vec2::<f32>().unwrap());
        for (pair, part) in [1.0, 0.25, 0.0625, 0.015_625].into_iter().enumerate() {
            let angle = 1_000_004.0 * part;
            assert!((f64::from(cos[1][pair]) - f64::cos(angle)).abs() < 1e-7, "{pair}");
            assert!((f64::from(sin[1][pair]) - f64::sin(angle)).abs() < 1e-7, "{pair}");
        }
        assert!(cos[0][4..].iter().all(|c| *c == 1.0) && sin[0][4..].iter().all(|s| *s == 0.0));
    }
}
