//! Running transfers, and blobs that repositories have, for all passes of the process.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::bounded::Cache;
use crate::failure::Failure;
use crate::hash::Fingerprint;
use crate::registry::{Client, Digest};

/// Room for some 50,000 blobs that are remembered for mounts.
const HELD_BYTES: usize = 8 * 1024 * 1024;

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

/// The result of a transfer; `None` while it is running.
type Outcome = watch::Receiver<Option<Result<(), Failure>>>;

/// The running transfers, so that a blob is sent to a repository only once at a time, whatever
/// number of passes want it; and the repositories that have a blob, so that it can be mounted.
#[derive(Debug)]
pub(in crate::sync) struct Blobs {
    running: Mutex<HashMap<BlobKey, Outcome>>,
    /// A blob as it was read -> a repository with an image that has it.
    repositories: Mutex<Cache<Fingerprint, String>>,
}

impl Default for Blobs {
    fn default() -> Self {
        Self { running: Mutex::default(), repositories: Mutex::new(Cache::new(HELD_BYTES)) }
    }
}

/// The pass that transfers a blob.
pub(super) enum Turn {
    /// The pass that asks.
    Lead(Lead),
    /// Another pass.
    Follow(Outcome),
}

/// The right to transfer a blob. If it is dropped without [`Lead::finish`], one of the waiting
/// passes gets it.
pub(super) struct Lead {
    blobs: Arc<Blobs>,
    key: BlobKey,
    finished: watch::Sender<Option<Result<(), Failure>>>,
}

impl Blobs {
    /// Joins the transfer of a blob, or starts it.
    pub(super) fn turn(self: &Arc<Self>, key: &BlobKey) -> Turn {
        let mut running = self.running.lock();
        if let Some(outcome) = running.get(key) {
            return Turn::Follow(outcome.clone());
        }
        let (finished, outcome) = watch::channel(None);
        running.insert(key.clone(), outcome);
        Turn::Lead(Lead { blobs: self.clone(), key: key.clone(), finished })
    }

    /// Records that a repository has these blobs, which this reader has read, and an image with
    /// them: ECR mounts no others.
    pub(super) fn are_held<'a>(
        &self,
        target: &Client,
        repository: &str,
        reader: Fingerprint,
        digests: impl Iterator<Item = &'a Digest>,
    ) {
        let mut repositories = self.repositories.lock();
        for digest in digests {
            let key = held(target.host(), reader, digest);
            repositories.insert(key, repository.to_owned(), repository.len());
        }
    }

    /// Returns another repository of the same registry that has the blob, if one is known and the
    /// blob was read by the same reader.
    pub(super) fn holder(&self, key: &BlobKey, reader: Fingerprint) -> Option<String> {
        let mut repositories = self.repositories.lock();
        repositories
            .get(&held(&key.host, reader, &key.digest))
            .filter(|other| **other != key.repository)
            .cloned()
    }
}

/// Returns the key of a blob that can be mounted: the host of the target, the reader and the digest.
///
/// # Guarantees
/// A blob is mounted only for those who read it from the same registry with the same login. Others
/// could name any digest in a manifest of their own, and get content that they may not read.
fn held(host: &str, reader: Fingerprint, digest: &Digest) -> Fingerprint {
    Fingerprint::of((host, reader, digest))
}

impl Lead {
    /// Gives the result to all waiting passes.
    pub(super) fn finish(self, result: Result<(), Failure>) {
        self.finished.send_replace(Some(result));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.blobs.running.lock().remove(&self.key);
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
    async fn one_pass_transfers_a_blob_and_the_others_wait() {
        let blobs = Arc::new(Blobs::default());
        let Turn::Lead(lead) = blobs.turn(&key("a")) else { panic!("nobody else is there") };
        let Turn::Follow(mut follower) = blobs.turn(&key("a")) else { panic!("it moves already") };
        assert!(matches!(blobs.turn(&key("b")), Turn::Lead(_)), "another repository");
        lead.finish(Ok(()));
        assert_eq!(*follower.wait_for(Option::is_some).await.expect("a result"), Some(Ok(())));
        assert!(matches!(blobs.turn(&key("a")), Turn::Lead(_)), "an ended transfer is forgotten");
    }

    #[tokio::test]
    async fn after_a_dropped_leader_the_next_pass_leads() {
        let blobs = Arc::new(Blobs::default());
        let Turn::Lead(lead) = blobs.turn(&key("a")) else { panic!("nobody else is there") };
        let Turn::Follow(mut follower) = blobs.turn(&key("a")) else { panic!("it moves already") };
        drop(lead);
        assert!(follower.wait_for(Option::is_some).await.is_err());
        assert!(matches!(blobs.turn(&key("a")), Turn::Lead(_)));
    }
}
