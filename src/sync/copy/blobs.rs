//! Transfers of blobs, each blob once.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::inflight::{BlobKey, Blobs, Turn};
use crate::class::Class;
use crate::failure::Failure;
use crate::hash::Fingerprint;
use crate::meter::Meter;
use crate::place;
use crate::registry::{Client, Descriptor, Digest, Moved, copy_blob, mount_or_copy_blob};
use crate::sync::progress::Progress;
use crate::writes;

/// Transfers to one repository at the same time, in shares: 32 small blobs, which mostly wait for
/// answers, or 8 large ones. ECR was seen to reset sockets when one client sent many large layers
/// at the same time. A stream has two buffers of at most 256 KiB.
const SHARES: usize = 32;
/// Shares of a large blob.
const LARGE_SHARES: u32 = 4;
/// Size of a large blob. Eight of them, 32 MiB, keep a link busy for longer than any answer takes.
const LARGE: u64 = 4 * 1024 * 1024;

/// The result of a transfer; `None` until it has ended.
type Outcome = Option<Result<(), Failure>>;

/// Running transfers. They stop when this is dropped.
pub(super) struct Transfers {
    outcomes: HashMap<Digest, watch::Receiver<Outcome>>,
    _tasks: JoinSet<()>,
}

/// The repositories between which blobs are transferred.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) source: Client,
    pub(super) source_repository: String,
    pub(super) reader: Fingerprint,
    pub(super) target: Client,
    pub(super) target_repository: String,
    /// Whether the target mounts blobs of its other repositories.
    pub(super) mounts: bool,
    pub(super) moving: Arc<Blobs>,
    pub(super) progress: Progress,
    pub(super) meter: Arc<dyn Meter>,
}

impl Route {
    /// Transfers a blob, or waits for another pass that does. If that fails, it may have had
    /// another credential, so this pass tries next.
    async fn transfer(&self, blob: &Descriptor) -> Result<(), Failure> {
        let key = BlobKey::new(&self.target, &self.target_repository, &blob.digest);
        loop {
            match self.moving.turn(&key) {
                Turn::Lead(lead) => {
                    let result = self.send(blob, &key).await;
                    lead.finish(result.clone());
                    return result;
                }
                Turn::Follow(mut outcome) => {
                    let result = outcome.wait_for(Option::is_some).await;
                    if matches!(result.as_deref(), Ok(Some(Ok(())))) {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn send(&self, blob: &Descriptor, key: &BlobKey) -> Result<(), Failure> {
        let Self { source, source_repository, target, target_repository, .. } = self;
        let observer = |bytes| {
            self.progress.sent(bytes);
            self.meter.copied(bytes);
        };

        let holder = if self.mounts { self.moving.holder(key, self.reader) } else { None };
        let result = match &holder {
            Some(from) => {
                mount_or_copy_blob(
                    source,
                    source_repository,
                    target,
                    target_repository,
                    blob,
                    from,
                    &observer,
                )
                .await
            }
            None => {
                copy_blob(source, source_repository, target, target_repository, blob, &observer)
                    .await
                    .map(|()| Moved::Copied)
            }
        };

        let Descriptor { digest, size, .. } = blob;
        tracing::debug!(%digest, size, ok = result.is_ok(), ?holder, "blob");
        // A blob that failed is not in the repository.
        if let Ok(moved) = &result {
            let operation = match moved {
                Moved::Copied => "CompleteLayerUpload",
                Moved::Mounted => "MountLayer",
            };
            writes::sent(operation, digest.as_str(), "OK");
        }
        result.map(drop).map_err(Failure::from)
    }
}

impl Transfers {
    /// Starts to transfer `blobs`, which the target lacks.
    pub(super) fn start(route: &Route, blobs: impl Iterator<Item = Descriptor>) -> Self {
        let mut queue = Vec::new();
        let mut outcomes = HashMap::new();
        for blob in blobs {
            let (finished, outcome) = watch::channel(None);
            route.meter.to_copy(blob.size);
            route.progress.expects_blob(blob.size);
            outcomes.insert(blob.digest.clone(), outcome);
            queue.push((blob, finished));
        }

        let mut tasks = JoinSet::new();
        let transfers = transfer_all(route.clone(), queue);
        tasks.spawn(place::inherited(writes::inherited(transfers)));
        Self { outcomes, _tasks: tasks }
    }

    /// Returns when these blobs are in the target. Blobs that were not missing at the start need no
    /// wait.
    ///
    /// # Errors
    /// The first failure.
    pub(super) async fn wait_for(&self, blobs: &[Descriptor]) -> Result<(), Failure> {
        for blob in blobs {
            let Some(outcome) = self.outcomes.get(&blob.digest) else { continue };
            let mut outcome = outcome.clone();
            match outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone()) {
                Ok(Some(result)) => result?,
                // The task panicked.
                _ => {
                    return Err(Failure::new(
                        Class::Internal,
                        format!("the copy of blob {} was interrupted", blob.digest),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Transfers blobs in this order. Only those that have a share have a task: an image may have
/// thousands of blobs, and a task with its connections takes 17 KB.
async fn transfer_all(route: Route, queue: Vec<(Descriptor, watch::Sender<Outcome>)>) {
    let shares = Arc::new(Semaphore::new(SHARES));
    let mut tasks = JoinSet::new();

    for (blob, finished) in queue {
        let share = if blob.size < LARGE { 1 } else { LARGE_SHARES };
        // The semaphore is never closed.
        let share = shares.clone().acquire_many_owned(share).await;
        let route = route.clone();
        tasks.spawn(place::inherited(writes::inherited(async move {
            // Bytes that arrive are progress: only a transfer that hangs gives its place back.
            let result = place::waiting(Some(route.source.host()), route.transfer(&blob)).await;
            drop(share);
            route.progress.ended_blob();
            finished.send_replace(Some(result));
        })));
        while tasks.try_join_next().is_some() {}
    }

    while tasks.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::Silent;
    use crate::registry::tests::{Peer, respond};

    #[tokio::test]
    async fn the_second_pass_transfers_a_blob_that_the_first_cannot_read() {
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
        let route = |from: &Peer| Route {
            source: from.client(),
            source_repository: "a".to_owned(),
            reader: Fingerprint::of(()),
            target: to.clone(),
            target_repository: "app".to_owned(),
            mounts: false,
            moving: moving.clone(),
            progress: Progress::default(),
            meter: meter.clone(),
        };
        let first = route(&refuses);
        let second = route(&gives);
        let third = route(&gives);

        let blob = Descriptor::new("application/octet-stream", Digest::sha256_of(b"blob"), 4);
        // In this order: the first one leads, the others wait for it.
        let (first, second, third) =
            tokio::join!(first.transfer(&blob), second.transfer(&blob), third.transfer(&blob));

        assert_eq!(
            (first.map_err(|failure| failure.class), second, third),
            (Err(Class::AuthenticationFailed), Ok(()), Ok(()))
        );
        assert_eq!((refuses.count("GET"), gives.count("GET"), target.count("PUT")), (1, 1, 1));
    }
}
