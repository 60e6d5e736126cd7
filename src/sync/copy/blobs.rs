//! Moves blobs, each once.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::class::Class;
use crate::meter::Meter;
use crate::registry::{Client, Descriptor, Digest, copy_blob};
use crate::sync::{Failure, Origin, Progress};

/// Blobs of one repository on the way at the same time. ECR was seen to reset sockets when one client sent many
/// layers at once; a stream holds two buffers of at most 256 KiB.
const CONCURRENT_BLOBS: usize = 8;

/// Blobs on their way. Dropping it stops them all.
pub(super) struct Transfers {
    outcomes: HashMap<Digest, watch::Receiver<Option<Result<(), Failure>>>>,
    _tasks: JoinSet<()>,
}

impl Transfers {
    /// Starts to move `blobs`, which the target lacks.
    pub(super) fn start(
        origin: &Origin,
        target: &Client,
        target_repository: &str,
        blobs: impl Iterator<Item = Descriptor>,
        progress: &Progress,
        meter: &Arc<dyn Meter>,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(CONCURRENT_BLOBS));
        let mut tasks = JoinSet::new();
        let mut outcomes = HashMap::new();
        for blob in blobs {
            let (finished, outcome) = watch::channel(None);
            meter.to_copy(blob.size);
            outcomes.insert(blob.digest.clone(), outcome);
            let (permits, progress, meter) = (permits.clone(), progress.clone(), meter.clone());
            let (source, source_repository) = (origin.client.clone(), origin.repository.clone());
            let (target, target_repository) = (target.clone(), target_repository.to_owned());
            tasks.spawn(async move {
                // The semaphore is never closed.
                let _permit = permits.acquire_owned().await;
                let result = copy_blob(&source, &source_repository, &target, &target_repository, &blob, &|bytes| {
                    progress.advance(bytes);
                    meter.copied(bytes);
                })
                .await;
                tracing::debug!(digest = %blob.digest, size = blob.size, ok = result.is_ok(), "blob");
                finished.send_replace(Some(result.map_err(Failure::from)));
            });
        }
        Self { outcomes, _tasks: tasks }
    }

    /// Returns when these blobs are in the target; those that were there at the start are not waited for.
    ///
    /// # Errors
    /// The first failure.
    pub(super) async fn wait_for(&self, blobs: &[Descriptor]) -> Result<(), Failure> {
        for blob in blobs {
            let Some(outcome) = self.outcomes.get(&blob.digest) else { continue };
            let mut outcome = outcome.clone();
            match outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone()) {
                Ok(Some(result)) => result?,
                // The task ended without a word: it panicked.
                _ => return Err(Failure::new(Class::Internal, format!("the copy of blob {} broke off", blob.digest))),
            }
        }
        Ok(())
    }
}
