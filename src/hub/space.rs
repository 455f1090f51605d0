//! Free space on the disk of a folder.

use std::path::Path;

/// Bytes that the user may still write on the disk of `folder`, which need not exist yet; `None` when the system does
/// not say.
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    let existing = folder.ancestors().find(|ancestor| ancestor.exists())?;
    available(existing)
}

#[cfg(unix)]
fn available(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
fn available(folder: &Path) -> Option<u64> {
    let folder = std::fs::canonicalize(folder).ok()?;
    let disks = sysinfo::Disks::new_with_refreshed_list();
    let of_folder = disks.iter().filter(|disk| folder.starts_with(disk.mount_point()));
    let nearest = of_folder.max_by_key(|disk| disk.mount_point().components().count());
    nearest.map(|disk| disk.available_space())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_does_not_exist_yet_has_the_space_of_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(&folder.path().join("a/b")).is_some_and(|bytes| bytes > 0));
    }
}
