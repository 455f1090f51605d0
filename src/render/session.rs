//! A session: which model is meant, with which settings, where its files are and what computes it.
//!
//! Nothing is loaded here. What a caller should know is told through [`Event`]s.

use std::collections::BTreeMap;

use crate::{
    Error, Result,
    cache::CacheChanges,
    checkpoint::lora::Lora,
    config::{Layer, Layers, Origin, Settings},
    device::{Compute, Probe, Selection},
    hub::{Transfer, file_hash::FileHashes},
    memory::{ByteSize, Fit, Free, GpuRoom, MemoryPlan, Sizes, fit},
    models::{
        Causality, DecoderKind, Found, Located, Locator, ModelChoice, ModelFile, ModelFiles, ModelLocation, Needs,
        OwnFiles, Role, columns_of,
    },
    prompts::PromptSpan,
    recipe::{FileRecord, ModelRecord, Recipe, VideoRecord},
    render::{Event, jobs::Work, speed::Speeds},
    rollout::request::VideoLength,
    rollout::{CancelToken, LoopKind},
};

/// Letters of a prompt that fills the text encoder of Wan.
const LONG_PROMPT: usize = 511;

/// A model and the settings to run it with.
pub struct Session {
    locator: Locator,
    /// The model and its preset.
    pub located: Located,
    /// Every setting with its origin.
    pub settings: Settings,
    /// Where networks are computed.
    pub selection: Selection,
    needs: Needs,
}

