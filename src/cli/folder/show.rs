//! `--dry-run`: what would be made, without loading a weight or writing a file.

use serde_json::json;

use crate::{
    Error,
    batch::{Item, List, Manifest, State},
    cli::{
        Failure,
        printer::{Printer, print_result},
        render::Screen,
    },
    models::Found,
    render::Event,
};

/// Prints the plan of all items.
pub(in crate::cli) fn show(list: &List, items: &[Item], json: bool, printer: &Printer) -> Result<(), Failure> {
    let manifest = Manifest::read(list.folder, list.shard).map_err(Error::from)?;
    let record = match list.session.found()? {
        Found::Files(files) => Some(list.session.record(&files)?),
        Found::Missing(_) => None,
    };
    let mut screen = Screen::new(printer);
    let mut observe = |event: Event<'_>| screen.see(event);
    let (planned, conflicts) = list.plan(items, &manifest, record.as_ref(), &mut observe)?;
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
    printer.note(&format!(
        "{todo} to render, {there} there already, {bad} cannot be made"
    ));
    Ok(conflicts.refuse(list)?)
}
