//! A file in which the demo's user denies actions of AWS.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::ecr::StandIn;

/// Lines of `ACTION REPOSITORIES`, such as `ecr:PutLifecyclePolicy nginx` or `ecr:* team/*`, as
/// [`StandIn::deny`] takes them. Without the file everything is allowed.
#[derive(Debug)]
pub(super) struct Denied {
    file: PathBuf,
    seen: String,
}

impl Denied {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, seen: String::new() }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Reads the file and, if it is not as it was, denies what it says and nothing else. Returns
    /// what it says then.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or a line is not as it should be; the other lines
    /// hold.
    pub(super) fn follow(&mut self, ecr: &StandIn) -> Result<Option<String>, String> {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("cannot read {}: {error}", self.file.display())),
        };
        if text == self.seen {
            return Ok(None);
        }
        ecr.allow_all();
        let mut wrong = None;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                [action, repositories] if action.starts_with("ecr:") => {
                    ecr.deny(action, repositories)
                }
                _ => {
                    wrong = Some(format!(
                        "{line}: write an action and repositories, such as: ecr:PutLifecyclePolicy nginx"
                    ))
                }
            }
        }
        self.seen = text;
        match wrong {
            Some(wrong) => Err(wrong),
            None if self.seen.trim().is_empty() => Ok(Some("everything is allowed".to_owned())),
            None => Ok(Some(format!("denied: {}", self.seen.trim().replace('\n', ", ")))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecr::Config;

    #[tokio::test]
    async fn the_file_is_followed_and_a_wrong_line_is_told_once() {
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
