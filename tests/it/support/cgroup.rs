//! A memory cgroup, version 1 or 2, for a child process.

use std::fs;
use std::path::{Path, PathBuf};

/// A cgroup with a memory limit. Dropping it removes it; its processes must have ended.
pub struct Cgroup {
    folder: PathBuf,
    is_v2: bool,
}

impl Cgroup {
    /// Creates a cgroup with this limit in bytes; the error is the reason why it cannot be made.
    pub fn new(name: &str, limit: usize) -> Result<Self, String> {
        let is_v2 = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
            .is_ok_and(|all| all.split_whitespace().any(|name| name == "memory"));
        let mount = if is_v2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" };
        let folder = Path::new(mount).join(format!("{name}-{}", std::process::id()));
        let failed = |error| format!("no memory cgroup can be made in {mount}: {error}");
        fs::create_dir(&folder).map_err(failed)?;

        let cgroup = Self { folder, is_v2 };
        let limit_file = if is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(cgroup.folder.join(limit_file), limit.to_string()).map_err(failed)?;
        // Not every kernel counts swap.
        let swap =
            if is_v2 { ("memory.swap.max", 0) } else { ("memory.memsw.limit_in_bytes", limit) };
        let _ = fs::write(cgroup.folder.join(swap.0), swap.1.to_string());
        Ok(cgroup)
    }

    /// The file that takes the id of a process.
    pub fn processes(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// The most memory that was in use, in bytes, with the page cache.
    pub fn peak(&self) -> usize {
        let file = if self.is_v2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        let text = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    }

    /// The processes that the kernel killed for lack of memory.
    pub fn kills(&self) -> usize {
        let file = if self.is_v2 { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}
