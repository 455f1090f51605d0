//! Files that come from others, and places in which others may write: what is read must be an ordinary file, and nothing
//! is written through a link.
//!
//! A name in a folder that is shared may be anything: a device without an end, a pipe that nobody writes, a symbolic
//! link to a file that is somebody's pride. Whoever opens a file for reading here gets an ordinary one or an error, and
//! never waits; whoever makes one gets a new one.

pub(crate) mod maps;
pub(crate) mod python;
pub mod said;

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    path::{Component, Path},
};

/// Longest name that a longer one can stand beside.
const LONGEST_REPLACED: usize = 240;

/// Most bytes of a text that a person or a program wrote: configurations, recipes, plans.
pub const LONGEST_TEXT: u64 = 64 << 20;

/// Opens an ordinary file for reading, without waiting for anybody.
///
/// # Errors
/// When it is not there, may not be read, or is a folder, device, pipe or socket.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    ordinary(at_once(&mut options).open(path)?)
}

/// The content of an ordinary file of at most `most` bytes.
///
/// # Errors
/// As [`open`]; when it is longer, or cannot be read.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let reason = format!("it is longer than {most} bytes");
        return Err(io::Error::new(ErrorKind::FileTooLarge, reason));
    }
    Ok(bytes)
}

/// The text in an ordinary file of at most `most` bytes.
///
/// # Errors
/// As [`read`]; when it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let not_utf8 = |_| io::Error::new(ErrorKind::InvalidData, "stream did not contain valid UTF-8");
    String::from_utf8(read(path, most)?).map_err(not_utf8)
}

/// As [`read_text`]; the device that holds nothing is taken for an empty file, as those want it who name it.
///
/// # Errors
/// As [`read_text`].
pub fn read_settings(path: &Path) -> io::Result<String> {
    match path == Path::new("/dev/null") {
        true => Ok(String::new()),
        false => read_text(path, LONGEST_TEXT),
    }
}

/// Makes a new file, in place of whatever has the name: a link is replaced and not followed.
///
/// # Errors
/// When it cannot be made; also when somebody makes another one at this moment.
pub fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// Makes a new file with `bytes` in it; see [`create`].
///
/// # Errors
/// As [`create`]; when the disk does not take them.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    create(path)?.write_all(bytes)
}

/// Puts `bytes` under a name at once: they are written beside it, and a link that has the name is replaced.
///
/// # Errors
/// When they cannot be written; what had the name stays then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default();
    let mut hidden = OsString::from(".");
    // A name may be as long as names can be.
    if name.len() <= LONGEST_REPLACED {
        hidden.push(name);
    } else {
        hidden.push(std::process::id().to_string());
    }
    hidden.push(".partial");
    let partial = path.with_file_name(hidden);
    let written = write(&partial, bytes).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        fs::remove_file(&partial).ok();
    }
    written
}

/// Opens a file that is kept from run to run and written to, made if it is not there and not emptied.
///
/// # Errors
/// When it cannot be opened, or is a symbolic link or no ordinary file.
pub fn open_kept(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let linked = |_: &io::Error| fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    let opened = without_links(at_once(options)).create(true).open(path);
    let file = opened.map_err(|error| match linked(&error) {
        true => refused(path, "is a symbolic link"),
        false => error,
    })?;
    ordinary(file)
}

/// As [`open_kept`], for a file whose content is to be thrown away: it must have no second name under which somebody
/// wants to keep it.
///
/// # Errors
/// As [`open_kept`]; when it is a hard link.
pub fn open_to_empty(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = open_kept(path, options)?;
    match names(&file)? {
        0 | 1 => Ok(file),
        _ => Err(refused(path, "has a second name elsewhere (a hard link)")),
    }
}

/// The error for a name that somebody has put in the way.
fn refused(path: &Path, what: &str) -> io::Error {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    io::Error::other(format!("`{name}` {what}, and is not written to; remove it"))
}

/// Makes a folder that only this user may look into, or checks that one that is there is such a folder.
///
/// # Errors
/// When it cannot be made, is a link or no folder, or belongs or is open to others.
#[cfg(unix)]
pub fn private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};

    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    let ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
    match ours {
        true => Ok(()),
        false => Err(io::Error::other(
            "it is not a folder of this user alone (mode 700); remove it",
        )),
    }
}

/// Makes a folder.
///
/// # Errors
/// When it cannot be made.
#[cfg(not(unix))]
pub fn private_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Refuses links among the folders between `folder` and the file `name` in it, which would lead out of it.
///
/// # Errors
/// With the folder that is a link.
pub fn check_inside(folder: &Path, name: &Path) -> io::Result<()> {
    let mut path = folder.to_path_buf();
    for part in name.parent().into_iter().flat_map(Path::components) {
        path.push(part);
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) {
            let reason = format!("`{}` is a symbolic link, which leads out of the folder", path.display());
            return Err(io::Error::other(reason));
        }
    }
    Ok(())
}