impl Session {
    /// Decides which model is meant. `encoder`: whether a video begins with pictures.
    ///
    /// # Errors
    /// When there is no such model or preset.
    pub fn locate(
        locator: &Locator,
        layers: &Layers,
        encoder: bool,
        cancel: &CancelToken,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Self> {
        let (model, preset) = (layers.model(), layers.preset());
        let needs = Needs {
            decoder: layers.vae(),
            encoder,
            ..Needs::default()
        };
        let own = OwnFiles::given(&layers.own_files(), needs.decoder)?;
        let choice = ModelChoice {
            model: model.as_deref(),
            preset: preset.as_deref(),
            own: Some(&own),
        };
        let located = locator.locate(choice, needs, &|| cancel.is_cancelled())?;
        if let Some(reason) = &located.fallback {
            observe(Event::Note(&format!(
                "the model `{}` is not on this machine and cannot be downloaded ({reason}); using the small bundled \
                 model `toy`, which shows a toy world",
                crate::models::preset::Preset::DEFAULT
            )));
        }
        observe(Event::Detail(&format!(
            "model {}, preset {}",
            located.model, located.preset_name
        )));
        let settings = layers.resolve(&located.preset_name, &located.preset);
        let selection = settings.selection()?;
        Ok(Self {
            locator: locator.clone(),
            located,
            settings,
            selection,
            needs,
        })
    }

    /// As [`Session::locate`], with settings that fit into `--max-vram` where it is given. `seconds`: of the longest
    /// video, if not that of the settings. A dry run shows the plan for a GPU on machines without one, too.
    ///
    /// # Errors
    /// As [`Session::locate`]; also when a setting cannot be.
    pub fn fitted(
        locator: &Locator,
        layers: Layers,
        encoder: bool,
        seconds: Option<f64>,
        dry_run: bool,
        cancel: &CancelToken,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<Self> {
        let model = Self::locate(locator, &layers, encoder, cancel, observe)?;
        let Some(ByteSize(limit)) = model.settings.max_vram.value else {
            return Ok(model);
        };
        if !model.selection.is_gpu() && !dry_run {
            observe(Event::Note(
                "--max-vram is about the memory of a GPU and changes nothing on the CPU",
            ));
            return Ok(model);
        }
        let Some(sizes) = model.sizes(&model.found()?)? else {
            observe(Event::Note(
                "what fits into --max-vram cannot be told before the model files are on this machine",
            ));
            return Ok(model);
        };
        let free = model.free();
        let chosen = fit(&sizes, &model.sample(seconds)?, free, model.planned_dtype(), limit)?;
        observe(Event::Note(&chosen.summary(limit, free)));
        if chosen.changes.is_empty() {
            return Ok(model);
        }
        let mut fitted = Self::locate(
            locator,
            &layers.with(overrides(&model.settings, &chosen)),
            encoder,
            cancel,
            observe,
        )?;
        fitted.selection.text_on_cpu = chosen.text_on_cpu;
        Ok(fitted)
    }

    /// Whether a model that was loaded for one serves the other.
    pub fn same_weights(&self, other: &Self) -> bool {
        let of = |session: &Self| {
            let Located { location, preset, .. } = &session.located;
            let loras = session.settings.lora.value.clone();
            (location.clone(), preset.files.clone(), preset.sources.clone(), loras)
        };
        self.needs == other.needs && of(self) == of(other)
    }

    /// The model and the settings that somebody gave, by name, without those that are about this machine alone.
    pub fn given_settings(&self) -> BTreeMap<String, String> {
        const OF_MACHINE: [&str; 4] = ["threads", "preview", "seed", "model"];
        let entries = self.settings.entries().into_iter().filter_map(|entry| {
            let given = !matches!(entry.origin, Origin::Preset { .. } | Origin::Default);
            let kept = given && !OF_MACHINE.contains(&entry.key);
            Some((entry.key.to_owned(), entry.text.filter(|_| kept)?))
        });
        let model = match &self.located.location {
            ModelLocation::Folder(folder) | ModelLocation::Found(folder) => {
                let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
                folder.to_string_lossy().into_owned()
            }
            ModelLocation::Hub | ModelLocation::Bundled => self.located.model.clone(),
        };
        entries.chain([("model".to_owned(), model)]).collect()
    }

    /// What is known of the speed of models on this machine.
    pub fn speeds(&self) -> Speeds {
        Speeds::read(self.locator.own_cache())
    }

    /// Refuses the toy model in place of the default one: nobody watches, or many videos would be made with it.
    ///
    /// # Errors
    /// [`Error::NoModel`] with why the default one cannot be had.
    pub fn refuse_fallback(&self) -> Result<()> {
        match &self.located.fallback {
            Some(reason) => Err(Error::NoModel {
                name: crate::models::preset::Preset::DEFAULT,
                reason: reason.to_string(),
            }),
            None => Ok(()),
        }
    }

    /// Opens the device, after saying why it is not a GPU where one was hoped for.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn compute(&self, observe: &mut dyn FnMut(Event<'_>)) -> Result<Compute> {
        if let Some(note) = &self.selection.note {
            observe(Event::Note(note));
        }
        observe(Event::Detail(&format!("device {}", self.selection)));
        Ok(self.selection.open()?)
    }

    /// Sizes of the networks; `None` when files are missing whose sizes are not known either.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn sizes(&self, found: &Found) -> Result<Option<Sizes>> {
        match found {
            Found::Files(files) => Sizes::of(files).map(Some),
            Found::Missing(_) if !self.located.own.is_empty() => Ok(None),
            // All embedded presets of a kind are of one size; a file of the user may be of another.
            Found::Missing(_) if crate::models::preset::Preset::names().contains(&self.located.model.as_str()) => {
                let decoder = self.needs.decoder;
                Ok(Some(match self.located.preset.controls {
                    Some(controls) => {
                        let (keys, mouse) = columns_of(controls);
                        Sizes::published_world(decoder, keys, mouse)?
                    }
                    None => Sizes::published(decoder)?,
                }))
            }
            Found::Missing(_) => Ok(None),
        }
    }

    /// The memory of a video; `compute` is the device if it is open.
    ///
    /// # Errors
    /// When a setting breaks a rule.
    pub fn memory(&self, sizes: &Sizes, recipe: &Recipe, compute: Option<&Compute>) -> Result<MemoryPlan> {
        let limit = self.settings.max_vram.value.map(|size| size.0);
        if !self.selection.is_gpu() && (limit.is_none() || compute.is_some()) {
            return MemoryPlan::of_sizes(sizes, recipe);
        }
        let free = compute.and_then(Compute::memory).map(|memory| memory.free);
        let room = GpuRoom {
            dtype: self.planned_dtype(),
            bytes: match (limit, free) {
                (Some(limit), Some(free)) => Some(limit.min(free)),
                (limit, free) => limit.or(free).or_else(|| self.whole_gpu()),
            },
            text_on_cpu: self.selection.text_on_cpu,
        };
        MemoryPlan::on_gpu(sizes, recipe, &room)
    }

