//! Folders of sweeps and batches with small videos, made without a model.

use std::{
    fs,
    path::{Path, PathBuf},
};

use deepforcing::{
    batch::{Entry, EntryTimes, Key},
    metrics::{Metrics, Options, Report},
    models::DecoderKind,
    prompts::PromptSpan,
    recipe::{ModelRecord, Recipe},
    sweep::PLAN_FILE,
    video::{Form, Target, VideoSettings, VideoWriter},
};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

pub const FPS: u32 = 8;

/// What a folder is to hold.
#[derive(Clone)]
pub struct Shape {
    pub sinks: Vec<usize>,
    pub prompts: Vec<String>,
    pub seeds: Vec<u64>,
    pub seconds: u64,
    pub size: (u32, u32),
    /// Whether pictures are grain that no codec makes small.
    pub grain: bool,
}

impl Default for Shape {
    /// Three settings, two prompts, two seeds, 4 s.
    fn default() -> Self {
        Self {
            sinks: vec![0, 4, 10],
            prompts: ["a red ball over green hills", "a blue cube in the snow"]
                .map(String::from)
                .into(),
            seeds: vec![0, 1],
            seconds: 4,
            size: (96, 64),
            grain: false,
        }
    }
}

/// An output folder.
pub struct Folder {
    folder: TempDir,
    pub shape: Shape,
}

impl Folder {
    pub fn empty() -> Self {
        Self {
            folder: tempdir().unwrap(),
            shape: Shape::default(),
        }
    }

    /// A finished sweep over the size of the sink.
    pub fn sweep(shape: Shape) -> Self {
        let made = Self {
            folder: tempdir().unwrap(),
            shape,
        };
        made.write_plan(|_| {});
        let lines: Vec<_> = made.items().iter().map(|item| made.entry(item)).collect();
        made.write_lines(&lines);
        made
    }

    /// The same, with one video per setting, copied for all prompts and seeds: for long ones.
    pub fn sweep_of_copies(shape: Shape) -> Self {
        let made = Self {
            folder: tempdir().unwrap(),
            shape,
        };
        made.write_plan(|_| {});
        let mut lines: Vec<Entry> = Vec::new();
        for item in made.items() {
            let line = match lines.iter().find(|line| line.point == Some(item.row)) {
                None => made.entry(&item),
                Some(first) => {
                    let (mut line, file) = (first.clone(), made.name(&item));
                    fs::copy(made.file(&line.file), made.file(&file)).unwrap();
                    (line.file, line.index, line.sample, line.seed) = (file, item.index, item.sample, item.seed);
                    line.prompt = made.shape.prompts[item.index].clone();
                    line
                }
            };
            lines.push(line);
        }
        made.write_lines(&lines);
        made
    }

