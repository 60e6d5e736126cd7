//! Files that are read again when they change, as a mounted ConfigMap does.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often a file is looked at; kubelet takes a minute to bring a change of a ConfigMap.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// More than anybody writes by hand; ConfigMaps hold 1 MiB.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// What a file says, as of a moment ago. Clones share it.
pub struct Reloaded<T>(Arc<Inner<T>>);

struct Inner<T> {
    path: PathBuf,
    parse: fn(&str) -> Result<T, String>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    text: String,
    looked: Instant,
    /// Of the last look, so that it is told once.
    problem: Option<String>,
}

/// A file that may become unusable while it is in use.
pub trait Checked: fmt::Debug + Send + Sync {
    /// Whether what it says now is in force.
    fn is_usable(&self) -> bool;
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Error {
    path: String,
    message: String,
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
    /// When it cannot be read, or `parse` does not understand it.
    pub fn load(path: &Path, parse: fn(&str) -> Result<T, String>) -> Result<Self, Error> {
        let wrong = |message| Error { path: path.display().to_string(), message };
        let text = read(path).map_err(wrong)?;
        let value = Arc::new(parse(&text).map_err(wrong)?);
        let state = Mutex::new(State { value, text, looked: Instant::now(), problem: None });
        Ok(Self(Arc::new(Inner { path: path.to_owned(), parse, state })))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What the file says. One that was changed into something unreadable counts as unchanged, and
    /// is complained of.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        let Inner { path, parse, state } = &*self.0;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() < LOOK_EVERY {
            return state.value.clone();
        }
        state.looked = Instant::now();
        let changed = match read(path) {
            Ok(text) if text == state.text => Ok(None),
            Ok(text) => parse(&text).map(|value| Some((text, value))),
            Err(problem) => Err(problem),
        };
        match changed {
            Ok(None) => state.problem = None,
            Ok(Some((text, value))) => {
                tracing::info!(path = %path.display(), "read again: the file changed");
                (state.text, state.value, state.problem) = (text, Arc::new(value), None);
            }
            Err(problem) => {
                if state.problem.as_ref() != Some(&problem) {
                    tracing::error!(path = %path.display(), problem, "cannot be used: what it said before stays in force");
                }
                state.problem = Some(problem);
            }
        }
        state.value.clone()
    }
}

impl<T: Send + Sync> Checked for Reloaded<T> {
    fn is_usable(&self) -> bool {
        // Looks, if it was not looked at a moment ago.
        let _current = self.get();
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).problem.is_none()
    }
}

fn read(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MOST_BYTES {
        return Err(format!("has {size} bytes, more than the {MOST_BYTES} that are read"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<u32, String> {
        text.trim().parse().map_err(|_| "not a number".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_read_again_and_a_broken_one_leaves_things_as_they_are() {
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
            tokio::time::advance(LOOK_EVERY).await;
            assert_eq!((*number.get(), number.is_usable()), (wanted, text != "two"), "{text}");
        }
        std::fs::remove_file(&path).expect("removed");
        tokio::time::advance(LOOK_EVERY).await;
        assert_eq!((*number.get(), number.is_usable()), (3, false));
    }
}
