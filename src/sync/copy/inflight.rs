//! Blobs on their way and blobs that are there, over all passes of the process.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use crate::bounded::BoundedMap;
use crate::failure::Failure;
use crate::registry::{Client, Digest};

/// The number of blobs that are kept for mounts. An entry has some 150 bytes.
const MAX_HELD: usize = 50_000;

/// A blob of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct BlobKey {
    host: String,
    repository: String,
    digest: Digest,
}

impl BlobKey {
    pub(super) fn new(target: &Client, repository: &str, digest: &Digest) -> Self {
        Self {
            host: target.host().to_owned(),
            repository: repository.to_owned(),
            digest: digest.clone(),
        }
    }
}

/// How a transfer ended; `None` while it is under way.
type Outcome = watch::Receiver<Option<Result<(), Failure>>>;

/// Which blobs move where, so that each moves once per repository, whoever wants it; and which
/// repositories are known to have a blob, so that it can be mounted from there.
#[derive(Debug, Default)]
pub(in crate::sync) struct Blobs {
    moving: Mutex<HashMap<BlobKey, Outcome>>,
    /// Host and digest -> a repository with an image that names the blob.
    held: Mutex<BoundedMap<(String, Digest), String, MAX_HELD>>,
}

/// Who moves a blob.
pub(super) enum Turn {
    /// We do.
    Lead(Lead),
    /// Somebody does already.
    Follow(Outcome),
}

/// The right to move a blob. Dropped without [`Lead::finish`], it goes to one of those who wait.
pub(super) struct Lead {
    blobs: Arc<Blobs>,
    key: BlobKey,
    finished: watch::Sender<Option<Result<(), Failure>>>,
}

impl Blobs {
    /// Joins the transfer of a blob, or begins it.
    pub(super) fn turn(self: &Arc<Self>, key: &BlobKey) -> Turn {
        let mut moving = self.moving();
        if let Some(outcome) = moving.get(key) {
            return Turn::Follow(outcome.clone());
        }
        let (finished, outcome) = watch::channel(None);
        moving.insert(key.clone(), outcome);
        Turn::Lead(Lead { blobs: self.clone(), key: key.clone(), finished })
    }

    /// Notes that a repository has these blobs, and an image that names them: ECR mounts no others.
    pub(super) fn are_held<'a>(
        &self,
        target: &Client,
        repository: &str,
        digests: impl Iterator<Item = &'a Digest>,
    ) {
        let mut held = self.held.lock();
        for digest in digests {
            held.insert((target.host().to_owned(), digest.clone()), repository.to_owned());
        }
    }

    /// Another repository of the same registry that has the blob, as far as it is known.
    pub(super) fn holder(&self, key: &BlobKey) -> Option<String> {
        let held = self.held.lock();
        held.get(&(key.host.clone(), key.digest.clone()))
            .filter(|other| **other != key.repository)
            .cloned()
    }

    fn moving(&self) -> MutexGuard<'_, HashMap<BlobKey, Outcome>> {
        self.moving.lock()
    }
}

impl Lead {
    /// Tells everybody how it ended.
    pub(super) fn finish(self, result: Result<(), Failure>) {
        self.finished.send_replace(Some(result));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.blobs.moving().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(repository: &str) -> BlobKey {
        BlobKey {
            host: "h".to_owned(),
            repository: repository.to_owned(),
            digest: Digest::sha256_of(b"blob"),
        }
    }

    #[tokio::test]
    async fn one_moves_a_blob_and_the_others_wait() {
        let blobs = Arc::new(Blobs::default());
        let Turn::Lead(lead) = blobs.turn(&key("a")) else { panic!("nobody else is there") };
        let Turn::Follow(mut follower) = blobs.turn(&key("a")) else { panic!("it moves already") };
        assert!(matches!(blobs.turn(&key("b")), Turn::Lead(_)), "another repository");
        lead.finish(Ok(()));
        assert_eq!(*follower.wait_for(Option::is_some).await.expect("told"), Some(Ok(())));
        assert!(matches!(blobs.turn(&key("a")), Turn::Lead(_)), "what has ended is forgotten");
    }

    #[tokio::test]
    async fn a_leader_that_goes_away_leaves_the_way_to_the_next() {
        let blobs = Arc::new(Blobs::default());
        let Turn::Lead(lead) = blobs.turn(&key("a")) else { panic!("nobody else is there") };
        let Turn::Follow(mut follower) = blobs.turn(&key("a")) else { panic!("it moves already") };
        drop(lead);
        assert!(follower.wait_for(Option::is_some).await.is_err());
        assert!(matches!(blobs.turn(&key("a")), Turn::Lead(_)));
    }
}
