//! The memory limit of the process, from which the budget is derived.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Budget, mebibytes};

/// The budget of a process whose memory is not limited.
pub(super) const WITHOUT_LIMIT: usize = 512 * 1024 * 1024;

/// cgroup v1 writes a number near 2^63 for "no limit".
const UNLIMITED: u64 = 1 << 50;

/// The source of the memory budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `--memory-budget`.
    Flag,
    /// The memory limit of the cgroup, in bytes.
    Cgroup(usize),
    /// No memory limit is known.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("--memory-budget"),
            Self::Cgroup(limit) => write!(f, "the memory limit of {}", mebibytes(*limit)),
            Self::Default => f.write_str("the default without a memory limit"),
        }
    }
}

/// The total of the memory budget, and its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The bytes of the budget.
    pub total: usize,
    /// The source.
    pub origin: Origin,
}

impl Limit {
    /// Returns the budget that the flag sets; without it, three eighths of the memory limit of this
    /// process.
    ///
    /// The rest of 256 MiB is for the program (about 30 MiB), the resources of the cluster (7 KiB
    /// each), the buffers of copies, and memory that the allocator keeps.
    #[must_use]
    pub fn new(flag: Option<usize>) -> Self {
        Self::under(Path::new("/"), flag)
    }

    fn under(root: &Path, flag: Option<usize>) -> Self {
        if let Some(total) = flag {
            return Self { total, origin: Origin::Flag };
        }
        match cgroup_limit(root) {
            Some(limit) => {
                let total = (limit / 8 * 3).max(Budget::LEAST);
                Self { total, origin: Origin::Cgroup(limit) }
            }
            None => Self { total: WITHOUT_LIMIT, origin: Origin::Default },
        }
    }

    /// Creates the budget.
    #[must_use]
    pub fn budget(self) -> Budget {
        Budget::new(self.total)
    }
}

/// Returns the least memory limit of the process's cgroup and those above it, in bytes.
fn cgroup_limit(root: &Path) -> Option<usize> {
    let cgroups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let limits = cgroups.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next().unwrap_or_default();
        let path = fields.next().unwrap_or_default();
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        // In a container, the path may be that on the host, and the mount is the cgroup itself.
        let mount = root.join(mount);
        let own = mount.join(path.trim_start_matches('/'));
        let folders = own.ancestors().take_while(|folder| folder.starts_with(&mount));
        folders.map(|folder| folder.join(file)).collect::<Vec<PathBuf>>()
    });

    let limits = limits.filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
    let limit = limits.filter(|limit: &u64| *limit < UNLIMITED).min()?;
    usize::try_from(limit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    /// A file system with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            std::fs::write(path, text).expect("written");
        }
        root
    }

    #[test]
    fn the_budget_comes_from_the_flag_or_the_least_limit_of_the_cgroup() {
        let v1 = "4:memory:/pods/a\n1:cpu,cpuacct:/b\n0::/\n";
        let own_v1 = "sys/fs/cgroup/memory/pods/a/memory.limit_in_bytes";
        let pods_v1 = "sys/fs/cgroup/memory/pods/memory.limit_in_bytes";
        let mount_v1 = "sys/fs/cgroup/memory/memory.limit_in_bytes";
        let none = "9223372036854771712\n";
        let of_256 = Limit { total: 96 * MIB, origin: Origin::Cgroup(256 * MIB) };
        let default = Limit { total: WITHOUT_LIMIT, origin: Origin::Default };

        for (files, limit) in [
            (vec![], default),
            (vec![("proc/self/cgroup", "0::/a\n")], default),
            (
                vec![("proc/self/cgroup", "0::/a\n"), ("sys/fs/cgroup/a/memory.max", "268435456")],
                of_256,
            ),
            (
                vec![
                    ("proc/self/cgroup", "0::/a/b\n"),
                    ("sys/fs/cgroup/a/b/memory.max", "max\n"),
                    ("sys/fs/cgroup/a/memory.max", "268435456\n"),
                ],
                of_256,
            ),
            (
                vec![("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "268435456\n")],
                of_256,
            ),
            (vec![("proc/self/cgroup", v1), (own_v1, "268435456\n"), (mount_v1, none)], of_256),
            (vec![("proc/self/cgroup", v1), (own_v1, none), (pods_v1, "268435456\n")], of_256),
            // The path is that on the host; the mount shows the container's own cgroup.
            (vec![("proc/self/cgroup", v1), (mount_v1, "268435456\n")], of_256),
            (vec![("proc/self/cgroup", v1), (own_v1, none), (mount_v1, none)], default),
            (
                vec![("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "67108864")],
                Limit { total: Budget::LEAST, origin: Origin::Cgroup(64 * MIB) },
            ),
        ] {
            let root = root(&files);
            assert_eq!(Limit::under(root.path(), None), limit, "{files:?}");
            let flag = Limit { total: 7, origin: Origin::Flag };
            assert_eq!(Limit::under(root.path(), Some(7)), flag);
        }
    }
}
