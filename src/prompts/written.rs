//! A video as a line of a `.jsonl` prompt file.

use serde_json::{Map, Value, json};

use super::{
    Moment, Scene,
    actions::ActionSource,
    jsonl::{ACTIONS, FAILURE, ID, IMAGE, ON_SWITCH, PROMPTS, SECONDS, SEED, SETTINGS, SWITCH},
};

impl Scene {
    /// The scene as an object of a `.jsonl` prompt file, with why it `failed`. Paths of images become absolute, so that
    /// the file can be anywhere.
    pub fn to_json(&self, failed: Option<&str>) -> Value {
        let mut object = Map::new();
        if let Some(id) = &self.id {
            object.insert(ID.into(), json!(id));
        }
        let texts: Vec<_> = self.segments.iter().map(|segment| segment.text.as_str()).collect();
        if !texts.is_empty() {
            object.insert(PROMPTS.into(), json!(texts));
        }
        let moments = self.segments.iter().skip(1).map(|segment| match segment.start {
            Moment::Seconds(seconds) => Some(json!(seconds)),
            Moment::LatentFrame(frame) => Some(json!(format!("{frame}f"))),
            // What is said by no list of switches.
            Moment::Share { .. } => None,
        });
        if let Some(moments) = moments.collect::<Option<Vec<_>>>()
            && !moments.is_empty()
        {
            object.insert(SWITCH.into(), json!(moments));
        }
        let rules = self.segments.iter().skip(1).map(|segment| segment.on_switch);
        if rules.clone().any(|rule| rule.is_some()) {
            object.insert(ON_SWITCH.into(), json!(rules.collect::<Vec<_>>()));
        }
        if let Some(seed) = self.seed {
            object.insert(SEED.into(), json!(seed));
        }
        if let Some(seconds) = self.seconds {
            object.insert(SECONDS.into(), json!(seconds));
        }
        if let Some(image) = &self.image {
            let path = std::path::absolute(image).unwrap_or_else(|_| image.clone());
            object.insert(IMAGE.into(), json!(path.to_string_lossy()));
        }
        let actions = self.actions.as_ref().map(|actions| match actions {
            ActionSource::Text(text) => text.clone(),
            ActionSource::File(path) => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                path.to_string_lossy().into_owned()
            }
        });
        if let Some(actions) = actions {
            object.insert(ACTIONS.into(), json!(actions));
        }
        if !self.settings.is_empty() {
            object.insert(SETTINGS.into(), json!(self.settings));
        }
        if let Some(failed) = failed {
            object.insert(FAILURE.into(), json!(failed));
        }
        Value::from(object)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::prompts::{Format, read_prompts_from};

    #[test]
    fn a_written_scene_reads_as_it_was() {
        let lines = [
            r#"{"prompt": "a", "seed": 18446744073709551615, "id": 7}"#,
            r#"{"prompts": ["a", "b", "c"], "switch": [1.5, "40f"], "seconds": 9.5, "image": "/x.png"}"#,
            r#"{"prompts": ["a \"b\"", "c"]}"#,
            r#"{"prompt": "a", "settings": {"model": "toy", "cache.sink": "4"}}"#,
            r#"{"prompts": ["a", "b", "c"], "switch": [1, 2], "on_switch": ["flush", null]}"#,
            r#"{"prompts": ["a \"b\"", "c"], "on_switch": "recache"}"#,
            r#"{"image": "/x.png", "actions": "w*48, none*"}"#,
            r#"{"image": "/x.png", "actions": "/walks/a.csv"}"#,
            r#"{"image": "/x.png"}"#,
        ];
        let read = |text: &str| {
            let list = read_prompts_from(text.as_bytes(), "x", Format::JsonLines, Path::new(""));
            list.unwrap().scenes
        };
        let scenes = read(&lines.join("\n"));
        let written: Vec<_> = scenes
            .iter()
            .map(|scene| scene.to_json(Some("disk on fire")).to_string())
            .collect();
        assert!(written[0].contains("disk on fire"));
        assert_eq!(read(&written.join("\n")), scenes);
    }
}
