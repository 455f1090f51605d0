//! Kind `mg2_streaming_actions`: the rows of a world that is steered chunk by chunk, to the bit.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::Tensor;
use deepforcing::rollout::{ActionBuffer, ActionRow, ActionRows, Ahead, Cue, Director};

use super::Case;

/// Latent frames of a chunk, where the case does not tell.
const CHUNK: usize = 3;

/// Plays recorded actions, one per chunk.
struct Recorded {
    actions: Vec<ActionRow>,
}

impl Director for Recorded {
    fn direct(&mut self, _: Ahead) -> deepforcing::Result<Option<Cue>> {
        Ok(None)
    }

    fn actions(&mut self, ahead: Ahead) -> deepforcing::Result<Option<ActionRows>> {
        let action = self.actions.get(ahead.chunk);
        Ok(action.map(|action| action.throughout(ahead)).transpose()?)
    }
}

/// The rows of a tensor `[.., rows, columns]`.
fn rows(tensor: &Tensor) -> Result<Vec<Vec<f32>>> {
    let tensor = tensor.flatten_to(tensor.rank() - 2)?;
    Ok(tensor.to_vec2()?)
}

fn bits(rows: &[Vec<f32>]) -> Vec<Vec<u32>> {
    rows.iter()
        .map(|row| row.iter().map(|value| value.to_bits()).collect())
        .collect()
}

pub fn run(case: &Case) -> Result<()> {
    // Chunks of each model, by its name.
    let mut chunks: BTreeMap<String, usize> = BTreeMap::new();
    for name in case.names() {
        if let Some((model, chunk)) = name.split_once(".keyboard_after.") {
            let chunk: usize = chunk.parse().with_context(|| format!("the chunk of `{name}`"))?;
            let known = chunks.entry(model.into()).or_default();
            *known = (*known).max(chunk + 1);
        }
    }
    for (model, chunks) in chunks {
        let mouse = format!("{model}.mouse_actions");
        let has_mouse = case.has(&mouse);
        let moves = if has_mouse {
            Some(rows(&case.input(&mouse)?)?)
        } else {
            None
        };
        let keyboard = rows(&case.input(&format!("{model}.keyboard_actions"))?)?;
        let actions = keyboard.into_iter().enumerate().map(|(chunk, keyboard)| {
            let mouse = moves.as_ref().map(|moves| [moves[chunk][0], moves[chunk][1]]);
            ActionRow { keyboard, mouse }
        });
        let mut director = Recorded {
            actions: actions.collect(),
        };
        let frames = case.meta["frames_per_chunk"]
            .as_u64()
            .map_or(CHUNK, |frames| frames as usize);
        let (mut buffer, mut recent) = (ActionBuffer::whole(), ActionBuffer::recent());
        for chunk in 0..chunks {
            let start = chunk * frames;
            let ahead = Ahead {
                chunk,
                start,
                frames,
                generated: start,
                given: false,
            };
            let given = buffer.ask(&mut director, ahead)?.clone();
            let what = format!("{model}.keyboard_after.{chunk}");
            let want = rows(&case.input(&what)?)?;
            case.check(what, bits(given.keyboard()) == bits(&want));
            if has_mouse {
                let what = format!("{model}.mouse_after.{chunk}");
                let want = rows(&case.input(&what)?)?;
                let mouse = given.mouse().context("the rows have no mouse")?;
                let mouse: Vec<Vec<f32>> = mouse.iter().map(|row| row.to_vec()).collect();
                case.check(what, bits(&mouse) == bits(&want));
            }
            // A buffer that is only long enough shows the same to every latent frame of the chunk.
            let kept = recent.ask(&mut director, ahead)?;
            for frame in start..start + frames {
                let same = given.window(frame)? == kept.window(frame)?;
                case.check(
                    format!("{model}: what latent frame {frame} sees of a short buffer"),
                    same,
                );
            }
        }
    }
    Ok(())
}