    /// As a real run on this machine would check it, for a dry run, which may be a plan for another one.
    ///
    /// # Errors
    /// As [`Session::check_memory`].
    pub fn check_dry(&self, sizes: &Sizes, recipe: &Recipe) -> Result<()> {
        // With a limit of GPU memory, the plan is for such a GPU, be it here or not.
        let for_gpu = self.selection.is_gpu() || self.settings.max_vram.value.is_some();
        let plan = if for_gpu {
            self.memory(sizes, recipe, None)
        } else {
            MemoryPlan::of_sizes(sizes, recipe)
        };
        Ok(plan?.check()?)
    }

    /// Refuses what needs more memory than there is, before anything is loaded.
    ///
    /// # Errors
    /// With the parts that are largest and what makes them smaller.
    pub fn check_memory(&self, files: &ModelFiles, works: &[Work], compute: &Compute) -> Result<()> {
        let sizes = Sizes::of(files)?;
        for work in works {
            self.memory(&sizes, &work.job.recipe, Some(compute))?.check()?;
        }
        Ok(())
    }

    /// All memory of the GPU that is chosen.
    fn whole_gpu(&self) -> Option<u64> {
        let number = self.selection.gpu()?;
        Probe::of_machine().gpus.get(number).map(|gpu| gpu.memory)
    }

    /// The number format of a plan for a GPU, be there one or not.
    fn planned_dtype(&self) -> candle_core::DType {
        if self.selection.is_gpu() || self.settings.dtype.value == crate::device::DtypeChoice::F32 {
            self.selection.dtype()
        } else {
            candle_core::DType::BF16
        }
    }

    /// Settings that nobody gave.
    fn free(&self) -> Free {
        let settings = &self.settings;
        let free = |origin: &Origin| matches!(origin, Origin::Preset { .. } | Origin::Default);
        let tiny = Needs {
            decoder: DecoderKind::Tae,
            ..self.needs
        };
        // What a fit changes of the cache.
        let given = settings.cache.given;
        let sizes = [given.window, given.sink, given.budget, given.recent];
        Free {
            decoder: free(&settings.vae.origin) && self.locator.files(&self.located, tiny).is_ok(),
            // A rolling window needs all of its cache.
            cache: sizes.iter().all(Option::is_none) && self.located.preset.rollout.kind == LoopKind::Chunks,
            size: free(&settings.size.origin),
        }
    }

    /// A video of the settings with a long prompt, to plan with.
    pub fn sample(&self, seconds: Option<f64>) -> Result<Recipe> {
        let (settings, preset) = (&self.settings, &self.located.preset);
        let (rollout, size, fps) = (preset.rollout, settings.size.value.checked()?, settings.fps.value);
        let seconds = seconds.unwrap_or(0.0).max(settings.seconds.value);
        let length = VideoLength::of_seconds(seconds, fps, rollout.chunk, rollout.first_frame_alone)?;
        Ok(Recipe {
            prompts: vec![PromptSpan {
                text: "a".repeat(LONG_PROMPT),
                latent_frame: 0,
                seconds: 0.0,
                on_switch: Default::default(),
            }],
            sampler: settings.sampler(&preset.sampler),
            cache: settings.cache(),
            rollout,
            video: VideoRecord::new(size, fps, length),
            ..Recipe::new(self.outline())
        })
    }

    /// The files, or which of them are missing.
    ///
    /// # Errors
    /// As [`Locator::files`].
    pub fn found(&self) -> Result<Found> {
        let found = self.locator.files(&self.located, self.needs)?;
        Ok(match found {
            Found::Files(files) => Found::Files(Box::new(files.with_loras(&self.settings.lora.value.0))),
            missing => missing,
        })
    }

