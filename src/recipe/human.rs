//! Recipes as text for people: one line per subject, with the name of the subject in front.
//!
//! A recipe may come from a file of somebody else; what is printed of it holds no control characters.

use super::{FileRecord, Recipe, StartKind};
use crate::{
    cache::CacheSettings,
    files::said::printable,
    hub::human_bytes,
    rollout::{LoopKind, OnSwitch, sampler::SamplerSettings},
};

/// Changes of the action that are shown.
const RUNS_SHOWN: usize = 100;
/// Letters of a hash that are shown.
const HASH_SHOWN: usize = 12;

impl Recipe {
    /// Several lines of text.
    pub fn human(&self) -> String {
        let mut text = row("made by", &format!("deepforcing {}", printable(&self.version)));
        let model = self.model.model.as_deref().unwrap_or("from a folder");
        let model = format!(
            "{}, preset {}, decoder {}",
            printable(model),
            printable(&self.model.preset),
            self.model.decoder.name()
        );
        text += &row("model", &model);
        for file in &self.model.files {
            text += &row(&printable(&file.role), &file_text(file));
        }
        text += &self.human_settings();
        if let Some(written) = self.pictures_written {
            let whole = self.video.pictures;
            text += &row("stopped", &format!("after {written} of {whole} pictures"));
        }
        for note in &self.notes {
            text += &row("note", &printable(note));
        }
        text
    }

    /// The same without the model's files.
    pub fn human_settings(&self) -> String {
        let video = &self.video;
        let mut text = String::new();
        for prompt in &self.prompts {
            let prompt_text = printable(&prompt.text);
            match self.prompts.len() {
                1 => text += &row("prompt", &prompt_text),
                _ => {
                    let mut place = format!("from {} s (latent frame {})", prompt.seconds, prompt.latent_frame);
                    match prompt.on_switch {
                        OnSwitch::Keep => {}
                        OnSwitch::Recache { sink } => place += &format!(", cache encoded again (sink: {sink})"),
                        OnSwitch::Flush => place += ", cache flushed",
                        OnSwitch::Cut => place += ", a new scene",
                    }
                    text += &row("prompt", &format!("{place}: {prompt_text}"));
                }
            }
        }
        if let Some(actions) = &self.actions {
            text += &row("controls", actions.controls.scheme().name);
            text += &row("actions", &actions.summary(RUNS_SHOWN));
        }
        text += &row("seed", &self.seed.to_string());
        let size = format!(
            "{}x{}, {} pictures at {} per second = {} s ({} latent frames)",
            video.width,
            video.height,
            video.pictures,
            video.fps,
            (video.seconds() * 100.0).round() / 100.0,
            video.latent_frames
        );
        text += &row("video", &size);
        if let Some(start) = &self.start {
            let kind = match start.kind {
                StartKind::Image => "image",
                StartKind::Clip => "clip",
            };
            let (name, frames, hash) = (printable(&start.name), start.latent_frames, short_hash(&start.sha256));
            text += &row(
                "start",
                &format!("{kind} `{name}`, {frames} latent frames, SHA-256 {hash}"),
            );
        }
        text += &row("sampler", &sampler(&self.sampler));
        text += &row("cache", &cache(&self.cache));
        let alone = if self.rollout.first_frame_alone {
            ", the first frame alone"
        } else {
            ""
        };
        let rolling = match self.rollout.kind {
            LoopKind::Chunks => String::new(),
            LoopKind::Rolling => format!(", {} at a time in a rolling window", self.sampler.steps.len()),
        };
        text += &row(
            "chunks",
            &format!("{} latent frames{alone}{rolling}", self.rollout.chunk),
        );
        let encoding = &self.encoding;
        let mut quality = format!("crf {}, preset {}", encoding.crf, encoding.preset);
        if let Some(encoder) = &encoding.encoder {
            quality = format!("{}, {quality}", printable(encoder));
        }
        text += &row("encoding", &format!("{}, {quality}", printable(&encoding.container)));
        text + &row(
            "device",
            &format!("{}, {}", printable(&self.device), printable(&self.dtype)),
        )
    }
}

/// A line with the name of what it is about.
pub(crate) fn row(name: &str, value: &str) -> String {
    format!("{name:<13} {value}\n")
}

fn file_text(file: &FileRecord) -> String {
    let mut text = format!("{}, {}", printable(&file.name), human_bytes(file.bytes));
    if let Some(hash) = &file.sha256 {
        text += &format!(", SHA-256 {}", short_hash(hash));
    }
    if let Some(repo) = &file.repo {
        text += &format!(", {}", printable(repo));
        if let Some(revision) = &file.revision {
            text += &format!("@{}", short_hash(revision));
        }
    }
    for (name, value) in [("strength", file.strength), ("alpha", file.alpha)] {
        if let Some(value) = value {
            text += &format!(", {name} {value}");
        }
    }
    text
}

fn sampler(sampler: &SamplerSettings) -> String {
    let list = |steps: &[u32]| steps.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    let mut text = format!("steps {}", list(&sampler.steps));
    if let Some(first) = &sampler.first_chunk_steps {
        text += &format!("; first chunk {}", list(first));
    }
    let warp = if sampler.warp { "" } else { ", not warped" };
    text += &format!(
        "; shift {}{warp}, context noise {}",
        sampler.shift, sampler.context_noise
    );
    text
}

/// The policy with the parameters that it has.
fn cache(cache: &CacheSettings) -> String {
    let own = cache.policy.parameters();
    let own = own.map(|parameter| format!("{} {}", parameter.words(), parameter.text(cache)));
    let words: Vec<_> = std::iter::once(cache.policy.to_string()).chain(own).collect();
    words.join(", ")
}

/// The beginning of a hash.
pub(super) fn short_hash(hash: &str) -> String {
    let shown: String = printable(hash).chars().take(HASH_SHOWN).collect();
    match hash.chars().count() > HASH_SHOWN {
        true => shown + "…",
        false => shown,
    }
}
