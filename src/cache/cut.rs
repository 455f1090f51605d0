//! The begin of a scene: for one chunk, all that came before it is seen far in the past (docs/algorithms/policies.md
//! section 2).

use super::{KvCache, LayerCache, store::Context};
use crate::Result;

/// Whether the chunk in work begins a scene.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Cut {
    #[default]
    None,
    /// The next chunk will.
    Ahead,
    /// The last chunk, of so many latent frames, does: what is before it is moved.
    Held { frames: usize },
}

impl Cut {
    /// Latent frames of the chunk that began a scene and is the last one.
    pub(super) fn held(self) -> Option<usize> {
        match self {
            Self::Held { frames } => Some(frames),
            _ => None,
        }
    }

    pub(super) fn restored(held: Option<usize>) -> Self {
        held.map_or(Self::None, |frames| Self::Held { frames })
    }
}

impl KvCache {
    /// Lets the next chunk begin a scene: during all its passes it is seen at the policy's position of a cut, counted from
    /// the first frame that is held then.
    ///
    /// # Errors
    /// On a device failure.
    pub fn cut(&mut self) -> Result<()> {
        self.undo_cut()?;
        self.cut = Cut::Ahead;
        Ok(())
    }

    /// Moves what is before the last chunk back to where it belongs, if that chunk began a scene.
    ///
    /// # Errors
    /// On a device failure.
    pub fn undo_cut(&mut self) -> Result<()> {
        let Cut::Held { frames } = self.cut else {
            return Ok(());
        };
        self.cut = Cut::None;
        self.end_pass()?;
        let fresh = frames * self.shape.tokens_per_frame();
        for layer in 0..self.layers.len() {
            let (cache, context, _) = self.parts(layer);
            cache.move_past(&context, fresh, 1)?;
        }
        Ok(())
    }
}

impl LayerCache {
    /// Moves all but the last `fresh` tokens away from those, or back, by the sign of `direction`.
    pub(super) fn move_past(&mut self, context: &Context<'_>, fresh: usize, direction: i64) -> Result<()> {
        if self.pending.is_some() {
            let chosen = match self.unsettled() {
                Some(chosen) => chosen.to_vec1::<u32>()?,
                None => Vec::new(),
            };
            self.settle(context.policy, context.shape, context.layer, &chosen)?;
        }
        let past = self.slots.len().saturating_sub(fresh);
        let held = past.div_ceil(context.per_frame().max(1));
        let by = direction * context.policy.cut.saturating_sub(held) as i64;
        let before: Vec<i64> = self.slots.iter().map(|slot| slot.position).collect();
        for slot in &mut self.slots[..past] {
            slot.position += by;
        }
        self.rotate_moved(&before, context)
    }
}