/// Whether `name`, which came out of a file, names something inside a folder: no absolute path, no `..`.
pub fn is_inside(name: &str) -> bool {
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    !name.is_empty() && !name.contains('\0') && Path::new(name).components().all(plain)
}

/// Whether `name`, which came out of a file, is the name of one file or folder.
pub fn is_single_name(name: &str) -> bool {
    is_inside(name) && !name.contains(['/', '\\'])
}

fn ordinary(file: File) -> io::Result<File> {
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::new(ErrorKind::IsADirectory, "it is a folder"));
    }
    match metadata.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "it is not an ordinary file")),
    }
}

/// Opening a pipe would wait for its other end, and a terminal might become ours.
#[cfg(unix)]
fn at_once(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;

    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    options.custom_flags(flags.bits().cast_signed())
}

#[cfg(unix)]
fn without_links(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;

    // Replaces what was set before.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NOFOLLOW;
    options.custom_flags(flags.bits().cast_signed())
}

#[cfg(unix)]
fn names(file: &File) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;

    Ok(file.metadata()?.nlink())
}

#[cfg(not(unix))]
fn at_once(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

#[cfg(not(unix))]
fn without_links(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

#[cfg(not(unix))]
fn names(_file: &File) -> io::Result<u64> {
    Ok(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_are_told_from_others() {
        for name in ["a", "a/b.mp4", "sink-9/0 x-seed0", "..a", "a..", "ü"] {
            assert!(is_inside(name), "{name}");
        }
        for name in ["", "/", "/a", "..", "../a", "a/../../b", ".", "a/..", "a\0b"] {
            assert!(!is_inside(name), "{name:?}");
        }
        assert!(is_single_name("sink-9") && !is_single_name("a/b") && !is_single_name(".."));
    }

    #[test]
    fn long_texts_are_refused_and_settings_may_be_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_text(&path, 5).unwrap(), "12345");
        assert!(read_text(&path, 4).unwrap_err().to_string().contains("longer than 4"));
        fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_text(&path, 5).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(open(folder.path()).unwrap_err().kind(), ErrorKind::IsADirectory);
        #[cfg(unix)]
        assert_eq!(read_settings(Path::new("/dev/null")).unwrap(), "");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn devices_and_pipes_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for path in [&pipe, Path::new("/dev/zero"), Path::new("/dev/urandom")] {
            let error = read(path, 9).unwrap_err().to_string();
            assert_eq!(error, "it is not an ordinary file", "{}", path.display());
        }
        // For writing as well, where a pipe without a reader would wait too.
        assert!(open_kept(&pipe, OpenOptions::new().write(true)).is_err());
    }

    #[test]
    #[cfg(unix)]
    fn nothing_is_written_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let [victim, soft, hard] = ["victim", "soft", "hard"].map(|name| folder.path().join(name));
        fs::write(&victim, "pride").unwrap();
        std::os::unix::fs::symlink(&victim, &soft).unwrap();
        fs::hard_link(&victim, &hard).unwrap();
        for path in [&soft, &hard] {
            let said = open_to_empty(path, OpenOptions::new().write(true));
            let said = said.unwrap_err().to_string();
            assert!(said.contains("link") && said.contains("remove it"), "{said}");
            write(path, b"new").unwrap();
            assert_eq!(fs::read_to_string(path).unwrap(), "new");
            assert!(!fs::symlink_metadata(path).unwrap().is_symlink());
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "pride");
        let kept = folder.path().join("kept");
        for _ in 0..2 {
            open_kept(&kept, OpenOptions::new().append(true))
                .unwrap()
                .write_all(b"x")
                .unwrap();
        }
        assert_eq!(fs::read_to_string(kept).unwrap(), "xx");
        std::os::unix::fs::symlink("..", folder.path().join("out")).unwrap();
        assert!(check_inside(folder.path(), Path::new("out/a.mp4")).is_err());
        assert!(check_inside(folder.path(), Path::new("in/a.mp4")).is_ok());
    }

    #[test]
    #[cfg(unix)]
    fn a_private_folder_is_nobody_elses() {
        use std::os::unix::fs::PermissionsExt;

        let around = tempfile::tempdir().unwrap();
        let [own, link, open] = ["own", "link", "open"].map(|name| around.path().join(name));
        private_folder(&own).unwrap();
        private_folder(&own).unwrap();
        assert_eq!(fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o700);
        std::os::unix::fs::symlink(&own, &link).unwrap();
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        for other in [link, open] {
            let said = private_folder(&other).unwrap_err().to_string();
            assert!(said.contains("of this user alone"), "{said}");
        }
    }
}
