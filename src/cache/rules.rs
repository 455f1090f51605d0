//! The rules that knobs must obey, and what breaks them.

use super::{
    PolicyName,
    knobs::{Changed, Classing, Context, Jitter, LastChunk, Merging, Overflow, Policy, Selection, Weight},
    share::Share,
};

/// Largest window that is accepted; the video is checked before any of its memory is taken.
const WINDOW_LIMIT: usize = 4096;
/// Largest share of a weight that rises to five times the share.
const CHANGING: Share = Share::thousandths(200);
/// Chunks of the window of policies that make chunks anew for it: the sink, two of the past and the current one.
pub const CONTEXT_CHUNKS: usize = 4;

/// A rule that the parameters break.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("the chunk must have at least 1 latent frame")]
    EmptyChunk,
    #[error("window {window} < chunk {chunk}: the window must hold the current chunk; raise the window")]
    WindowBelowChunk { window: usize, chunk: usize },
    #[error(
        "sink {sink} + chunk {chunk} > window {window}: sink and current chunk must fit into the window; lower the sink \
         or raise the window"
    )]
    SinkAboveWindow { sink: usize, chunk: usize, window: usize },
    #[error(
        "recent {recent} < chunk {chunk}: the recent frames must hold the current chunk, or its tokens would overwrite \
         chosen ones; raise recent"
    )]
    RecentBelowChunk { recent: usize, chunk: usize },
    #[error(
        "sink {sink} + recent {recent} > budget {budget}: the budget must hold both; raise the budget or lower the sink"
    )]
    SinkAndRecentAboveBudget { sink: usize, recent: usize, budget: usize },
    #[error("budget {budget} > window {window}: a compression cannot leave more than the window; lower the budget")]
    BudgetAboveWindow { budget: usize, window: usize },
    #[error("window {window} is absurd: at most {limit} latent frames; lower the window")]
    WindowTooLarge { window: usize, limit: usize },
    #[error(
        "window {window} is no multiple of chunk {chunk}: which frames this policy keeps depends on whole chunks; take {} \
         or {}",
        window / chunk * chunk,
        window.next_multiple_of(*chunk)
    )]
    WindowNotChunks { window: usize, chunk: usize },
    #[error(
        "sink {sink} is not chunk {chunk}: a chunk that leaves is taken in by the sink frame by frame; take sink {chunk}"
    )]
    SinkNotChunk { sink: usize, chunk: usize },
    #[error(
        "sink {sink} + memory {memory} + chunk {chunk} > window {window}: all three must fit into the window; lower the \
         sink or raise the window"
    )]
    MemoryAboveWindow {
        sink: usize,
        memory: usize,
        chunk: usize,
        window: usize,
    },
    #[error(
        "window {window} < 2 × chunk {chunk}: the last chunk and the current one must fit into it; raise the window to {}",
        2 * chunk
    )]
    WindowBelowTwoChunks { window: usize, chunk: usize },
    #[error(
        "alpha-short {share} with pooling `cell`: where a cell changes most its weight is five times that, which must not \
         be above 1; take at most {}",
        CHANGING
    )]
    ChangingWeight { share: Share },
    #[error("rope-jitter {sigma}: a head's base could become 0; take less than 1, as in the paper 0.8")]
    JitterTooLarge { sigma: Share },
    #[error(
        "policy needs chunks that are alike, and the first latent frame of this model is a chunk of its own: choose \
         another policy, or a model whose chunks are alike"
    )]
    FirstFrameAlone,
    #[error(
        "memory {kept} frames are kept and nothing is merged into them, so what is to be kept was never there; say what \
         becomes of frames that leave, for example memory = \"all 0.01 0.1\""
    )]
    NeverThere { kept: usize },
    #[error(
        "frames that leave are merged into nothing: {frames} memory frames or a sink are written to, and {kept} are kept; \
         keep as many (`keep = \"sink 3, memory {frames}, recent\"`)"
    )]
    MergedIntoNothing { kept: usize, frames: usize },
    #[error("chosen tokens lie before recent ones, so how many recent frames? write for example recent 4")]
    RecentUnsaid,
    #[error("chosen tokens and a memory do not go together; keep one of them")]
    ChosenAndMerged,
    #[error(
        "recent {recent}: without chosen tokens the recent frames are the {rest} that sink and memory leave of the window; \
         write `recent` alone"
    )]
    RecentIsRest { recent: usize, rest: usize },
    #[error(
        "the attention of policy `{policy}` cannot be recorded: its heads see different parts of the window; leave out \
         --attention, or choose another policy"
    )]
    AttentionOfParts { policy: PolicyName },
    #[error(
        "this policy makes finished chunks anew, and keys and values of actions belong to the passes that made them; choose \
         another policy for a world"
    )]
    ContextOfWorld,
    #[error("split 0: some chunk must be seen by all heads before they part; take at least 1")]
    SplitAtStart,
    #[error("this policy needs to know which heads are static: give a profile of the model's heads with --heads FILE")]
    NoProfile,
    #[error("local {local} is no multiple of chunk {chunk}: local heads see whole chunks; take {}", local.next_multiple_of(*chunk).max(*chunk))]
    LocalNotChunks { local: usize, chunk: usize },
    #[error("patches 0: a frame has at least 1 patch; the release takes 6")]
    NoPatches,
    #[error("changed {changed} > chunk {chunk}: patches are chosen of as many frames as leave; lower it")]
    ChangedAboveChunk { changed: usize, chunk: usize },
    #[error("recent {recent} is out of range: with chunks of {chunk}, dynamic heads see 1 to {chunk} last frames")]
    RecentRange { recent: usize, chunk: usize },
    #[error(
        "patches {patches} do not divide a frame of {per_frame} tokens evenly; take a number that does, or another size of \
         the pictures"
    )]
    UnevenPatches { per_frame: usize, patches: usize },
    #[error("rope-jitter does not go together with chosen tokens that get the positions of their places")]
    JitterOfChosen,
    #[error(
        "native-chunks {native} is out of range: with the last chunk {}; take {least} to {most}",
        if *encoded { "re-encoded, a chunk before it must be there" } else { "self-cached, all must fit into the window" }
    )]
    NativeChunks {
        native: usize,
        encoded: bool,
        least: usize,
        most: usize,
    },
}

