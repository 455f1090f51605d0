//! Where the program keeps what it can make again: the unpacked toy model, hashes of files.

use std::{ffi::OsString, path::PathBuf};

/// The program's cache folder: `DEEPFORCING_CACHE`, else `deepforcing` in the cache folder of the user
/// (`XDG_CACHE_HOME`, by default `~/.cache`). `None` when no variable tells where that is.
///
/// `lookup` gives the value of a variable, as `std::env::var_os` does.
pub fn cache_dir(lookup: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name: &str| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The XDG specification has relative paths ignored.
    let xdg = || path("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let home = || match cfg!(windows) {
        true => path("LOCALAPPDATA"),
        false => path("HOME").map(|home| home.join(".cache")),
    };
    path("DEEPFORCING_CACHE").or_else(|| Some(xdg().or_else(home)?.join("deepforcing")))
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
            assert_eq!(found, expected.map(PathBuf::from));
        }
    }
}
