//! Actions that IAM does not allow.

use super::errors::{Error, Result};
use super::iam::not_authorized;
use super::quantities::wildcard;
use super::sigv4::{Caller, partition};
use parking_lot::Mutex;

/// Denied (action, repository pattern) pairs.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<Vec<(String, String)>>);

impl Denials {
    pub(crate) fn add(&self, action: &str, repositories: &str) {
        self.0.lock().push((action.to_owned(), repositories.to_owned()));
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    /// `action` without its `ecr:`; `repository` is empty for actions on the registry.
    pub(crate) fn check(
        &self,
        caller: &Caller,
        account: &str,
        action: &str,
        repository: &str,
    ) -> Result<()> {
        let action = format!("ecr:{action}");
        let denied =
            self.0.lock().iter().any(|(denied, pattern)| {
                wildcard(denied, &action) && wildcard(pattern, repository)
            });
        if !denied {
            return Ok(());
        }
        let resource = match repository {
            "" => "*".to_owned(),
            name => arn(account, &caller.region, name),
        };
        Err(Error::api("AccessDeniedException", not_authorized(&caller.arn(), &action, &resource)))
    }
}

/// The ARN of a repository.
pub(crate) fn arn(account: &str, region: &str, name: &str) -> String {
    format!("arn:{}:ecr:{region}:{account}:repository/{name}", partition(region))
}