impl Policy {
    /// Checks the rules for chunks of `chunk` frames.
    ///
    /// # Errors
    /// The first rule that is broken, with its values.
    pub(super) fn check(&self, chunk: usize) -> Result<(), PolicyError> {
        let Self { window, sink, .. } = *self;
        if self.overflow == Overflow::Full {
            return Ok(());
        }
        if window > WINDOW_LIMIT {
            let limit = WINDOW_LIMIT;
            return Err(PolicyError::WindowTooLarge { window, limit });
        }
        if window < chunk {
            return Err(PolicyError::WindowBelowChunk { window, chunk });
        }
        if sink.saturating_add(chunk) > window {
            return Err(PolicyError::SinkAboveWindow { sink, chunk, window });
        }
        self.check_merging(chunk)?;
        self.check_replay(chunk)?;
        self.check_jitter()?;
        self.check_context(chunk)?;
        self.check_heads(chunk)?;
        self.check_selection(chunk)
    }

    /// Checks that policies that go by whole chunks get such; `first_frame_alone`: the first latent frame is a chunk of its
    /// own.
    ///
    /// # Errors
    /// [`PolicyError::FirstFrameAlone`].
    pub fn check_first_frame(&self, first_frame_alone: bool) -> Result<(), PolicyError> {
        if first_frame_alone && !self.takes_any_window() && self.memory() == 0 {
            return Err(PolicyError::FirstFrameAlone);
        }
        Ok(())
    }

    fn check_selection(&self, chunk: usize) -> Result<(), PolicyError> {
        let Self { window, sink, .. } = *self;
        let Some(Selection { budget, recent, .. }) = self.selection else {
            return Ok(());
        };
        if recent < chunk {
            return Err(PolicyError::RecentBelowChunk { recent, chunk });
        }
        if budget > window {
            return Err(PolicyError::BudgetAboveWindow { budget, window });
        }
        if sink.saturating_add(recent) > budget {
            return Err(PolicyError::SinkAndRecentAboveBudget { sink, recent, budget });
        }
        Ok(())
    }

