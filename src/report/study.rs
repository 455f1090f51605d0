//! What a folder holds: its settings, prompts and seeds, and the videos of each.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use super::{
    ReportError,
    axes::{self, Against, Group},
    colours::colour,
    lines::{self, Line},
};
use crate::{
    files,
    metrics::Report,
    sweep::{PLAN_FILE, Point, SweepPlan},
};

/// A folder of videos to be compared.
#[derive(Debug)]
pub(super) struct Study {
    pub folder: PathBuf,
    /// Name of the folder.
    pub title: String,
    pub plan: Option<SweepPlan>,
    pub rows_are: RowsAre,
    pub rows: Vec<Row>,
    pub prompts: Vec<Prompt>,
    /// What tells videos of one row and prompt apart: `seed 3`.
    pub seeds: Vec<String>,
    pub videos: Vec<Video>,
    /// Videos that the folder will hold, if that is known.
    pub expected: Option<usize>,
    /// What is not as it should be, for people.
    pub notes: Vec<String>,
    places: Places,
    order: Order,
}

/// How rows belong together.
#[derive(Debug, Default)]
struct Order {
    groups: Vec<Group>,
    against: Option<Against>,
    /// Of each row.
    colours: Vec<usize>,
}

/// Where things are in the lists of a study; there may be as many as videos.
#[derive(Debug, Default)]
struct Places {
    /// Numbers of the videos of each row.
    of_row: Vec<Vec<usize>>,
    /// By id and text; of equal ones the first.
    prompts: HashMap<(String, String), usize>,
    /// By text alone.
    texts: HashMap<String, usize>,
    seeds: HashMap<String, usize>,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowsAre {
    /// Settings of a sweep, or folders where its plan is lost.
    Settings,
    /// The prompts of a batch.
    Prompts,
    /// The seeds of a batch of one prompt.
    Seeds,
}

/// One line of the tables.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    /// Short and without spaces.
    pub name: String,
    pub label: String,
    /// All settings that have a meaning, by their names in the config file.
    pub settings: BTreeMap<String, String>,
    /// Why it has no videos.
    pub skipped: Option<String>,
    pub expected: Option<usize>,
}

/// A prompt and what its videos are named by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Prompt {
    pub id: String,
    pub text: String,
}

/// A finished video.
#[derive(Debug)]
pub(super) struct Video {
    pub line: Line,
    pub row: usize,
    pub prompt: usize,
    pub seed: usize,
    pub state: State,
    pub metrics: Option<Report>,
    /// Whether they were measured for this report, from the file.
    pub measured_now: bool,
}

/// What became of the file since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    There,
    Missing,
    /// Its size is another one.
    Changed,
    /// Its pictures cannot be decoded, or not all.
    Damaged,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::There => "there",
            Self::Missing => "missing",
            Self::Changed => "changed",
            Self::Damaged => "damaged",
        }
    }
}

impl Video {
    /// Playing time, if it is known.
    pub fn seconds(&self) -> Option<f64> {
        let measured = self.metrics.as_ref().map(|report| report.seconds);
        let counted = self.line.pictures.map(|pictures| pictures as f64);
        measured
            .or_else(|| Some(counted? / self.line.fps?))
            .filter(|seconds| *seconds > 0.0 && seconds.is_finite())
    }

    /// Width and height in pixels, if they are known.
    pub fn size(&self) -> Option<(u64, u64)> {
        let measured = self.metrics.as_ref();
        self.line
            .size
            .or_else(|| measured.map(|report| (report.width as u64, report.height as u64)))
            .filter(|(width, height)| (1..=16_384).contains(width) && (1..=16_384).contains(height))
    }
}

