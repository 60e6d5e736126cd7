//! Moves blobs, each once.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::inflight::{BlobKey, Blobs, Turn};
use crate::class::Class;
use crate::failure::Failure;
use crate::meter::Meter;
use crate::registry::{Client, Descriptor, Digest, copy_blob, mount_or_copy_blob};
use crate::sync::origin::Origin;
use crate::sync::progress::Progress;

/// What moves for one repository at the same time, in shares: 32 small blobs, whose time is spent
/// waiting for answers, or 8 large ones. ECR was seen to reset sockets when one client sent many
/// large layers at once; a stream holds two buffers of at most 256 KiB.
const SHARES: usize = 32;
const LARGE_TAKES: u32 = 4;
/// From here on a link is busy with eight of them: 32 MiB take longer than any wait for an answer.
const LARGE: u64 = 4 * 1024 * 1024;

/// Blobs on their way. Dropping it stops them all.
pub(super) struct Transfers {
    outcomes: HashMap<Digest, watch::Receiver<Option<Result<(), Failure>>>>,
    _tasks: JoinSet<()>,
}

/// Between which repositories blobs move.
#[derive(Clone)]
pub(super) struct Route {
    source: Client,
    source_repository: String,
    target: Client,
    target_repository: String,
    /// Whether the target takes blobs from other repositories of its own.
    mounts: bool,
    shares: Arc<Semaphore>,
    moving: Arc<Blobs>,
    progress: Progress,
    meter: Arc<dyn Meter>,
}

impl Route {
    pub(super) fn new(
        origin: &Origin,
        (target, target_repository): (&Client, &str),
        mounts: bool,
        moving: &Arc<Blobs>,
        progress: &Progress,
        meter: &Arc<dyn Meter>,
    ) -> Self {
        Self {
            source: origin.client.clone(),
            source_repository: origin.repository.clone(),
            target: target.clone(),
            target_repository: target_repository.to_owned(),
            mounts,
            shares: Arc::new(Semaphore::new(SHARES)),
            moving: moving.clone(),
            progress: progress.clone(),
            meter: meter.clone(),
        }
    }

    /// Moves a blob, or waits for another pass that does. One that fails may have had another
    /// credential than we have: then it is our turn.
    async fn bring(&self, blob: &Descriptor) -> Result<(), Failure> {
        let key = BlobKey::new(&self.target, &self.target_repository, &blob.digest);
        loop {
            match self.moving.turn(&key) {
                Turn::Lead(lead) => {
                    let result = self.send(blob, &key).await;
                    lead.finish(result.clone());
                    return result;
                }
                Turn::Follow(mut outcome) => {
                    if matches!(
                        outcome.wait_for(Option::is_some).await.as_deref(),
                        Ok(Some(Ok(())))
                    ) {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn send(&self, blob: &Descriptor, key: &BlobKey) -> Result<(), Failure> {
        // The semaphore is never closed.
        let _share =
            self.shares.acquire_many(if blob.size < LARGE { 1 } else { LARGE_TAKES }).await;
        let Self { source, source_repository, target, target_repository, .. } = self;
        let observer = |bytes| {
            self.progress.sent(bytes);
            self.meter.copied(bytes);
        };
        let holder = if self.mounts { self.moving.holder(key) } else { None };
        let moved = match &holder {
            Some(from) => mount_or_copy_blob(
                source,
                source_repository,
                target,
                target_repository,
                blob,
                from,
                &observer,
            )
            .await
            .map(drop),
            None => {
                copy_blob(source, source_repository, target, target_repository, blob, &observer)
                    .await
            }
        };
        tracing::debug!(digest = %blob.digest, size = blob.size, ok = moved.is_ok(), ?holder, "blob");
        moved.map_err(Failure::from)
    }
}

impl Transfers {
    /// Starts to move `blobs`, which the target lacks.
    pub(super) fn start(route: &Route, blobs: impl Iterator<Item = Descriptor>) -> Self {
        let mut tasks = JoinSet::new();
        let mut outcomes = HashMap::new();
        for blob in blobs {
            let (finished, outcome) = watch::channel(None);
            route.meter.to_copy(blob.size);
            route.progress.expects_blob(blob.size);
            outcomes.insert(blob.digest.clone(), outcome);
            let route = route.clone();
            tasks.spawn(async move {
                let result = route.bring(&blob).await;
                route.progress.ended_blob();
                finished.send_replace(Some(result));
            });
        }
        Self { outcomes, _tasks: tasks }
    }

    /// Returns when these blobs are in the target; those that were there at the start are not
    /// waited for.
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
                _ => {
                    return Err(Failure::new(
                        Class::Internal,
                        format!("the copy of blob {} broke off", blob.digest),
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::Silent;
    use crate::registry::tests::{Peer, respond};

    #[tokio::test]
    async fn a_blob_that_the_first_pass_cannot_read_is_brought_by_the_second() {
        let refuses = Peer::new(|_| respond(403, &[], "")).await;
        let gives = Peer::new(|_| respond(200, &[], "blob")).await;
        let target = Peer::new(|seen| match seen.line.starts_with("POST") {
            true => respond(202, &[("location", "/v2/app/blobs/uploads/1")], ""),
            false => respond(201, &[], ""),
        })
        .await;
        let moving = Arc::new(Blobs::default());
        let meter: Arc<dyn Meter> = Arc::new(Silent);
        let to = target.client();
        let route = |from: &Peer| {
            let origin = Origin::new(from.client(), "a");
            Route::new(&origin, (&to, "app"), false, &moving, &Progress::default(), &meter)
        };
        let (first, second, third) = (route(&refuses), route(&gives), route(&gives));
        let blob = Descriptor::new("application/octet-stream", Digest::sha256_of(b"blob"), 4);
        // In this order: the first one leads, the others wait for it.
        let (first, second, third) =
            tokio::join!(first.bring(&blob), second.bring(&blob), third.bring(&blob));
        assert_eq!(
            (first.map_err(|failure| failure.class), second, third),
            (Err(Class::AuthenticationFailed), Ok(()), Ok(()))
        );
        assert_eq!((refuses.count("GET"), gives.count("GET"), target.count("PUT")), (1, 1, 1));
    }
}
