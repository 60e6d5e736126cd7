//! Archives of an HTTP chart repository -> artifacts in ECR.

use bytes::Bytes;
use futures::{StreamExt, stream};

use super::artifact::{ArtifactKind, Derived, TagState};
use super::progress::Progress;
use crate::class::Class;
use crate::ecr::{self, Mutability, Repository};
use crate::failure::Failure;
use crate::helm::{self, Artifact, Download};
use crate::registry::{Client, Descriptor, Digest, Tag, copy_blob};

/// Charts under way at the same time: an archive has up to 20 MiB, and is in memory.
pub(super) const CONCURRENT_CHARTS: usize = 4;

/// One chart version to bring about.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// The tag in ECR.
    pub(super) tag: Tag,
    /// The version in the index.
    pub(super) entry: helm::Entry,
    /// What the tag points to now.
    pub(super) current: Option<Digest>,
    /// What an earlier pass made of the version.
    pub(super) derived: Option<Derived>,
}

/// What came of an order.
pub(super) struct Outcome {
    pub(super) tag: Tag,
    pub(super) state: TagState,
    /// What was made of the archive, if it was read.
    pub(super) derived: Option<Derived>,
    /// Whether something was written.
    pub(super) wrote: bool,
}

/// Archives of a chart repository.
pub(super) struct Archives<'a> {
    pub(super) source: &'a helm::Repository,
    pub(super) provenance: bool,
    pub(super) progress: &'a Progress,
}

/// What may become of a tag that is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// What is in ECR stays when the source replaced it.
    pub(super) keep: bool,
    /// That of the repository in ECR.
    pub(super) mutability: &'a Mutability,
}

/// An archive as an artifact.
pub(super) struct Made {
    artifact: Artifact,
    derived: Derived,
}

impl Made {
    /// Digest of the manifest.
    pub(super) fn digest(&self) -> &Digest {
        &self.artifact.manifest.digest
    }

    /// What was made of what.
    pub(super) fn derived(&self) -> Derived {
        self.derived.clone()
    }
}

impl Archives<'_> {
    /// Reads the archive of an order, and makes the artifact of it.
    pub(super) async fn make(&self, order: &Order) -> Result<Made, Failure> {
        let archive = match self.source.download(&order.entry).await? {
            Download::Archive(archive) => archive,
            Download::Oci(url) => {
                return Err(Failure::new(
                    Class::InvalidSpec,
                    format!(
                        "the index says that {} {} is at {url}: write that as chart.pullUrl",
                        order.entry.chart, order.entry.version
                    ),
                ));
            }
        };
        self.progress.advance(archive.bytes.len() as u64);
        let provenance =
            if self.provenance { self.source.provenance(&archive).await? } else { None };
        let (name, version) = (order.entry.chart.clone(), order.entry.version.clone());
        let bytes = archive.bytes.clone();
        // Inflating takes up to half a second.
        let made = tokio::task::spawn_blocking(move || {
            let metadata = helm::archive::read_as(&bytes, &name, &version)?;
            Ok::<_, helm::archive::Error>(Artifact::new(&metadata, bytes, provenance))
        })
        .await
        .map_err(|error| {
            Failure::new(Class::Internal, format!("reading a chart archive broke off: {error}"))
        })?;
        let artifact = made
            .map_err(|error| Failure::from(archive.rejected(error)))?
            .map_err(|error| Failure::new(Class::Internal, error.to_string()))?;
        let manifest = artifact.manifest.digest.clone();
        let derived =
            Derived { archive: archive.digest.clone(), provenance: self.provenance, manifest };
        Ok(Made { artifact, derived })
    }
}

impl Rules<'_> {
    /// How the tag stands if nothing is written; `None` where the artifact is to be pushed.
    pub(super) fn settled(self, order: &Order, made: &Made) -> Option<TagState> {
        let digest = made.digest();
        let archive = &made.derived.archive;
        match &order.current {
            Some(current) if current == digest => Some(TagState::Synced(digest.clone())),
            // The same archive made into another manifest is our doing, not the source's.
            Some(current)
                if self.keep
                    && order.derived.as_ref().is_none_or(|earlier| earlier.archive != *archive) =>
            {
                Some(TagState::Kept {
                    digest: current.clone(),
                    failure: replaced(&order.entry, archive),
                })
            }
            Some(current) if !self.mutability.may_move(order.tag.as_str()) => {
                Some(TagState::Failed(Failure::new(
                    Class::TagImmutable,
                    format!(
                        "tag {} is immutable and points to {current}, the chart is now {digest}",
                        order.tag
                    ),
                )))
            }
            _ => None,
        }
    }
}

/// From a chart repository into an ECR repository.
pub(super) struct Push<'a> {
    pub(super) registry: &'a ecr::Registry,
    pub(super) target: &'a Client,
    pub(super) repository: &'a Repository,
    pub(super) archives: Archives<'a>,
    pub(super) rules: Rules<'a>,
    pub(super) progress: &'a Progress,
}

impl Push<'_> {
    /// Carries out all orders; one that fails does not stop the others.
    pub(super) async fn run(&self, orders: Vec<Order>) -> Vec<Outcome> {
        stream::iter(orders)
            .map(|order| async {
                let tag = order.tag.clone();
                self.one(order).await.unwrap_or_else(|failure| Outcome {
                    tag,
                    state: TagState::Failed(failure),
                    derived: None,
                    wrote: false,
                })
            })
            .buffer_unordered(CONCURRENT_CHARTS)
            .collect()
            .await
    }

    async fn one(&self, order: Order) -> Result<Outcome, Failure> {
        let made = self.archives.make(&order).await?;
        let (state, wrote) = match self.rules.settled(&order, &made) {
            Some(TagState::Failed(failure)) => return Err(failure),
            Some(settled) => (settled, false),
            None => {
                self.push(&made.artifact, &order.tag).await.map_err(Failure::at_target)?;
                (TagState::Synced(made.digest().clone()), true)
            }
        };
        // What is kept was not made of this archive.
        let derived = matches!(state, TagState::Synced(_)).then(|| made.derived());
        Ok(Outcome { tag: order.tag, state, derived, wrote })
    }

    async fn push(&self, artifact: &Artifact, tag: &Tag) -> Result<(), Failure> {
        let name = &self.repository.name;
        let digests = artifact.blobs().map(|(descriptor, _)| descriptor.digest.clone()).collect();
        let missing = self.registry.missing_blobs(name, &digests).await?;
        for (descriptor, bytes) in
            artifact.blobs().filter(|(descriptor, _)| missing.contains(&descriptor.digest))
        {
            let progress = |bytes| {
                self.progress.advance(bytes);
                self.registry.meter.copied(bytes);
            };
            // It carries its content, so that nothing is read from where it is to go.
            let blob =
                Descriptor { data: Some(Bytes::clone(bytes)), ..Descriptor::clone(descriptor) };
            copy_blob(self.target, name, self.target, name, &blob, &progress).await?;
        }
        self.target.put_manifest(name, tag, &artifact.manifest).await?;
        Ok(())
    }
}

/// Upstream replaced an archive under an existing version.
pub(super) fn replaced(entry: &helm::Entry, now: &Digest) -> Failure {
    Failure::new(
        Class::SourceChanged,
        format!(
            "{} {} of {} was replaced in the source (archive {now}); what is in ECR is kept (chart.onSourceChange: Overwrite takes the new one)",
            ArtifactKind::Chart.noun(),
            entry.version,
            entry.chart
        ),
    )
}