    /// The files; what is missing is downloaded, after saying how much that is.
    ///
    /// # Errors
    /// When a file cannot be had.
    pub fn files(&self, cancel: &CancelToken, observe: &mut dyn FnMut(Event<'_>)) -> Result<ModelFiles> {
        // The parts of a set are known once its index is there.
        for round in 0..2 {
            let Found::Missing(missing) = self.found()? else { break };
            // What is no LoRA need not wait for the model.
            for lora in self.settings.lora.value.0.iter().filter(|_| round == 0) {
                Lora::open(&lora.path)?;
            }
            let model = self.located.model.as_str();
            let mut listen = |transfer: Transfer<'_>| observe(Event::Download { model, transfer });
            let hub = self.locator.hub()?;
            hub.pull_missing(&missing, &mut listen, &|| cancel.is_cancelled())?;
        }
        match self.found()? {
            Found::Files(files) => {
                self.tell_files(&files, observe)?;
                Ok(*files)
            }
            Found::Missing(missing) => Err(Error::StillMissing {
                files: missing
                    .iter()
                    .map(|source| source.label())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }

    /// Says what the files are; refuses a model that is not causal, and warns of one that is probably not.
    ///
    /// # Errors
    /// [`Error::BaseModel`]; also when the transformer cannot be opened.
    pub fn tell_files(&self, files: &ModelFiles, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        for line in files.recognised(self.needs) {
            observe(Event::Detail(&line));
        }
        match files.causality(&FileHashes::new(self.locator.own_cache()))? {
            Causality::Base { reason } => observe(Event::Warning(&format!(
                "the transformer is probably a base model, which is not causal and gives noise here ({reason}); causal models \
                 are listed by `deepforcing models list`"
            ))),
            Causality::Unknown if self.located.own.replaces(Role::Transformer) && self.preset_is_default() => {
                observe(Event::Note(&format!(
                    "nothing in the file of the transformer tells which causal model it is: it runs with the settings of \
                     `{}`; --preset NAME takes others",
                    self.located.preset_name
                )));
            }
            Causality::Unknown | Causality::Causal { .. } => {}
        }
        Ok(())
    }

    /// Whether nobody chose the preset.
    fn preset_is_default(&self) -> bool {
        let is_default = self.located.preset_name == crate::models::preset::Preset::DEFAULT;
        matches!(self.settings.preset.origin, Origin::Default) && is_default
    }

    /// Those of `files` that the run needs.
    pub fn list(&self, files: &ModelFiles) -> Vec<ModelFile> {
        files.list(self.needs)
    }

    /// The model without its files, for a recipe.
    pub fn outline(&self) -> ModelRecord {
        ModelRecord {
            model: match &self.located.location {
                ModelLocation::Folder(_) | ModelLocation::Found(_) => None,
                ModelLocation::Hub | ModelLocation::Bundled => Some(self.located.model.clone()),
            },
            preset: self.located.preset_name.clone(),
            decoder: self.needs.decoder,
            files: Vec::new(),
        }
    }

    /// The model and its files with their hashes, for a recipe.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn record(&self, files: &ModelFiles) -> Result<ModelRecord> {
        let hashes = FileHashes::new(self.locator.own_cache());
        let mut record = self.outline();
        for file in self.list(files) {
            let unreadable = |error: std::io::Error| Error::ModelFileUnreadable {
                path: file.path.clone(),
                reason: error.to_string(),
            };
            record.files.push(FileRecord {
                role: file.role.name().into(),
                name: match file.strength {
                    // It is found again by its path, as it belongs to no model.
                    Some(_) => file.path.to_string_lossy().into(),
                    None => file
                        .path
                        .file_name()
                        .map_or_else(String::new, |name| name.to_string_lossy().into()),
                },
                bytes: std::fs::metadata(&file.path).map_err(unreadable)?.len(),
                sha256: Some(hashes.sha256(&file.path).map_err(unreadable)?),
                repo: file.source.as_ref().map(|source| source.repo.clone()),
                revision: file.source.as_ref().map(|source| source.revision.clone()),
                strength: file.strength,
                alpha: file.alpha,
            });
        }
        Ok(record)
    }
}

/// What a fit has changed, as settings.
fn overrides(settings: &Settings, fit: &Fit) -> Layer {
    Layer {
        vae: (fit.decoder != settings.vae.value).then_some(fit.decoder),
        size: (fit.size != settings.size.value).then_some(fit.size),
        cache: CacheChanges::between(&settings.cache(), &fit.cache),
        ..Layer::default()
    }
}
