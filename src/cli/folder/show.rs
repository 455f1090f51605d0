//! `--dry-run`: what would be made, without loading a weight or writing a file.

use std::collections::HashMap;

use serde_json::json;

use crate::{
    Error,
    batch::{Item, List, Manifest, State, VideoRecordKey, of_video},
    cli::{
        Failure,
        live::clock,
        printer::{Printer, print_result},
        render::Screen,
    },
    memory::Sizes,
    models::Found,
    recipe::Recipe,
    render::{Event, session::Session},
};

/// Prints the plan of all items.
pub(in crate::cli) fn show(list: &List, items: &[Item], json: bool, printer: &Printer) -> Result<(), Failure> {
    let manifest = Manifest::read(list.folder, list.shard).map_err(Error::from)?;
    let record = |session: &Session| match session.found()? {
        Found::Files(files) => session.record(&files).map(Some),
        Found::Missing(_) => Ok(None),
    };
    let records = list.all_sessions().iter().map(record);
    let records = records.collect::<Result<Vec<_>, Error>>()?;
    let mut screen = Screen::new(printer);
    let mut observe = |event: Event<'_>| screen.see(event);
    let (planned, conflicts) = list.plan(items, &manifest, &records, &mut observe)?;
    let mut text = String::new();
    let (mut todo, mut there, mut bad) = (0, 0, 0);
    let (speeds, mut seconds) = (list.session.speeds(), Some(0.0));
    let mut memory = MemoryChecks::new(list)?;
    for planned in &planned {
        let (state, problem) = match &planned.state {
            State::Todo(recipe) => match memory.refusal(planned.item, recipe) {
                Some(reason) => ("cannot be made", Some(reason)),
                None => ("to render", None),
            },
            State::Done(_) | State::Unlisted(_) => ("finished", None),
            State::Kept => ("kept", None),
            State::InTheWay => ("another video is there", None),
            State::Bad(error) => ("cannot be made", Some(error.to_string())),
        };
        match &planned.state {
            State::Todo(_) if problem.is_some() => bad += 1,
            State::Todo(recipe) => {
                todo += 1;
                seconds = seconds.zip(speeds.estimate(recipe)).map(|(all, one)| all + one);
            }
            State::Bad(_) => bad += 1,
            State::Done(_) | State::Kept | State::InTheWay | State::Unlisted(_) => there += 1,
        }
        let (file, item) = (list.file(planned.item), planned.item);
        let prompt = list.scene(item).title();
        let line = match json {
            true => json!({
                "file": file, "state": state, "problem": problem, "index": item.scene, "sample": item.sample,
                "seed": item.seed, "prompt": prompt,
            })
            .to_string(),
            false => {
                let problem = problem.map_or(String::new(), |problem| format!(" ({problem})"));
                format!("{file}  {state}{problem}  seed {}  {prompt}", item.seed)
            }
        };
        text.push_str(&line);
        text.push('\n');
    }
    print_result(text.as_bytes())?;
    let time = match seconds.filter(|_| todo > 0) {
        Some(seconds) => format!(", in about {}", clock(seconds)),
        None => String::new(),
    };
    printer.note(&format!(
        "{todo} to render{time}, {there} there already, {bad} cannot be made"
    ));
    conflicts.refuse(list)?;
    match bad {
        0 => Ok(()),
        _ => Err(Failure::Partly),
    }
}

/// Which videos would be refused for their memory.
struct MemoryChecks<'a> {
    list: &'a List<'a>,
    /// Of each session; absent when nothing is refused, or nothing is known.
    sizes: Vec<Option<Sizes>>,
    known: HashMap<(VideoRecordKey, usize, Option<usize>), Option<String>>,
}

impl<'a> MemoryChecks<'a> {
    fn new(list: &'a List<'a>) -> Result<Self, Error> {
        let sizes = |session: &Session| match list.checks_memory {
            true => session.sizes(&session.found()?),
            false => Ok(None),
        };
        let sizes = list.all_sessions().iter().map(sizes);
        let sizes = sizes.collect::<Result<Vec<_>, Error>>()?;
        let known = HashMap::new();
        Ok(Self { list, sizes, known })
    }

    /// Why a video would be refused.
    fn refusal(&mut self, item: &Item, recipe: &Recipe) -> Option<String> {
        let number = self.list.session_number(item);
        let sizes = self.sizes.get(number)?.as_ref()?;
        let key = (of_video(&recipe.video), recipe.prompts.len(), item.point);
        let check = || {
            let checked = self.list.session_of(number).check_dry(sizes, recipe);
            checked.err().map(|error| error.to_string())
        };
        self.known.entry(key).or_insert_with(check).clone()
    }
}
