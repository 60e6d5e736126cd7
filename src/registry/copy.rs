//! Copies of one blob from registry to registry: mount, stream, retry.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::TryFutureExt as _;
use tokio::try_join;

use super::blobs::{BlobStream, inline};
use super::cause::Cause;
use super::client::Client;
use super::descriptor::Descriptor;
use super::error::Error;
use super::limit::{Slot, both};
use super::reference::TagOrDigest;
use super::retry;
use super::upload::{Observer, Session, Started};

/// The number of times that a whole blob is restarted. Requests have retries of their own, and
/// downloads resumes.
const MAX_RESTARTS: u32 = 3;

/// The way in which a blob came to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// The bytes were sent.
    Copied,
    /// The target mounted it from another of its repositories.
    Mounted,
}

/// Copies a blob: opens it at the source and a session at the target at the same time, streams the
/// bytes, and restarts if that may help. `observer` counts each byte once, even after a restart.
///
/// # Guarantees
/// The target never receives the end of wrong content. No slot of one side is held while waiting
/// for a slot of the other.
///
/// # Errors
/// [`Error::ReadBlob`] if the source failed, [`Error::WriteBlob`] if the target did.
pub(crate) async fn copy_blob(
    source: &Client,
    source_repository: &str,
    target: &Client,
    target_repository: &str,
    descriptor: &Descriptor,
    observer: Observer<'_>,
) -> Result<(), Error> {
    let copy = BlobCopy {
        source,
        source_repository,
        target,
        target_repository,
        descriptor,
        mount_from: None,
    };
    copy.run(observer).await.map(|_| ())
}

/// Tries first to mount the blob from `mount_from`, a repository of the target that has it, else
/// copies it like [`copy_blob`]. If the registry answers the mount with a session, it is used.
///
/// # Errors
/// As [`copy_blob`].
pub(crate) async fn mount_or_copy_blob(
    source: &Client,
    source_repository: &str,
    target: &Client,
    target_repository: &str,
    descriptor: &Descriptor,
    mount_from: &str,
    observer: Observer<'_>,
) -> Result<Moved, Error> {
    let mount_from = Some(mount_from);
    BlobCopy { source, source_repository, target, target_repository, descriptor, mount_from }
        .run(observer)
        .await
}

/// The state of a transfer before its first byte.
#[allow(clippy::large_enum_variant)] // taken apart where it is made: a box would only be in the way
enum Opened {
    /// Nothing is left to do.
    Mounted,
    Ready {
        session: Session,
        blob: BlobStream,
        /// The target's upload slot; the blob holds the source's slot.
        slot: Slot,
    },
}

struct BlobCopy<'a> {
    source: &'a Client,
    source_repository: &'a str,
    target: &'a Client,
    target_repository: &'a str,
    descriptor: &'a Descriptor,
    mount_from: Option<&'a str>,
}

impl BlobCopy<'_> {
    async fn run(&self, observer: Observer<'_>) -> Result<Moved, Error> {
        let base = self.target.options().retry;
        let policy = retry::RetryPolicy { retries: MAX_RESTARTS, base: base.base * 2, ..base };
        let furthest = AtomicU64::new(0);
        let mut was_corrupt = false;
        let mut restart = 0;

        loop {
            let offset = AtomicU64::new(0);
            let count_once = |bytes: u64| {
                let now = offset.fetch_add(bytes, Ordering::Relaxed) + bytes;
                let before = furthest.fetch_max(now, Ordering::Relaxed);
                if now > before {
                    observer(now - before);
                }
            };

            let opened = self.open().await;
            let was_opened = opened.is_ok();
            let sent = match opened {
                Ok(Opened::Mounted) => return Ok(Moved::Mounted),
                Ok(Opened::Ready { session, blob, slot: _slot }) => {
                    self.target.send_blob(self.target_repository, session, blob, &count_once).await
                }
                Err(error) => Err(error),
            };
            let Err(error) = sent else { return Ok(Moved::Copied) };

            // Content that was damaged in transit is right the second time; content that is
            // stored wrong is not.
            let is_corrupt = matches!(error.failure(), Some(Cause::Digest { .. }));
            restart += 1;
            // The requests that open a blob already waited as long as the registry asked, and were
            // retried: a restart of every blob would send them all again.
            let has_waited = !was_opened && error.retry_after().is_some();
            let may_succeed = error.is_retryable() && !(is_corrupt && was_corrupt) && !has_waited;
            let wait = may_succeed.then(|| policy.wait(restart, error.retry_after())).flatten();
            let Some(wait) = wait else { return Err(error) };
            was_corrupt |= is_corrupt;
            tracing::debug!(%error, ?wait, restart, "blob copy failed, restarting");
            tokio::time::sleep(wait).await;
        }
    }

    /// Waits until the source may be asked.
    async fn source_ready(&self) -> Result<(), Error> {
        let digest = TagOrDigest::from(&self.descriptor.digest);
        let subject = || self.source.subject(self.source_repository, &digest);
        self.source.ready().await.map_err(|failure| failure.read_blob(subject()))
    }

    /// Opens both ends of the transfer.
    async fn open(&self) -> Result<Opened, Error> {
        let Self { source, target, descriptor, .. } = self;
        let digest = TagOrDigest::from(&descriptor.digest);
        let subject = target.subject(self.target_repository, &digest);
        let failed = |failure: Cause| failure.write_blob(&*subject);

        let embedded = inline(source.subject(self.source_repository, &digest), descriptor);
        // No session is opened for content that cannot be read now. A mount reads none.
        let reads_source = embedded.is_none() && self.mount_from.is_none();
        if reads_source {
            self.source_ready().await?;
        }

        // Before any slot is held: a slow target must not block others at the source.
        if let Some(gate) = &target.options().uploads {
            gate.pass().await;
        }

        let begin = target
            .begin_upload(self.target_repository, &descriptor.digest, self.mount_from)
            .map_err(failed);

        let (started, blob, slot) = if let Some(blob) = embedded {
            let slot = target.limits().upload().await.map_err(failed)?;
            (begin.await?, blob, slot)
        } else if self.mount_from.is_some() {
            // The source is not asked for a blob that the target may have.
            let started = begin.await?;
            if matches!(started, Started::Mounted) {
                return Ok(Opened::Mounted);
            }
            let (download, upload) =
                both(source.limits(), target.limits()).await.map_err(failed)?;
            (started, source.open_blob(self.source_repository, descriptor, download).await?, upload)
        } else {
            let (download, upload) = loop {
                let slots = both(source.limits(), target.limits()).await.map_err(failed)?;
                // Others may have been throttled while this copy waited for its slots.
                if source.limits().pause().is_none() {
                    break slots;
                }
                drop(slots);
                self.source_ready().await?;
            };
            let open = source.open_blob(self.source_repository, descriptor, download);
            let (started, blob) = try_join!(begin, open)?;
            (started, blob, upload)
        };

        Ok(match started {
            Started::Mounted => Opened::Mounted,
            Started::Session(session) => Opened::Ready { session, blob, slot },
        })
    }
}
