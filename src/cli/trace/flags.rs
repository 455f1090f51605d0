//! Flags of what records a trace.

use std::path::PathBuf;

use clap::Args;

use crate::{
    Result,
    models::ModelFiles,
    trace::{self, Every, HeadChoice, TraceOptions},
};

/// What is recorded of the cache.
#[derive(Args, Default)]
#[command(next_help_heading = "Trace")]
pub(in crate::cli) struct TraceFlags {
    /// Record what the cache keeps and drops (.jsonl); `deepforcing trace` draws it
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Record in the trace how much attention each latent frame gets at the first denoising step, in these layers (and
    /// heads): all, or lists and ranges such as 0,3-5 or 0,3:1,10. May be given several times; costs about a tenth of
    /// the time if all are recorded
    #[arg(long, value_name = "LAYERS[:HEADS]", requires = "trace")]
    attention: Vec<HeadChoice>,
    /// Chunks at which attention is recorded: every so many, or event for those for which room is made [default: 1]
    #[arg(long, value_name = "N|event", requires = "attention")]
    attention_every: Option<Every>,
}

impl TraceFlags {
    /// The options of a trace in the file `path`.
    pub fn options(&self, path: PathBuf) -> TraceOptions {
        TraceOptions {
            path,
            video: None,
            attention: self.attention.clone(),
            every: self.attention_every.unwrap_or_default(),
        }
    }

    /// The options of one video's trace, if one is wanted.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn checked(&self, overwrite: bool) -> Result<Option<TraceOptions>> {
        let Some(path) = &self.trace else { return Ok(None) };
        trace::check_output(path, overwrite)?;
        Ok(Some(self.options(path.clone())))
    }

    /// Refuses layers and heads that the model does not have, before it is loaded.
    ///
    /// # Errors
    /// With the first one that there is not.
    pub fn check_heads(&self, files: &ModelFiles) -> Result<()> {
        check_heads(&self.attention, files)
    }
}

/// What is recorded of the cache of every video of a folder.
#[derive(Args, Default)]
#[command(next_help_heading = "Trace")]
pub(in crate::cli) struct TracesFlags {
    /// Record what the cache keeps and drops beside each video, as NAME.trace.jsonl; `deepforcing trace` draws it
    #[arg(long)]
    pub traces: bool,
    /// Record in the traces how much attention each latent frame gets at the first denoising step, in these layers (and
    /// heads): all, or lists and ranges such as 0,3-5 or 0,3:1,10. May be given several times; costs about a tenth of
    /// the time if all are recorded
    #[arg(long, value_name = "LAYERS[:HEADS]", requires = "traces")]
    attention: Vec<HeadChoice>,
    /// Chunks at which attention is recorded: every so many, or event for those for which room is made [default: 1]
    #[arg(long, value_name = "N|event", requires = "attention")]
    attention_every: Option<Every>,
}

impl TracesFlags {
    /// The options of the trace of `video`, written to `path` while the video is in work; `None` if none is wanted.
    pub fn options(&self, path: PathBuf, video: PathBuf) -> Option<TraceOptions> {
        self.traces.then(|| TraceOptions {
            path,
            video: Some(video),
            attention: self.attention.clone(),
            every: self.attention_every.unwrap_or_default(),
        })
    }

    /// Refuses layers and heads that the model does not have, before it is loaded.
    ///
    /// # Errors
    /// With the first one that there is not.
    pub fn check_heads(&self, files: &ModelFiles) -> Result<()> {
        check_heads(&self.attention, files)
    }
}

fn check_heads(attention: &[HeadChoice], files: &ModelFiles) -> Result<()> {
    if attention.is_empty() {
        return Ok(());
    }
    let sizes = files.transformer_config()?;
    trace::attention::chosen_heads(attention, sizes.layers, sizes.heads)?;
    Ok(())
}