impl Study {
    /// Reads what `folder` says about itself; no video is opened.
    ///
    /// # Errors
    /// As [`lines::read`]; when there is a plan that cannot be read.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let lines::Lines { lines, notes } = lines::read(folder)?;
        let plan = read_plan(folder)?;
        let whole = fs::canonicalize(folder).unwrap_or_else(|_| folder.into());
        let title = whole.file_name().map(|name| name.to_string_lossy().into_owned());
        let mut study = Self {
            folder: folder.into(),
            title: title.unwrap_or_else(|| "videos".into()),
            plan,
            rows_are: RowsAre::Settings,
            rows: Vec::new(),
            prompts: Vec::new(),
            seeds: Vec::new(),
            videos: Vec::new(),
            expected: None,
            notes,
            places: Places::default(),
            order: Order::default(),
        };
        match study.plan.clone() {
            Some(plan) => study.take_sweep(&plan, lines),
            None if lines.iter().any(|line| line.point.is_some()) => study.take_folders(lines),
            None => study.take_batch(lines),
        }
        study.note_files();
        study.settle_order();
        Ok(study)
    }

    /// Whether rows are settings that can be better or worse than each other.
    pub fn compares(&self) -> bool {
        self.rows_are == RowsAre::Settings
    }

    pub fn of_row(&self, row: usize) -> impl Iterator<Item = &Video> {
        let numbers = self.places.of_row.get(row).into_iter().flatten();
        numbers.map(|number| &self.videos[*number])
    }

    fn settle_order(&mut self) {
        let groups = axes::groups(&self.rows);
        let against = if self.compares() {
            axes::against(&self.rows)
        } else {
            None
        };
        self.order = Order {
            colours: axes::colour_places(&self.rows, &groups, against.as_ref()),
            groups,
            against,
        };
    }

    /// The rows, those of one model together.
    pub fn groups(&self) -> &[Group] {
        &self.order.groups
    }

    /// The one number that rows differ in, if they do.
    pub fn against(&self) -> Option<&Against> {
        self.order.against.as_ref()
    }

    /// The colour of a row.
    pub fn colour(&self, row: usize) -> [u8; 3] {
        let place = self.order.colours.get(row).copied().unwrap_or(row);
        colour(place, self.rows.len())
    }

    fn take_sweep(&mut self, plan: &SweepPlan, lines: Vec<Line>) {
        let each = plan.prompts.len() * plan.seeds.len();
        self.rows = plan.points.iter().map(|point| row_of(point, each)).collect();
        for prompt in &plan.prompts {
            self.add_prompt(prompt.into());
        }
        for seed in &plan.seeds {
            self.add_seed(format!("seed {seed}"));
        }
        let mut names: HashMap<&str, usize> = HashMap::new();
        for (number, point) in plan.points.iter().enumerate() {
            names.entry(&point.name).or_insert(number);
        }
        self.expected = Some(each * plan.points.iter().filter(|point| point.skipped.is_none()).count());
        let mut strangers = 0;
        for line in lines {
            // Its folder is what tells; a list of points that a hand has changed may number them otherwise.
            let folder = line.file.split_once('/').map(|(folder, _)| folder);
            let named = folder.and_then(|folder| names.get(folder)).copied();
            match named.or(line.point.filter(|row| folder.is_none() && *row < self.rows.len())) {
                Some(row) => self.add(line, row),
                None => strangers += 1,
            }
        }
        if strangers > 0 {
            self.notes.push(format!(
                "{strangers} line{} of the manifest belong{} to no point of {PLAN_FILE} and {} left out",
                if strangers == 1 { "" } else { "s" },
                if strangers == 1 { "s" } else { "" },
                if strangers == 1 { "is" } else { "are" },
            ));
        }
    }

    /// A sweep without its plan: one row per folder.
    fn take_folders(&mut self, lines: Vec<Line>) {
        self.notes
            .push(format!("there is no {PLAN_FILE}: settings are named by their folders"));
        let mut names: HashMap<String, usize> = HashMap::new();
        for line in lines {
            let name = line.file.split('/').next().unwrap_or_default().to_owned();
            let row = *names.entry(name).or_insert_with_key(|name| {
                self.rows.push(Row {
                    label: name.clone(),
                    name: name.clone(),
                    ..Row::default()
                });
                self.rows.len() - 1
            });
            self.add(line, row);
        }
    }

    fn take_batch(&mut self, mut lines: Vec<Line>) {
        lines.sort_by_key(|line| (line.index, line.sample));
        let first = lines.first().map(|line| line.index);
        let many = lines.iter().any(|line| Some(line.index) != first);
        self.rows_are = if many { RowsAre::Prompts } else { RowsAre::Seeds };
        let mut rows: HashMap<(usize, u64), usize> = HashMap::new();
        for line in lines {
            let key = if many { (line.index, 0) } else { (0, line.seed) };
            let row = *rows.entry(key).or_insert_with(|| {
                let (name, label) = match many {
                    true => (name_of(&line), line.prompt.clone()),
                    false => (format!("seed-{}", line.seed), format!("seed {}", line.seed)),
                };
                self.rows.push(Row {
                    name,
                    label,
                    ..Row::default()
                });
                self.rows.len() - 1
            });
            self.add(line, row);
        }
    }

    fn add(&mut self, mut line: Line, row: usize) {
        let prompt = self.prompt_of(&line);
        let seed = match self.rows_are {
            RowsAre::Prompts => format!("sample {}", line.sample),
            RowsAre::Settings | RowsAre::Seeds => format!("seed {}", line.seed),
        };
        let seed = self.add_seed(seed);
        let state = match fs::metadata(self.folder.join(&line.file)) {
            Ok(file) if !file.is_file() => State::Missing,
            Ok(file) if line.bytes.is_none_or(|bytes| bytes == file.len()) => State::There,
            Ok(_) => State::Changed,
            Err(_) => State::Missing,
        };
        let metrics = line.measures.take();
        if self.places.of_row.len() <= row {
            self.places.of_row.resize_with(row + 1, Vec::new);
        }
        self.places.of_row[row].push(self.videos.len());
        self.videos.push(Video {
            line,
            row,
            prompt,
            seed,
            state,
            metrics,
            measured_now: false,
        });
    }

    fn prompt_of(&mut self, line: &Line) -> usize {
        let same = |prompt: &Prompt| prompt.text == line.prompt;
        if self.prompts.get(line.index).is_some_and(same) {
            return line.index;
        }
        let key = (name_of(line), line.prompt.clone());
        let known = self.places.prompts.get(&key).copied();
        let by_text = || {
            self.plan
                .as_ref()
                .and_then(|_| self.places.texts.get(&line.prompt))
                .copied()
        };
        known.or_else(by_text).unwrap_or_else(|| {
            let (id, text) = key;
            self.add_prompt(Prompt { id, text })
        })
    }

    /// The number of a prompt that is new.
    fn add_prompt(&mut self, prompt: Prompt) -> usize {
        let number = self.prompts.len();
        let key = (prompt.id.clone(), prompt.text.clone());
        self.places.prompts.entry(key).or_insert(number);
        self.places.texts.entry(prompt.text.clone()).or_insert(number);
        self.prompts.push(prompt);
        number
    }

    /// The number of a seed, be it new or known.
    fn add_seed(&mut self, label: String) -> usize {
        let next = self.seeds.len();
        let number = *self.places.seeds.entry(label.clone()).or_insert(next);
        if number == next {
            self.seeds.push(label);
        }
        number
    }

    fn note_files(&mut self) {
        let count = |state| self.videos.iter().filter(|video| video.state == state).count();
        let (missing, changed) = (count(State::Missing), count(State::Changed));
        if missing > 0 {
            self.notes.push(format!(
                "{missing} of {} videos in the manifest {} not in the folder any more; what was measured of them is shown",
                self.videos.len(),
                if missing == 1 { "is" } else { "are" }
            ));
        }
        if changed > 0 {
            self.notes.push(format!(
                "{changed} video{} changed since {} measured (another size)",
                if changed == 1 { "" } else { "s" },
                if changed == 1 { "it was" } else { "they were" },
            ));
        }
        let failed = failures(&self.folder);
        if failed > 0 {
            self.notes.push(format!(
                "{failed} video{} could not be made: see failed.jsonl",
                if failed == 1 { "" } else { "s" }
            ));
        }
    }
}