    fn check_chunks(&self, chunk: usize) -> Result<(), PolicyError> {
        let window = self.window;
        if window.is_multiple_of(chunk) {
            Ok(())
        } else {
            Err(PolicyError::WindowNotChunks { window, chunk })
        }
    }

    fn check_heads(&self, chunk: usize) -> Result<(), PolicyError> {
        let Some(heads) = &self.heads else {
            return Ok(());
        };
        if heads.split == 0 {
            return Err(PolicyError::SplitAtStart);
        }
        match &heads.classing {
            Classing::Profile(profile) if profile.is_none() => return Err(PolicyError::NoProfile),
            Classing::Found { .. } => {
                let local = heads.views.iter().map(|view| view.last).max().unwrap_or(0);
                if local == 0 || !local.is_multiple_of(chunk) {
                    return Err(PolicyError::LocalNotChunks { local, chunk });
                }
            }
            Classing::Profile(_) => {}
        }
        let Some(changed) = heads.changed else {
            return Ok(());
        };
        if changed.patches == 0 {
            return Err(PolicyError::NoPatches);
        }
        let most = chunk * changed.patches;
        if changed.kept > most {
            let (changed, chunk) = (changed.kept / changed.patches, chunk);
            return Err(PolicyError::ChangedAboveChunk { changed, chunk });
        }
        if !(1..=chunk).contains(&changed.recent) {
            let recent = changed.recent;
            return Err(PolicyError::RecentRange { recent, chunk });
        }
        Ok(())
    }

    /// Checks that frames can be cut as the policy wants, at `per_frame` tokens each.
    ///
    /// # Errors
    /// [`PolicyError::UnevenPatches`].
    pub fn check_frame(&self, per_frame: usize) -> Result<(), PolicyError> {
        match self.heads.and_then(|heads| heads.changed) {
            Some(Changed { patches, .. }) if !per_frame.is_multiple_of(patches.max(1)) => {
                Err(PolicyError::UnevenPatches { per_frame, patches })
            }
            _ => Ok(()),
        }
    }

    fn check_merging(&self, chunk: usize) -> Result<(), PolicyError> {
        let Self { window, sink, .. } = *self;
        match &self.merging {
            None => Ok(()),
            Some(Merging::Sink { .. }) if sink != chunk => Err(PolicyError::SinkNotChunk { sink, chunk }),
            Some(Merging::Sink { .. }) => self.check_chunks(chunk),
            Some(Merging::Memory { weights, .. }) => {
                let memory = self.memory();
                if sink.saturating_add(memory).saturating_add(chunk) > window {
                    return Err(PolicyError::MemoryAboveWindow {
                        sink,
                        memory,
                        chunk,
                        window,
                    });
                }
                let diverging = weights.iter().flatten().find_map(|weight| match weight {
                    Weight::ByChange(share) if share.get() > CHANGING.get() => Some(*share),
                    _ => None,
                });
                diverging.map_or(Ok(()), |share| Err(PolicyError::ChangingWeight { share }))
            }
        }
    }

    fn check_replay(&self, chunk: usize) -> Result<(), PolicyError> {
        let window = self.window;
        match self.replay {
            Some(_) if window < chunk.saturating_mul(2) => Err(PolicyError::WindowBelowTwoChunks { window, chunk }),
            Some(_) => self.check_chunks(chunk),
            None => Ok(()),
        }
    }

    fn check_jitter(&self) -> Result<(), PolicyError> {
        match self.jitter {
            Some(Jitter { sigma, .. }) if sigma.get() >= 1.0 => Err(PolicyError::JitterTooLarge { sigma }),
            Some(_) if self.places_selected() => Err(PolicyError::JitterOfChosen),
            _ => Ok(()),
        }
    }

    fn check_context(&self, chunk: usize) -> Result<(), PolicyError> {
        let Some(Context { native, last }) = self.context else {
            return Ok(());
        };
        let (encoded, range) = match last {
            LastChunk::ReEncoded => (true, 2..=WINDOW_LIMIT / chunk),
            LastChunk::SelfCached => (false, 1..=CONTEXT_CHUNKS),
        };
        let (least, most) = (*range.start(), *range.end());
        if range.contains(&native) {
            return Ok(());
        }
        Err(PolicyError::NativeChunks {
            native,
            encoded,
            least,
            most,
        })
    }
}
