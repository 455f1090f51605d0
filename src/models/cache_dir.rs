//! Where the program keeps what it can make again: the unpacked toy model, hashes of files.

use std::{ffi::OsString, path::PathBuf};

use crate::hub::{Origin, Setting};

/// The program's cache folder: `DEEPFORCING_CACHE`, else `deepforcing` in the cache folder of the user
/// (`XDG_CACHE_HOME`, by default `~/.cache`). `None` when no variable tells where that is.
///
/// `lookup` gives the value of a variable, as `std::env::var_os` does.
pub fn cache_dir(lookup: impl Fn(&str) -> Option<OsString>) -> Option<Setting<PathBuf>> {
    let variable = |name: &'static str| {
        let value = lookup(name).filter(|value| !value.is_empty())?;
        let (value, origin) = (PathBuf::from(value), Origin::Variable(name));
        Some(Setting { value, origin })
    };
    let own = |folder: PathBuf, origin: Origin| Setting {
        value: folder.join("deepforcing"),
        origin,
    };
    // The XDG specification has relative paths ignored.
    let xdg = || variable("XDG_CACHE_HOME").filter(|folder| folder.value.is_absolute());
    let home = || match cfg!(windows) {
        true => Some(own(variable("LOCALAPPDATA")?.value, Origin::Default)),
        false => Some(own(variable("HOME")?.value.join(".cache"), Origin::Default)),
    };
    variable("DEEPFORCING_CACHE")
        .or_else(|| xdg().map(|folder| own(folder.value, folder.origin)))
        .or_else(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn the_first_variable_that_is_set_counts() {
        let all = [("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("DEEPFORCING_CACHE", "/d")];
        let expected = [None, Some("/h/.cache/deepforcing"), Some("/x/deepforcing"), Some("/d")];
        for (count, expected) in expected.into_iter().enumerate() {
            let found = cache_dir(|name| {
                let variable = all[..count].iter().find(|(key, _)| *key == name);
                variable.map(|(_, value)| value.into())
            });
            assert_eq!(found.map(|folder| folder.value), expected.map(PathBuf::from));
        }
    }
}