    fn name(&self, item: &Item) -> String {
        format!("sink-{}/{:05}-{}.mp4", item.sink, item.index, item.sample)
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    /// The plan, changed.
    pub fn write_plan(&self, change: impl FnOnce(&mut Value)) {
        let shape = &self.shape;
        let values: Vec<_> = shape.sinks.iter().map(usize::to_string).collect();
        let mut plan = json!({
            "format": 1,
            "deepforcing": "0.1.0",
            "command": ["bin/deepforcing", "sweep", "my prompts.txt", "--sink", "0,4,10"],
            "preset": null,
            "model": "toy",
            "seconds": shape.seconds as f64,
            "size": format!("{}x{}", shape.size.0, shape.size.1),
            "fps": f64::from(FPS),
            "axes": [{ "key": "cache.sink", "values": values }],
            "points": shape.sinks.iter().map(|sink| point(*sink)).collect::<Vec<_>>(),
            "prompts": shape.prompts.iter().enumerate().map(prompt).collect::<Vec<_>>(),
            "seeds": shape.seeds,
        });
        change(&mut plan);
        fs::write(self.file(PLAN_FILE), plan.to_string()).unwrap();
    }

    pub fn write_lines(&self, lines: &[Entry]) {
        let text: String = lines
            .iter()
            .map(|line| serde_json::to_string(line).unwrap() + "\n")
            .collect();
        fs::write(self.file("manifest.jsonl"), text).unwrap();
    }

    /// Every video of the grid.
    pub fn items(&self) -> Vec<Item> {
        let mut items = Vec::new();
        for (row, &sink) in self.shape.sinks.iter().enumerate() {
            for index in 0..self.shape.prompts.len() {
                for (sample, &seed) in self.shape.seeds.iter().enumerate() {
                    items.push(Item {
                        row,
                        sink,
                        index,
                        sample: sample as u32,
                        seed,
                    });
                }
            }
        }
        items
    }

    /// Makes the video of an item, with its line.
    pub fn entry(&self, item: &Item) -> Entry {
        let file = self.name(item);
        let (path, pictures) = (self.file(&file), self.shape.seconds * u64::from(FPS));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let grain = self.shape.grain.then_some(item.sink as u32);
        let metrics = make_video(
            &path,
            self.shape.size,
            pictures,
            item.sink as f64 + 1.0,
            item.seed + 2 * item.index as u64,
            grain,
        );
        Entry {
            bytes: fs::metadata(&path).unwrap().len(),
            file,
            key: "k".into(),
            sha256: "s".into(),
            pictures,
            index: item.index,
            sample: item.sample,
            id: None,
            seed: item.seed,
            prompt: self.shape.prompts[item.index].clone(),
            times: EntryTimes {
                denoise: 2.0,
                decode: 1.0,
                encode: 0.5,
                total: 3.0 + item.sink as f64,
            },
            point: Some(item.row),
            metrics: Some(metrics),
            metrics_of_file: false,
            recipe: self.recipe(item),
        }
    }

    fn recipe(&self, item: &Item) -> Value {
        let mut recipe = Recipe::new(ModelRecord {
            model: Some("toy".into()),
            preset: "toy".into(),
            decoder: DecoderKind::Wan,
            files: Vec::new(),
        });
        recipe.seed = item.seed;
        recipe.cache.sink = item.sink;
        recipe.prompts = vec![PromptSpan {
            latent_frame: 0,
            seconds: 0.0,
            text: self.shape.prompts[item.index].clone(),
            on_switch: Default::default(),
        }];
        recipe.video.width = self.shape.size.0 as usize;
        recipe.video.height = self.shape.size.1 as usize;
        recipe.video.fps = FPS;
        recipe.video.pictures = (self.shape.seconds * u64::from(FPS)) as usize;
        recipe.video.latent_frames = recipe.video.pictures / 4;
        Key::of(&recipe).recipe
    }

    /// The manifest with every line changed.
    pub fn change_lines(&self, change: impl Fn(usize, &mut Value)) {
        let text = self.read("manifest.jsonl");
        let lines = text.lines().enumerate().map(|(number, line)| {
            let mut value = serde_json::from_str(line).unwrap();
            change(number, &mut value);
            value.to_string() + "\n"
        });
        fs::write(self.file("manifest.jsonl"), lines.collect::<String>()).unwrap();
    }
}

/// A video of the grid.
pub struct Item {
    pub row: usize,
    pub sink: usize,
    pub index: usize,
    pub sample: u32,
    pub seed: u64,
}

fn point(sink: usize) -> Value {
    json!({
        "name": format!("sink-{sink}"),
        "label": format!("sink {sink}"),
        "settings": { "cache.sink": sink.to_string() },
        "resolved": { "cache.policy": "deep-forcing", "cache.sink": sink.to_string() },
    })
}

fn prompt((number, text): (usize, &String)) -> Value {
    json!({ "id": number.to_string(), "text": text })
}

/// A ball that moves over a background which fades by `drift`, or `grain`, and what is measured of it.
pub fn make_video(
    path: &Path,
    (width, height): (u32, u32),
    pictures: u64,
    drift: f64,
    seed: u64,
    grain: Option<u32>,
) -> Report {
    let mut settings = VideoSettings::new(width, height);
    settings.fps = FPS;
    let target = Target::parse(path, Some(Form::Mp4)).unwrap();
    let mut writer = VideoWriter::create(&target, settings).unwrap();
    let (columns, rows) = (width as usize, height as usize);
    let mut metrics = Metrics::new(columns, rows, FPS.into(), Options::default()).unwrap();
    for number in 0..pictures {
        let second = number as f64 / f64::from(FPS);
        let rgb = match grain {
            None => picture(columns, rows, second, drift, seed),
            Some(kind) => grainy(columns, rows, kind.wrapping_mul(7919) + second as u32),
        };
        metrics.push(&rgb).unwrap();
        writer.push(&rgb).unwrap();
    }
    writer.finish().unwrap();
    metrics.finish().unwrap()
}

/// Random colours in squares that are as large as a pixel of a contact sheet, other ones for each `seed`.
fn grainy(columns: usize, rows: usize, seed: u32) -> Vec<u8> {
    let square = rows.div_ceil(72);
    let byte = |column: usize, row: usize, channel: u32| {
        let at = (row / square * 4096 + column / square) as u32;
        let mixed =
            (at.wrapping_mul(3).wrapping_add(channel) ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
        (((mixed ^ (mixed >> 13)).wrapping_mul(0xc2b2_ae35)) >> 24) as u8
    };
    let pixels = (0..rows).flat_map(|row| (0..columns).map(move |column| (column, row)));
    pixels
        .flat_map(|(column, row)| [0, 1, 2].map(|channel| byte(column, row, channel)))
        .collect()
}

fn picture(columns: usize, rows: usize, second: f64, drift: f64, seed: u64) -> Vec<u8> {
    let (x, y) = (
        columns as f64 * (0.5 + 0.3 * (second + seed as f64).sin()),
        rows as f64 * 0.5,
    );
    let mut rgb = Vec::with_capacity(columns * rows * 3);
    for row in 0..rows {
        for column in 0..columns {
            let near = (column as f64 - x).hypot(row as f64 - y) < rows as f64 * 0.2;
            let fade = second * drift;
            let colour = match near {
                true => [220.0, 60.0, 40.0],
                false => [60.0 + fade, 120.0 + (row % 8) as f64 * 6.0, 200.0 - 2.0 * fade],
            };
            rgb.extend(colour.map(|part: f64| part.clamp(0.0, 255.0) as u8));
        }
    }
    rgb
}
