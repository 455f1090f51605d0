//! The videos of a run, one after the other, with one load of the model.

use std::{collections::VecDeque, time::Duration};

use crate::{
    Error, Result,
    device::Compute,
    files,
    models::ModelFiles,
    render::{Event, InWork, Outcome, RenderError, engine::Engine, jobs::Work, render},
    rollout::CancelToken,
};

/// A loaded model and the videos that it is still to make.
pub struct Run {
    engine: Engine,
    works: VecDeque<Work>,
    count: usize,
    /// Pictures of all videos, and of those that are made.
    pictures: usize,
    done: usize,
}

/// A video of a run that is made, or stopped with what was there as a proper file.
pub struct Made {
    pub work: Work,
    pub outcome: Outcome,
}

impl Run {
    /// Loads the model and reads the prompts of all `works`.
    ///
    /// # Errors
    /// As [`Engine::load`] and [`Engine::read_prompts`].
    pub fn load(
        files: &ModelFiles,
        compute: &Compute,
        works: Vec<Work>,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Self> {
        observe(Event::Stage("loading the model"));
        let mut engine = Engine::load(files, compute)?;
        observe(Event::Stage("reading the prompts"));
        let texts = || {
            let prompts = works.iter().flat_map(|work| &work.job.recipe.prompts);
            prompts.map(|prompt| prompt.text.as_str())
        };
        engine.read_prompts(texts())?;
        tell_truncated(&engine, texts(), observe);
        Ok(Self {
            engine,
            count: works.len(),
            pictures: works.iter().map(|work| work.job.recipe.video.pictures).sum(),
            done: 0,
            works: works.into(),
        })
    }

    /// Time that loading the model took.
    pub fn loading(&self) -> Duration {
        self.engine.loading()
    }

    /// Makes the next video and writes its recipe beside it where that was asked for; `None` when all are made.
    ///
    /// # Errors
    /// As [`render`]; [`Error::Cancelled`] when the run is to stop and no video is in work; [`Error::CannotWrite`] when
    /// the video is complete and its recipe cannot be written.
    pub fn next(
        &mut self,
        cancel: &CancelToken,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<Made>, RenderError> {
        let number = self.count - self.works.len() + 1;
        let Some(mut work) = self.works.pop_front() else {
            return Ok(None);
        };
        if cancel.is_cancelled() {
            return Err(Error::Cancelled.into());
        }
        if let Some(start) = &work.start {
            observe(Event::Stage("encoding the start"));
            work.job.given = Some(self.engine.given(start)?);
        }
        let video = &work.job.recipe.video;
        let run = (self.done, self.pictures);
        self.done += video.pictures;
        observe(Event::Video(InWork::of(video, (number, self.count), run)));
        let outcome = render(&mut self.engine, &work.job, cancel, &mut *observe)?;
        if let Some(summary) = &outcome.summary {
            observe(Event::Finished {
                summary,
                complete: outcome.complete,
            });
            work.write_sidecar(&outcome)?;
        }
        Ok(Some(Made { work, outcome }))
    }
}

impl Work {
    /// Writes the recipe of what was made beside the video, if it is to be there.
    fn write_sidecar(&self, outcome: &Outcome) -> Result<()> {
        let (Some(path), Some(summary)) = (&self.sidecar, &outcome.summary) else {
            return Ok(());
        };
        let mut recipe = self.job.recipe.clone();
        recipe.encoding.written_by(&summary.encoder);
        if !outcome.complete {
            recipe.stopped_after(summary.frames as usize);
        }
        let Some(told) = self.job.disclosure.of(&recipe) else {
            return Ok(());
        };
        let text = told.to_json_pretty() + "\n";
        files::replace(path, text.as_bytes()).map_err(|error| Error::CannotWrite {
            path: path.clone(),
            reason: error.to_string(),
        })
    }
}

/// Tells which of `texts`, once each, are longer than what the model reads of them.
pub(crate) fn tell_truncated<'a>(
    engine: &Engine,
    texts: impl IntoIterator<Item = &'a str>,
    observe: &mut dyn FnMut(Event<'_>),
) {
    let mut told: Vec<&str> = Vec::new();
    for text in texts {
        let Some(embedding) = engine.embedding(text).filter(|embedding| embedding.truncated) else {
            continue;
        };
        if told.contains(&text) {
            continue;
        }
        told.push(text);
        observe(Event::Note(&format!(
            "the prompt has {} tokens; the model reads the first {}",
            embedding.total_tokens, embedding.tokens
        )));
    }
}