impl From<&crate::sweep::SweepPrompt> for Prompt {
    fn from(prompt: &crate::sweep::SweepPrompt) -> Self {
        Self {
            id: prompt.id.clone(),
            text: prompt.text.clone(),
        }
    }
}

fn row_of(point: &Point, videos: usize) -> Row {
    Row {
        name: point.name.clone(),
        label: point.label.clone(),
        settings: match point.resolved.is_empty() {
            true => point.settings.clone(),
            false => point.resolved.clone(),
        },
        skipped: point.skipped.clone(),
        expected: Some(if point.skipped.is_none() { videos } else { 0 }),
    }
}

/// The id of a prompt, or its number.
fn name_of(line: &Line) -> String {
    line.id.clone().unwrap_or_else(|| line.index.to_string())
}

fn read_plan(folder: &Path) -> Result<Option<SweepPlan>, ReportError> {
    let path = folder.join(PLAN_FILE);
    let wrong = |reason: String| ReportError::Plan {
        path: path.clone(),
        reason,
    };
    match files::read(&path, files::LONGEST_TEXT) {
        Ok(bytes) => {
            let plan: SweepPlan = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
            plan.check_names().map_err(wrong)?;
            Ok(Some(plan))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Lines of the folder's lists of failures.
fn failures(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let lists = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("failed") && name.ends_with(".jsonl") && !name.ends_with(".trace.jsonl")
    });
    let lines = |text: String| text.lines().filter(|line| !line.trim().is_empty()).count();
    lists
        .filter_map(|entry| files::read_text(&entry.path(), files::LONGEST_TEXT).ok())
        .map(lines)
        .sum()
}
