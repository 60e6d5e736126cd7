//! Files that are reloaded when they change, such as a mounted ConfigMap: mirrors, tenants, roles,
//! default policies and resource tags.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Time after which a file is read again even if its [`Stamp`] is the same: file systems may give
/// two writes within a few milliseconds the same time.
const READ_EVERY: Duration = Duration::from_secs(2);
/// Largest file. A ConfigMap holds at most 1 MiB.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A parsed file, reloaded when it changes. Clones share it.
pub struct Reloaded<T>(Arc<Inner<T>>);

struct Inner<T> {
    path: PathBuf,
    parse: fn(&str) -> Result<T, String>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    text: String,
    stamp: Stamp,
    read_at: Instant,
    /// Problem of the last read, so that each is logged once.
    problem: Option<String>,
}

/// Device, inode, size and modification time of a file; `None` if there is none. A mounted
/// ConfigMap changes through the swap of a symbolic link, so the path then leads to another inode.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// A file whose content may become invalid while it is in use.
pub trait Checked: fmt::Debug + Send + Sync {
    /// Whether the current content is valid, and so in effect.
    fn is_usable(&self) -> bool;
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The content is not valid.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The problem and what to write instead.
        problem: String,
    },
}

impl<T> Clone for Reloaded<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reloaded({})", self.0.path.display())
    }
}

impl<T> Reloaded<T> {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// When the file cannot be read or parsed.
    pub fn load(path: &Path, parse: fn(&str) -> Result<T, String>) -> Result<Self, Error> {
        // Before reading: a change in between is then noticed at the next call.
        let stamp = stamp(path);
        let text = read(path)?;
        let value = parsed(path, &text, parse)?;

        let state =
            State { value: Arc::new(value), text, stamp, read_at: Instant::now(), problem: None };
        Ok(Self(Arc::new(Inner { path: path.to_owned(), parse, state: Mutex::new(state) })))
    }

    /// Returns the path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Returns the value of the file. If its content has become invalid, logs that and returns the
    /// previous value.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        let Inner { path, parse, state } = &*self.0;
        let mut state = state.lock();

        // One stat: cheaper than any request.
        let stamp = stamp(path);
        if stamp == state.stamp && state.read_at.elapsed() < READ_EVERY {
            return state.value.clone();
        }

        state.stamp = stamp;
        state.read_at = Instant::now();

        let change = match read(path) {
            Ok(text) if text == state.text => Ok(None),
            Ok(text) => parsed(path, &text, *parse).map(|value| Some((text, value))),
            Err(error) => Err(error),
        };

        match change {
            Ok(None) => state.problem = None,
            Ok(Some((text, value))) => {
                tracing::info!(path = %path.display(), "reloaded the file: it changed");
                state.text = text;
                state.value = Arc::new(value);
                state.problem = None;
            }
            Err(error) => {
                let problem = error.to_string();
                if state.problem.as_ref() != Some(&problem) {
                    tracing::error!(
                        problem,
                        "invalid content ignored; the previous content stays in effect"
                    );
                }
                state.problem = Some(problem);
            }
        }

        state.value.clone()
    }
}

impl<T: Send + Sync> Checked for Reloaded<T> {
    fn is_usable(&self) -> bool {
        let _current = self.get();
        self.0.state.lock().problem.is_none()
    }
}

fn stamp(path: &Path) -> Stamp {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
}

fn read(path: &Path) -> Result<String, Error> {
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;

    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        let problem = format!("is larger than {MAX_BYTES} bytes");
        return Err(Error::Content { path: path.to_owned(), problem });
    }

    Ok(text)
}

fn parsed<T>(path: &Path, text: &str, parse: fn(&str) -> Result<T, String>) -> Result<T, Error> {
    parse(text).map_err(|problem| Error::Content { path: path.to_owned(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<u32, String> {
        text.trim().parse().map_err(|_| "not a number".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_reloaded_and_invalid_content_is_ignored() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("number");
        assert!(Reloaded::load(&path, parse).is_err());
        std::fs::write(&path, "x").expect("written");

        let error = Reloaded::load(&path, parse).expect_err("broken").to_string();
        assert!(error.contains("number: not a number"), "{error}");
        std::fs::write(&path, "1").expect("written");

        let number = Reloaded::load(&path, parse).expect("a number");
        for (text, wanted) in [("2", 2), ("two", 2), ("3", 3)] {
            std::fs::write(&path, text).expect("written");
            tokio::time::advance(READ_EVERY).await;
            assert_eq!((*number.get(), number.is_usable()), (wanted, text != "two"), "{text}");
        }

        std::fs::remove_file(&path).expect("removed");
        tokio::time::advance(READ_EVERY).await;
        assert_eq!((*number.get(), number.is_usable()), (3, false));
    }
}
