//! Trajectories of a sweep of worlds: every start is walked through by each of them.

use std::{collections::HashSet, path::Path};

use super::{
    SweepError,
    grid::{folder_name, unique},
};
use crate::{
    files,
    prompts::{Scene, actions::ActionSource},
};

/// Digits of the number of a scene without an id, as in the names of a batch.
const DIGITS: usize = 5;
/// Largest list of trajectories in bytes.
const LARGEST: u64 = 16 << 20;

/// Every scene with each of `trajectories`, as a scene with an id of its own: that of the scene, or its number, and a name
/// of the trajectory. Scenes that say themselves what is done in them stay as they are; so do all without trajectories.
pub fn with_trajectories(scenes: Vec<Scene>, trajectories: &[ActionSource]) -> Vec<Scene> {
    if trajectories.is_empty() {
        return scenes;
    }
    let mut taken = HashSet::new();
    let named = trajectories
        .iter()
        .map(|source| (unique(folder_name(&source.label()), &mut taken), source));
    let named: Vec<_> = named.collect();
    let each = scenes.into_iter().enumerate().flat_map(|(index, scene)| {
        if scene.actions.is_some() {
            return vec![scene];
        }
        let own = scene.id.clone().unwrap_or_else(|| format!("{index:0DIGITS$}"));
        let walked = named.iter().map(|(name, source)| Scene {
            id: Some(format!("{own}-{name}")),
            actions: Some((*source).clone()),
            ..scene.clone()
        });
        walked.collect()
    });
    each.collect()
}

/// The trajectories of a list: a line each, which is a text or the name of a file relative to the list's folder. Empty
/// lines and lines that begin with `#` are left out.
///
/// # Errors
/// When it cannot be read or holds none.
pub fn read_trajectories(path: &Path) -> Result<Vec<ActionSource>, SweepError> {
    let unreadable = |reason: String| SweepError::Trajectories {
        path: path.into(),
        reason,
    };
    let text = files::read_text(path, LARGEST).map_err(|error| unreadable(error.to_string()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let folder = path.parent().unwrap_or(Path::new(""));
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let found: Vec<_> = lines.map(|line| ActionSource::new(line, folder)).collect();
    if found.is_empty() {
        return Err(unreadable(
            "it holds no trajectory; write one in each line, such as `w*48, none*`".into(),
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_is_walked_through_by_every_trajectory() {
        let scene = |id: Option<&str>, actions: Option<&str>| Scene {
            id: id.map(str::to_owned),
            image: Some("a.png".into()),
            actions: actions.map(|text| ActionSource::new(text, Path::new(""))),
            ..Scene::default()
        };
        let scenes = vec![
            scene(Some("forest"), None),
            scene(None, None),
            scene(Some("own"), Some("s*")),
        ];
        let texts = ["w*", "W *", "walks/turn.csv"].map(|text| ActionSource::new(text, Path::new("")));
        let walked = with_trajectories(scenes.clone(), &texts);
        let ids: Vec<_> = walked.iter().filter_map(|scene| scene.id.as_deref()).collect();
        assert_eq!(
            ids,
            [
                "forest-w",
                "forest-w-2",
                "forest-turn",
                "00001-w",
                "00001-w-2",
                "00001-turn",
                "own"
            ]
        );
        assert_eq!(walked[2].actions, Some(texts[2].clone()));
        assert_eq!(walked[6], scenes[2]);
        assert_eq!(with_trajectories(scenes.clone(), &[]), scenes);
    }

    #[test]
    fn a_list_has_a_trajectory_in_each_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("walks.txt");
        std::fs::write(&path, "# walks\nw*48, none*\n\n turn.csv \n").unwrap();
        let found = read_trajectories(&path).unwrap();
        assert_eq!(
            found,
            [
                ActionSource::Text("w*48, none*".into()),
                ActionSource::File(folder.path().join("turn.csv"))
            ]
        );
        std::fs::write(&path, "# none\n").unwrap();
        let error = read_trajectories(&path).unwrap_err().to_string();
        assert!(
            error.contains("walks.txt") && error.contains("no trajectory"),
            "{error}"
        );
        assert!(read_trajectories(&folder.path().join("none")).is_err());
    }
}
