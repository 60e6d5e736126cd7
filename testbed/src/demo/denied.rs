//! The file in which a user of the demo denies AWS actions.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::ecr::StandIn;

/// A file of lines `ACTION REPOSITORIES`, such as `ecr:PutLifecyclePolicy nginx` or `ecr:* team/*`,
/// as [`StandIn::deny`] accepts them. Without the file, everything is allowed.
#[derive(Debug)]
pub(super) struct Denied {
    file: PathBuf,
    applied: String,
}

impl Denied {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, applied: String::new() }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Reads the file; if it has changed, denies exactly its actions, and returns them as text.
    ///
    /// # Errors
    /// When the file exists and cannot be read, or a line is invalid; the other lines apply.
    pub(super) fn follow(&mut self, ecr: &StandIn) -> Result<Option<String>, String> {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("cannot read {}: {error}", self.file.display())),
        };
        if text == self.applied {
            return Ok(None);
        }

        ecr.allow_all();
        let mut invalid = None;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                [action, repositories] if action.starts_with("ecr:") => {
                    ecr.deny(action, repositories)
                }
                _ => {
                    invalid = Some(format!(
                        "{line}: write an action and repositories, such as: \
                         ecr:PutLifecyclePolicy nginx"
                    ))
                }
            }
        }

        self.applied = text;
        match (invalid, self.applied.trim()) {
            (Some(message), _) => Err(message),
            (None, "") => Ok(Some("everything is allowed".to_owned())),
            (None, lines) => Ok(Some(format!("denied: {}", lines.replace('\n', ", ")))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecr::Config;

    #[tokio::test]
    async fn the_file_is_followed_and_an_invalid_line_is_reported_once() {
        let ecr = StandIn::start(Config::default()).await.expect("a stand-in");
        let folder = tempfile::tempdir().expect("a folder");
        let mut denied = Denied::new(folder.path().join("denied"));
        assert_eq!(denied.follow(&ecr), Ok(None));
        fs::write(denied.file(), "ecr:* nginx\n").expect("written");
        assert_eq!(denied.follow(&ecr), Ok(Some("denied: ecr:* nginx".to_owned())));
        assert_eq!(denied.follow(&ecr), Ok(None));
        fs::write(denied.file(), "PutImage\n").expect("written");
        assert!(denied.follow(&ecr).is_err_and(|error| error.contains("PutImage")));
        assert_eq!(denied.follow(&ecr), Ok(None));
        fs::remove_file(denied.file()).expect("removed");
        assert_eq!(denied.follow(&ecr), Ok(Some("everything is allowed".to_owned())));
    }
}
