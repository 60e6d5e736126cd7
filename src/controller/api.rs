//! Calls to the API server, each with a deadline.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use kube::{Api, Client};

use super::guarded::Guarded;
use crate::api::v1alpha1::EcrRepositorySync;
use crate::ecr::Owner;
use crate::sync::OwnerLookup;
use crate::text::shortened;

/// kube sets no deadline on ordinary requests, and its own retries may take minutes.
const DEADLINE: Duration = Duration::from_secs(15);

/// Longest text of an error, in characters.
const LONGEST_TEXT: usize = 500;

/// A call to the API server that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// An error answer, or a failure of the client. kube's own text repeats the answer as debug
    /// output.
    #[error("{}", brief(.0))]
    Kube(#[from] kube::Error),
    #[error("the API server did not answer within {} s", DEADLINE.as_secs())]
    Late,
}

impl ApiError {
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Kube(kube::Error::Api(status)) if status.is_not_found())
    }

    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Kube(kube::Error::Api(status)) if status.is_forbidden())
    }
}

/// Returns the text of an error, without content of the answer.
pub(crate) fn brief(error: &kube::Error) -> String {
    let text = match error {
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::SerdeError(error) => format!(
            "the answer cannot be decoded ({:?} error at column {})",
            error.classify(),
            error.column()
        ),
        other => other.to_string(),
    };
    shortened(&text, LONGEST_TEXT).into_owned()
}

/// Runs a call to the API server with a deadline.
pub(super) async fn in_time<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ApiError::Late),
    }
}

/// The cluster, as far as the engine asks for it: owners of repositories, tokens of ServiceAccounts.
pub(crate) struct Cluster {
    pub(super) client: Client,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

impl Cluster {
    pub(crate) const fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl OwnerLookup for Cluster {
    async fn is_gone(&self, owner: &Owner, repository: &str) -> bool {
        let resources: Api<Guarded<EcrRepositorySync>> =
            Api::namespaced(self.client.clone(), &owner.namespace);

        match in_time(resources.get_opt(&owner.name)).await {
            Ok(None) => true,
            // A resource keeps its repository, but a later resource may have the same name.
            Ok(Some(Guarded(Ok(object)))) => object.repository() != repository,
            // Nobody knows its repository: it counts as this one.
            Ok(Some(Guarded(Err(_)))) => false,
            // Without an answer the owner counts as alive: its repository is not taken from it.
            Err(error) => {
                tracing::warn!(
                    %error,
                    namespace = owner.namespace,
                    name = owner.name,
                    repository,
                    "cannot check whether the owner of a repository still exists; assuming it does"
                );
                false
            }
        }
    }
}
