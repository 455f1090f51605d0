//! The page that draws a trace: one HTML file without a network.

mod pictures;

use std::{collections::HashMap, io, io::Write};

use serde::Serialize;

pub use self::pictures::Pictures;
use super::{
    Trace,
    format::{Attention, Chunk, RoomMade, Shape},
};
use crate::{cache::CacheSettings, prompts::PromptSpan};

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPTS: [&str; 4] = [
    include_str!("data.js"),
    include_str!("charts.js"),
    include_str!("views.js"),
    include_str!("main.js"),
];

/// What is drawn.
pub struct Page<'a> {
    pub trace: &'a Trace,
    /// Layers to draw, ascending, each below the trace's number of layers.
    pub layers: &'a [usize],
    pub pictures: &'a Pictures,
    /// What a reader should know, such as where the trace is cut off.
    pub notes: &'a [String],
}

/// The block of data in the page; the scripts know its keys.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Data<'a> {
    deepforcing: &'a str,
    notes: &'a [String],
    shape: &'a Shape,
    cache: &'a CacheSettings,
    /// Names and values of what the policy has beside the window, as people read them.
    parameters: Vec<(String, String)>,
    prompts: &'a [PromptSpan],
    seed: String,
    fps: u32,
    latent_frames: usize,
    complete: Option<bool>,
    layers: &'a [usize],
    chunks: Vec<Chunk>,
    events: Vec<&'a RoomMade>,
    attention: Vec<&'a Attention>,
    pictures: &'a HashMap<u64, String>,
}

impl Page<'_> {
    /// Writes the page.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let title = self.title();
        let data = in_script(&serde_json::to_string(&self.data())?);
        let scripts = SCRIPTS.concat();
        // What is put in is not looked through for further names.
        let mut rest = FRAME;
        for (name, text) in [
            ("{{title}}", in_html(&title).as_str()),
            ("{{style}}", STYLE),
            ("{{data}}", data.as_str()),
            ("{{script}}", scripts.as_str()),
        ] {
            let (before, after) = rest.split_once(name).unwrap_or((rest, ""));
            to.write_all(before.as_bytes())?;
            to.write_all(text.as_bytes())?;
            rest = after;
        }
        to.write_all(rest.as_bytes())
    }

    fn title(&self) -> String {
        let prompts = &self.trace.header.recipe.prompts;
        let prompt = prompts.first().map_or("a video", |prompt| prompt.text.as_str());
        let mut short: String = prompt.chars().take(80).collect();
        if short.len() < prompt.len() {
            short.push('…');
        }
        format!("Cache of “{short}”")
    }

    fn data(&self) -> Data<'_> {
        let Self {
            trace,
            layers,
            pictures,
            notes,
        } = *self;
        let recipe = &trace.header.recipe;
        let drawn = |layer: usize| layers.contains(&layer);
        let chunks = trace.chunks.iter().map(|chunk| {
            let mut chunk = chunk.clone();
            if chunk.layers.len() > 1 {
                chunk.layers = layers
                    .iter()
                    .filter_map(|layer| chunk.layers.get(*layer).cloned())
                    .collect();
            }
            chunk
        });
        Data {
            deepforcing: &trace.header.deepforcing,
            notes,
            shape: &trace.header.shape,
            cache: &recipe.cache,
            parameters: parameters(&recipe.cache),
            prompts: &recipe.prompts,
            // A number of 64 bits is more than a script can hold.
            seed: recipe.seed.to_string(),
            fps: recipe.video.fps,
            latent_frames: recipe.video.latent_frames,
            complete: trace.end.as_ref().map(|end| end.complete),
            layers,
            chunks: chunks.collect(),
            events: trace.events.iter().filter(|event| drawn(event.layer)).collect(),
            attention: trace.attention.iter().filter(|seen| drawn(seen.layer)).collect(),
            pictures: pictures.by_frame(),
        }
    }
}

fn parameters(cache: &CacheSettings) -> Vec<(String, String)> {
    let own = cache.policy.parameters().filter(|parameter| parameter.name != "window");
    own.map(|parameter| (parameter.words(), parameter.text(cache)))
        .collect()
}

/// JSON that can stand in a script element whatever its strings hold.
fn in_script(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => safe.push_str(&format!("\\u{:04x}", u32::from(character))),
            other => safe.push(other),
        }
    }
    safe
}

/// Text that can stand in HTML, attributes included.
fn in_html(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' | '>' | '&' | '"' | '\'' => safe.push_str(&format!("&#{};", u32::from(character))),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prompts_hold_ends_no_element() {
        let text = "</script><!--<script>&\u{2028}\"";
        let json = serde_json::to_string(text).unwrap();
        let safe = in_script(&json);
        assert!(!safe.contains(['<', '>', '&', '\u{2028}']), "{safe}");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
        assert_eq!(in_html("<a title='\"&'>"), "&#60;a title=&#39;&#34;&#38;&#39;&#62;");
    }

    #[test]
    fn the_page_has_a_place_for_everything_once() {
        for name in ["{{title}}", "{{style}}", "{{data}}", "{{script}}"] {
            assert_eq!(FRAME.matches(name).count(), 1, "{name}");
        }
        let order = ["{{title}}", "{{style}}", "{{data}}", "{{script}}"].map(|name| FRAME.find(name));
        assert!(order.is_sorted());
        // Nothing is fetched, and no script text ends the element that it is in.
        for part in SCRIPTS.iter().chain([&FRAME, &STYLE]) {
            let addresses = part.matches("://").count();
            assert_eq!(addresses, part.matches("\"http://www.w3.org/2000/svg\"").count());
        }
        assert!(SCRIPTS.iter().all(|script| !script.contains("</script")));
    }
}
