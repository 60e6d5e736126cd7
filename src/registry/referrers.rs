//! Referrers of a manifest: signatures, attestations, bills of materials.
//! <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers>

use super::auth::Scope;
use super::cause::Cause;
use super::client::Client;
use super::digest::Digest;
use super::error::Error;
use super::manifest::{Content, Manifest, NEED, OCI_INDEX};
use super::manifests::MAX_MANIFEST_BYTES;
use super::reference::TagOrDigest;
use super::tags::{Page, Pages};

/// The most referrers of one manifest. One with a signature per build and scan has hundreds.
const MAX_REFERRERS: usize = 10_000;

impl Client {
    /// Lists the referrers of the manifest `digest` by the referrers API. `None` if the registry
    /// does not have this API, or answers something else there (GitLab, oras-project/oras#2148):
    /// then the tag `sha256-…` may list them.
    ///
    /// # Errors
    /// [`Error::ReadManifest`].
    pub(crate) async fn referrers(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<Vec<Digest>>, Error> {
        match self.read_referrers(repository, digest).await {
            Ok(referrers) => Ok(Some(referrers)),
            Err(Cause::Unreadable(_)) => Ok(None),
            Err(Cause::Answer(answer))
                if matches!(answer.status.as_u16(), 400 | 404 | 405 | 406 | 501) =>
            {
                Ok(None)
            }
            Err(failure) => {
                Err(failure.read_manifest(self.subject(repository, &TagOrDigest::from(digest))))
            }
        }
    }

    async fn read_referrers(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Vec<Digest>, Cause> {
        let mut url = self.url(repository, &format!("referrers/{digest}"))?;
        let mut pages = Pages::default();
        let mut referrers = Vec::new();

        loop {
            let scope = Scope::pull(repository);
            let Page { body, memory, next } =
                self.page(url, scope, NEED, MAX_MANIFEST_BYTES).await?;
            match Manifest::new(body, OCI_INDEX).parse()? {
                Content::Index { children } => {
                    referrers.extend(children.into_iter().map(|child| child.digest));
                }
                Content::Image { .. } => {
                    return Err(Cause::Unreadable("it is not a list of referrers".to_owned()));
                }
            }
            // Before the next page is waited for.
            drop(memory);
            if referrers.len() > MAX_REFERRERS {
                return Err(Cause::Unexpected(format!(
                    "the manifest has more than {MAX_REFERRERS} referrers"
                )));
            }

            match next {
                Some(next) => url = pages.next(next)?,
                None => return Ok(referrers),
            }
        }
    }
}
