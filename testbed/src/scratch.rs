//! Folders that outlive one test: `target/testbed/<program>-<what>-<n>`.
//!
//! A value in a `static` is never dropped, so it cannot own a temporary folder. These folders are
//! emptied when they are used again, which keeps only the logs of the last run.

use std::fs::{self, File, TryLockError};
use std::path::PathBuf;

use parking_lot::Mutex;

use crate::{Error, tools};

/// Locks held until this program ends; the kernel releases them.
static LOCKS: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Returns an empty folder that no other running program uses.
///
/// # Errors
/// When the folder cannot be created.
pub fn folder(what: &str) -> Result<PathBuf, Error> {
    let root = tools::workspace().join("target/testbed");
    fs::create_dir_all(&root).map_err(|e| format!("cannot create {}: {e}", root.display()))?;
    let program = std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.file_stem()?.to_string_lossy().into_owned()));
    let program = program.unwrap_or_else(|| "unknown".to_owned());
    // Without the hash in the name of a test binary: it changes, and old folders would pile up.
    let is_hash =
        |text: &str| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let program = program
        .rsplit_once('-')
        .filter(|(_, end)| is_hash(end))
        .map_or(program.as_str(), |(name, _)| name);
    for n in 0..100 {
        let folder = root.join(format!("{program}-{what}-{n}"));
        let path = folder.with_extension("lock");
        let cannot =
            |e: &dyn std::fmt::Display| format!("cannot prepare {}: {e}", folder.display());
        let lock = File::options().create(true).append(true).open(&path).map_err(|e| cannot(&e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(e)) => return Err(cannot(&e).into()),
        }
        // The servers of a run that was killed a moment ago may still be writing: skip that folder.
        if folder.exists() && fs::remove_dir_all(&folder).is_err() {
            continue;
        }
        fs::create_dir(&folder).map_err(|e| cannot(&e))?;
        LOCKS.lock().push(lock);
        return Ok(folder);
    }
    Err(format!("100 folders like {}/{program}-{what}-0 are in use", root.display()).into())
}
