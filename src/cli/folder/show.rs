//! `--dry-run`: what would be made, without loading a weight or writing a file.

use serde_json::json;

use super::work::{List, State};
use crate::{
    batch::{Item, Manifest, Shard},
    cli::{
        Failure,
        printer::{Printer, print_result},
    },
    models::Found,
};

/// Prints the plan of all items.
pub(in crate::cli) fn show(list: &List, items: &[Item], shard: Shard, printer: &Printer) -> Result<(), Failure> {
    let manifest = Manifest::read(&list.folder.output, shard).map_err(crate::Error::from)?;
    let record = match list.model.found()? {
        Found::Files(files) => Some(list.model.record(&files)?),
        Found::Missing(_) => None,
    };
    let (planned, conflicts) = list.plan(items, &manifest, record.as_ref(), printer)?;
    let mut text = String::new();
    let (mut todo, mut there, mut bad) = (0, 0, 0);
    for planned in &planned {
        let (state, problem) = match &planned.state {
            State::Todo(_) => ("to render", None),
            State::Done(_) | State::Unlisted(_) => ("finished", None),
            State::Kept => ("kept", None),
            State::InTheWay => ("another video is there", None),
            State::Bad(error) => ("cannot be made", Some(error.to_string())),
        };
        match planned.state {
            State::Todo(_) => todo += 1,
            State::Bad(_) => bad += 1,
            State::Done(_) | State::Kept | State::InTheWay | State::Unlisted(_) => there += 1,
        }
        let (file, item) = (list.file(planned.item), planned.item);
        let prompt = list.scene(item).title();
        let line = match list.running.json {
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
    printer.note(&format!(
        "{todo} to render, {there} there already, {bad} cannot be made"
    ));
    Ok(conflicts.refuse(list)?)
}
