//! Moving one blob from one registry into another one.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::TryFutureExt as _;
use tokio::try_join;

use super::blobs::{BlobStream, inline};
use super::client::Client;
use super::descriptor::Descriptor;
use super::error::Error;
use super::failure::Failure;
use super::limit::{Slot, both};
use super::reference::TagOrDigest;
use super::retry;
use super::upload::{Observer, Session, Started};

/// Times that a whole blob is begun again. Below it, requests have their own retries and downloads
/// their resumes.
const MOST_RESTARTS: u32 = 3;

/// How a blob came to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// Its bytes were sent.
    Copied,
    /// The target took it from another repository of its own.
    Mounted,
}

/// Copies a blob: opens it at the source while a session is opened at the target, streams it
/// through, and begins again where a second try may help. `observer` is told of each byte once,
/// restarts or not.
///
/// # Guarantees
/// The target never gets to see the end of wrong content. No slot is held while waiting for the
/// other side's.
///
/// # Errors
/// [`Error::ReadBlob`] if the source failed, [`Error::WriteBlob`] if the target did.
pub async fn copy_blob(
    source: &Client,
    source_repository: &str,
    target: &Client,
    target_repository: &str,
    descriptor: &Descriptor,
    observer: Observer<'_>,
) -> Result<(), Error> {
    let copy =
        Copy { source, source_repository, target, target_repository, descriptor, mount_from: None };
    copy.run(observer).await.map(|_| ())
}

/// [`copy_blob`] that asks the target first to mount the blob from `mount_from`, a repository of
/// the target that has it. A session that a refused mount opens is used.
///
/// # Errors
/// As [`copy_blob`].
pub async fn mount_or_copy_blob(
    source: &Client,
    source_repository: &str,
    target: &Client,
    target_repository: &str,
    descriptor: &Descriptor,
    mount_from: &str,
    observer: Observer<'_>,
) -> Result<Moved, Error> {
    let mount_from = Some(mount_from);
    Copy { source, source_repository, target, target_repository, descriptor, mount_from }
        .run(observer)
        .await
}

/// How a transfer stands before its first byte.
#[allow(clippy::large_enum_variant)] // taken apart where it is made: a box would only be in the way
enum Opened {
    /// Nothing is left to do.
    Mounted,
    Ready {
        session: Session,
        blob: BlobStream,
        /// Of the target's uploads; the blob holds the source's.
        slot: Slot,
    },
}

struct Copy<'a> {
    source: &'a Client,
    source_repository: &'a str,
    target: &'a Client,
    target_repository: &'a str,
    descriptor: &'a Descriptor,
    mount_from: Option<&'a str>,
}

impl Copy<'_> {
    async fn run(&self, observer: Observer<'_>) -> Result<Moved, Error> {
        let base = self.target.options().retry;
        let policy = retry::Policy { retries: MOST_RESTARTS, base: base.base * 2, ..base };
        let furthest = AtomicU64::new(0);
        let mut corrupt = false;
        let mut restart = 0;
        loop {
            let at = AtomicU64::new(0);
            let once = |bytes: u64| {
                let now = at.fetch_add(bytes, Ordering::Relaxed) + bytes;
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
                    self.target.send_blob(self.target_repository, session, blob, &once).await
                }
                Err(error) => Err(error),
            };
            let Err(error) = sent else { return Ok(Moved::Copied) };
            // Bytes that flipped on the way come right the second time; bytes that are wrong at
            // rest never do.
            let is_corrupt = matches!(error.failure(), Some(Failure::Digest { .. }));
            restart += 1;
            // The requests that open a blob were sent again already, each time after the wait that
            // was asked for: who asks for more is not asked by every blob, all over again.
            let waited = !was_opened && error.retry_after().is_some();
            let again = error.is_retryable() && !(is_corrupt && corrupt) && !waited;
            let Some(wait) = again.then(|| policy.wait(restart, error.retry_after())).flatten()
            else {
                return Err(error);
            };
            corrupt |= is_corrupt;
            tracing::debug!(%error, ?wait, restart, "blob copy failed, beginning again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Both ends of the transfer.
    async fn open(&self) -> Result<Opened, Error> {
        let Self { source, target, descriptor, .. } = self;
        let what = TagOrDigest::from(&descriptor.digest);
        let written = target.subject(self.target_repository, &what);
        let failed = |failure: Failure| failure.write_blob(&*written);
        // Before any slot is held: the pace of the target is no reason to keep others from the
        // source.
        if let Some(gate) = &target.options().uploads {
            gate.pass().await;
        }
        let begin = target
            .begin_upload(self.target_repository, &descriptor.digest, self.mount_from)
            .map_err(failed);
        let (started, blob, slot) = if let Some(blob) =
            inline(source.subject(self.source_repository, &what), descriptor)
        {
            let slot = target.limits().upload().await.map_err(failed)?;
            (begin.await?, blob, slot)
        } else if self.mount_from.is_some() {
            // The source is not troubled for a blob that the target may have.
            let started = begin.await?;
            if matches!(started, Started::Mounted) {
                return Ok(Opened::Mounted);
            }
            let (download, upload) =
                both(source.limits(), target.limits()).await.map_err(failed)?;
            (started, source.open_blob(self.source_repository, descriptor, download).await?, upload)
        } else {
            let (download, upload) =
                both(source.limits(), target.limits()).await.map_err(failed)?;
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
