//! `--dry-run`: what would be done, without loading a weight.

use serde_json::{Value, json};

use crate::{
    Error,
    cli::{
        Failure,
        flags::RunFlags,
        live::clock,
        printer::{Printer, print_result},
    },
    hub::human_bytes,
    memory::{MemoryPlan, Sizes, composition, state_bytes},
    models::{Found, ModelLocation},
    recipe::row,
    render::{Event, jobs::Work, session::Session, speed::Speeds},
};

/// Prints the plan of all videos.
///
/// # Errors
/// With why the real run would be refused.
pub(super) fn show(works: &[Work], session: &Session, running: &RunFlags, printer: &Printer) -> Result<(), Failure> {
    let (found, speeds, json) = (session.found()?, session.speeds(), running.json);
    if let Found::Files(files) = &found {
        session.tell_files(files, &mut |event| match event {
            Event::Note(text) => printer.note(text),
            Event::Warning(text) => printer.warning(text),
            Event::Detail(text) => printer.detail(text),
            _ => {}
        })?;
    }
    // Once: the headers of all files are read for it.
    let sizes = session.sizes(&found)?;
    let mut refused: Option<Error> = None;
    let mut seconds = Some(0.0);
    let mut text = String::new();
    if !json {
        text.push_str(&model_lines(session, &found));
    }
    for work in works {
        let plan = Plan::new(work, session, sizes.as_ref(), &speeds)?;
        seconds = seconds.zip(plan.seconds).map(|(all, one)| all + one);
        if refused.is_none() {
            refused = plan.refusal(session, sizes.as_ref().filter(|_| !running.no_memory_check));
        }
        match json {
            true => text.push_str(&format!("{}\n", plan.as_json(session, &found))),
            false => text.push_str(&plan.as_text()),
        }
    }
    if sizes.is_none() {
        printer.note("memory cannot be estimated before the model files are on this machine");
    }
    print_result(text.as_bytes())?;
    if let (Some(seconds), true) = (seconds, works.len() > 1) {
        printer.note(&format!("{} videos take about {}", works.len(), clock(seconds)));
    }
    match refused {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// A file of the model: what it is, its size if known, where it is.
struct FileLine {
    role: &'static str,
    name: String,
    bytes: Option<u64>,
    present: bool,
}

fn file_lines(session: &Session, found: &Found) -> Vec<FileLine> {
    match found {
        Found::Files(files) => session
            .list(files)
            .into_iter()
            .map(|file| FileLine {
                role: file.role.name(),
                bytes: std::fs::metadata(&file.path).map(|metadata| metadata.len()).ok(),
                name: file.path.display().to_string(),
                present: true,
            })
            .collect(),
        Found::Missing(missing) => missing
            .iter()
            .map(|source| FileLine {
                role: "to download",
                name: source.label(),
                bytes: source.bytes,
                present: false,
            })
            .collect(),
    }
}

fn model_lines(session: &Session, found: &Found) -> String {
    let located = &session.located;
    let place = match &located.location {
        ModelLocation::Folder(folder) => format!("folder `{}`", folder.display()),
        ModelLocation::Found(path) if path.is_file() => format!("file `{}`", path.display()),
        ModelLocation::Found(path) => format!("found in `{}`", path.display()),
        ModelLocation::Hub => "Hugging Face cache".into(),
        ModelLocation::Bundled => "bundled".into(),
    };
    let mut text = row(
        "model",
        &format!("{}, preset {}, {place}", located.model, located.preset_name),
    );
    for file in file_lines(session, found) {
        let size = file.bytes.map_or("size unknown".into(), human_bytes);
        let note = if file.present { "" } else { ", not on this machine" };
        text.push_str(&row(file.role, &format!("{} ({size}{note})", file.name)));
    }
    text
}

/// What is known of one video.
struct Plan<'a> {
    work: &'a Work,
    memory: Option<MemoryPlan>,
    /// Bytes of the state on disk, if one is kept and the model is known.
    state: Option<u64>,
    /// About how long it takes.
    seconds: Option<f64>,
}

impl<'a> Plan<'a> {
    fn new(work: &'a Work, session: &Session, sizes: Option<&Sizes>, speeds: &Speeds) -> Result<Self, Error> {
        let recipe = &work.job.recipe;
        let (memory, state) = match sizes {
            Some(sizes) => (
                Some(session.memory(sizes, recipe, None)?),
                Some(state_bytes(sizes, recipe)?),
            ),
            None => (None, None),
        };
        let state = state.filter(|_| work.job.state.is_some());
        Ok(Self {
            work,
            memory,
            state,
            seconds: speeds.estimate(recipe),
        })
    }

    /// Why the real run would be refused; without `sizes` not for its memory.
    fn refusal(&self, session: &Session, sizes: Option<&Sizes>) -> Option<Error> {
        let job = &self.work.job;
        if let Some(Err(error)) = sizes.map(|sizes| session.check_dry(sizes, &job.recipe)) {
            return Some(error);
        }
        // A terminal is where the plan goes to, not the video.
        if job.target.is_stdout() {
            return None;
        }
        job.target.check(job.overwrite).err().map(Error::from)
    }

    fn as_text(&self) -> String {
        let (job, recipe) = (&self.work.job, &self.work.job.recipe);
        let mut text = row("output", &job.target.to_string());
        let others = [
            ("latents", &job.save_latents),
            ("thumbnail", &job.thumbnail),
            ("sidecar", &self.work.sidecar),
            ("trace", &job.trace.as_ref().map(|trace| trace.path.clone())),
        ];
        for (name, path) in others {
            if let Some(path) = path {
                text.push_str(&row(name, &path.display().to_string()));
            }
        }
        if let Some(bytes) = self.state {
            let note = "beside the video while it is made; --no-state keeps none";
            text.push_str(&row("state", &format!("up to {} {note}", human_bytes(bytes))));
        }
        // The model's files are above.
        text.push_str(&recipe.human_settings());
        if let Some(memory) = &self.memory {
            text.push_str(&format!("{memory}"));
        }
        text.push_str(&row(
            "time",
            &match self.seconds {
                Some(seconds) => format!("about {}, as fast as the last video of this model here", clock(seconds)),
                None => "not known: no video was made with this model and decoder here before".into(),
            },
        ));
        text.push_str(&row(
            "cache",
            "what it holds while each chunk is denoised, in latent frames",
        ));
        for line in composition(recipe) {
            text.push_str(&format!("  {line}\n"));
        }
        text
    }

    fn as_json(&self, session: &Session, found: &Found) -> Value {
        let (job, recipe) = (&self.work.job, &self.work.job.recipe);
        let files = file_lines(session, found);
        let files: Vec<_> = files
            .iter()
            .map(|file| json!({"role": file.role, "name": file.name, "bytes": file.bytes, "present": file.present}))
            .collect();
        json!({
            "output": job.target.path().display().to_string(),
            "latents": job.save_latents,
            "thumbnail": job.thumbnail,
            "sidecar": self.work.sidecar,
            "trace": job.trace.as_ref().map(|trace| &trace.path),
            "files": files,
            "recipe": recipe,
            "memory": self.memory,
            "state_bytes": self.state,
            "seconds": self.seconds,
            "cache": composition(recipe),
        })
    }
}
