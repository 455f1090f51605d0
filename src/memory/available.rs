//! How much memory there is: free memory of the machine, and the limits of the control groups that we are in.

use std::{fs, path::Path};

use serde::Serialize;

/// Memory that can still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Available {
    pub bytes: u64,
    pub limit: Limit,
}

/// What limits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    Machine,
    /// A container, batch job or service with a limit of its own.
    ControlGroup,
}

impl Available {
    /// What is available to this process now; `None` on systems that do not tell.
    pub fn now() -> Option<Self> {
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        let machine = Some(system.available_memory()).filter(|bytes| *bytes > 0);
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let group = left_in_groups(&groups, Path::new("/sys/fs/cgroup"));
        match (machine, group) {
            (Some(machine), Some(group)) if group < machine => Some(Self {
                bytes: group,
                limit: Limit::ControlGroup,
            }),
            (Some(bytes), _) => Some(Self {
                bytes,
                limit: Limit::Machine,
            }),
            (None, Some(bytes)) => Some(Self {
                bytes,
                limit: Limit::ControlGroup,
            }),
            (None, None) => None,
        }
    }
}

/// Names of the files of a version of control groups.
struct Files {
    limit: &'static str,
    usage: &'static str,
    /// Line of `memory.stat` with page cache that is given up when memory is short.
    reclaimable: &'static str,
}

const VERSION_2: Files = Files {
    limit: "memory.max",
    usage: "memory.current",
    reclaimable: "inactive_file",
};
const VERSION_1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
};

/// The least that is left in any control group around us; `groups` is `/proc/self/cgroup`, `root` where the groups are
/// mounted. `None` without a limit.
fn left_in_groups(groups: &str, root: &Path) -> Option<u64> {
    let lines = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let left = lines.filter_map(|(controllers, path)| match controllers {
        "" => left_around(root, path, &VERSION_2),
        _ if controllers.split(',').any(|name| name == "memory") => left_around(&root.join("memory"), path, &VERSION_1),
        _ => None,
    });
    left.min()
}

/// The group `path` below `root` and all groups around it. In a container the path may be that of the host and lead
/// nowhere; the container's own group is then the root.
fn left_around(root: &Path, path: &str, files: &Files) -> Option<u64> {
    let path = Path::new(path.trim_start_matches('/'));
    let groups = path.ancestors().map(|group| root.join(group));
    groups.filter_map(|group| left_in(&group, files)).min()
}

fn left_in(group: &Path, files: &Files) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    // "max", or in version 1 a number beyond all memory, is no limit.
    let limit = number(files.limit).filter(|limit| *limit < 1 << 60)?;
    let usage = number(files.usage)?;
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let reclaimable = stat.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == files.reclaimable).then(|| value.trim().parse::<u64>().ok())?
    });
    let used = usage.saturating_sub(reclaimable.unwrap_or(0));
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn write(group: &Path, files: &[(&str, String)]) {
        fs::create_dir_all(group).unwrap();
        for (name, text) in files {
            fs::write(group.join(name), text).unwrap();
        }
    }

    #[test]
    fn this_machine_has_memory() {
        let available = Available::now().unwrap();
        assert!(available.bytes > 1_000_000, "{available:?}");
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let outer = root.path().join("user.slice");
        write(
            &outer,
            &[
                ("memory.max", format!("{}\n", 4 * GB)),
                ("memory.current", format!("{}\n", 3 * GB)),
                ("memory.stat", format!("anon 5\ninactive_file {GB}\nslab 3\n")),
            ],
        );
        let inner = outer.join("job.scope");
        write(
            &inner,
            &[("memory.max", "max\n".into()), ("memory.current", format!("{GB}\n"))],
        );
        assert_eq!(left_in_groups("0::/user.slice/job.scope\n", root.path()), Some(2 * GB));
        write(&inner, &[("memory.max", format!("{}\n", GB + 5))]);
        assert_eq!(left_in_groups("0::/user.slice/job.scope\n", root.path()), Some(5));
        assert_eq!(left_in_groups("0::/elsewhere\n", root.path()), None);
        // More used than allowed, as after a limit was lowered.
        write(&inner, &[("memory.max", "7".into())]);
        assert_eq!(left_in_groups("0::/user.slice/job.scope\n", root.path()), Some(0));
    }

    #[test]
    fn version_1_and_containers() {
        let root = tempfile::tempdir().unwrap();
        let files = |limit: u64| {
            [
                ("memory.limit_in_bytes", limit.to_string()),
                ("memory.usage_in_bytes", GB.to_string()),
                ("memory.stat", format!("total_inactive_file {}", GB / 2)),
            ]
        };
        // The path is that of the host; the container sees its own group as the root.
        write(&root.path().join("memory"), &files(2 * GB));
        let groups = "12:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n";
        assert_eq!(left_in_groups(groups, root.path()), Some(2 * GB - GB / 2));
        write(&root.path().join("memory"), &files(0x7fff_ffff_ffff_f000));
        assert_eq!(left_in_groups(groups, root.path()), None);
        assert_eq!(left_in_groups("", root.path()), None);
        assert_eq!(left_in_groups("nonsense\n::\n", root.path()), None);
    }
}
