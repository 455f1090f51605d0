//! Flags of what records a trace.

use std::path::PathBuf;

use clap::Args;

use crate::{
    Result,
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
    /// The options of a trace, if one is wanted.
    pub fn options(&self) -> Option<TraceOptions> {
        let options = |path: &PathBuf| TraceOptions {
            path: path.clone(),
            video: None,
            attention: self.attention.clone(),
            every: self.attention_every.unwrap_or_default(),
        };
        self.trace.as_ref().map(options)
    }

    /// The options of one video's trace, if one is wanted.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn checked(&self, overwrite: bool) -> Result<Option<TraceOptions>> {
        let options = self.options();
        if let Some(options) = &options {
            trace::check_output(&options.path, overwrite)?;
        }
        Ok(options)
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
    /// What is recorded of every video, if anything is.
    pub fn options(&self) -> Option<TraceOptions> {
        self.traces.then(|| TraceOptions {
            attention: self.attention.clone(),
            every: self.attention_every.unwrap_or_default(),
            ..TraceOptions::default()
        })
    }
}
