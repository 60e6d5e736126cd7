//! Archives of an HTTP chart repository -> artifacts in ECR.

use bytes::Bytes;
use futures::{StreamExt, stream};

use super::artifact::{Derived, DesiredArtifact, Source, TagState};
use super::change;
use super::field::Field;
use super::progress::Progress;
use crate::class::Class;
use crate::ecr::{self, Mutability, Repository};
use crate::failure::Failure;
use crate::helm::{self, Artifact};
use crate::registry::{Client, Descriptor, Digest, Tag, copy_blob};
use crate::writes;

/// Charts that are processed at the same time. An archive has up to 20 MiB, and is in memory.
pub(super) const CONCURRENT_CHARTS: usize = 4;

/// A chart version to push.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// The tag in ECR.
    pub(super) tag: Tag,
    /// The version in the index.
    pub(super) entry: helm::Entry,
    /// The current digest of the tag.
    pub(super) current: Option<Digest>,
    /// The manifest that an earlier pass built from the version.
    pub(super) derived: Option<Derived>,
}

impl Order {
    /// The order for a tag of a chart repository; `None` if its source does not have the version.
    pub(super) fn new(
        chart: &DesiredArtifact,
        tag: &Tag,
        current: Option<&Digest>,
    ) -> Option<Self> {
        let Source::Charts { entries, .. } = &chart.source else { return None };
        Some(Self {
            tag: tag.clone(),
            entry: entries.get(tag)?.clone(),
            current: current.cloned(),
            derived: chart.derived(tag),
        })
    }
}

/// The outcome of an order.
pub(super) struct Outcome {
    pub(super) tag: Tag,
    pub(super) state: TagState,
    /// The manifest that was built, if the archive was read.
    pub(super) derived: Option<Derived>,
    pub(super) was_pushed: bool,
}

/// Archives of a chart repository.
pub(super) struct Archives<'a> {
    source: &'a helm::Repository,
    pub(super) provenance: bool,
    /// Whether a version in ECR is kept when the source replaces it.
    keep: bool,
    progress: &'a Progress,
}

/// The artifact that was built from an archive.
pub(super) struct Built {
    artifact: Artifact,
    /// The digests of archive and manifest.
    pub(super) derived: Derived,
}

impl<'a> Archives<'a> {
    /// The archives of a chart; `None` if its source is not a chart repository.
    pub(super) fn new(chart: &'a DesiredArtifact, progress: &'a Progress) -> Option<Self> {
        let Source::Charts { repository, provenance, .. } = &chart.source else { return None };
        Some(Self { source: repository, provenance: *provenance, keep: chart.keep, progress })
    }

    /// Downloads the archive of an order, and builds the artifact.
    pub(super) async fn build(&self, order: &Order) -> Result<Built, Failure> {
        let archive = self.source.download(&order.entry).await?;
        self.progress.advance(archive.bytes.len() as u64);
        let provenance =
            if self.provenance { self.source.provenance(&archive).await? } else { None };

        let name = order.entry.chart.clone();
        let version = order.entry.version.clone();
        let bytes = archive.bytes.clone();
        let need = helm::archive::NEED.of(0);
        let memory = self.source.budget().document(need).await;
        let mut memory = memory.map_err(|shortage| archive.no_memory(shortage))?;
        // Inflating takes up to half a second.
        let built = tokio::task::spawn_blocking(move || {
            let mut reserve = |bytes| memory.grow_blocking(bytes);
            let metadata = helm::archive::read_as(&bytes, &name, &version, &mut reserve)?;
            Ok::<_, helm::archive::Error>(Artifact::new(&metadata, bytes, provenance))
        })
        .await
        .map_err(|error| {
            let message = format!("reading a chart archive was interrupted: {error}");
            Failure::new(Class::Internal, message)
        })?;

        let artifact = built
            .map_err(|error| Failure::from(archive.rejected(&error)))?
            .map_err(|error| Failure::new(Class::Internal, error.to_string()))?;
        let derived = Derived {
            archive: archive.digest.clone(),
            provenance: self.provenance,
            manifest: artifact.manifest.digest.clone(),
        };
        Ok(Built { artifact, derived })
    }

    /// Returns the state of the tag if the artifact is not pushed, and `None` if it should be.
    pub(super) fn settled(
        &self,
        order: &Order,
        built: &Built,
        mutability: &Mutability,
    ) -> Option<TagState> {
        let Derived { archive, manifest: digest, .. } = &built.derived;
        let current = order.current.as_ref()?;
        if current == digest {
            return Some(TagState::Synced(digest.clone()));
        }

        // The same archive may give another manifest after a change of the spec. That is not a
        // change of the source.
        let is_replaced = order.derived.as_ref().is_none_or(|earlier| earlier.archive != *archive);
        if self.keep && is_replaced {
            return Some(TagState::Kept {
                digest: current.clone(),
                failure: replaced(&order.entry, archive),
            });
        }
        if !mutability.may_move(order.tag.as_str()) {
            let message = format!(
                "tag {} is immutable and points to {current}, but the chart now has {digest}",
                order.tag
            );
            return Some(TagState::Failed(Failure::new(Class::TagImmutable, message)));
        }
        None
    }
}

/// Copies versions of a chart repository into an ECR repository.
pub(super) struct Push<'a> {
    pub(super) registry: &'a ecr::Registry,
    pub(super) target: &'a Client,
    pub(super) repository: &'a Repository,
    pub(super) archives: Archives<'a>,
}

impl Push<'_> {
    /// Carries out all orders. A failure does not stop the others.
    pub(super) async fn run(&self, orders: Vec<Order>) -> Vec<Outcome> {
        stream::iter(orders)
            .map(|order| async {
                let tag = order.tag.clone();
                self.one(order).await.unwrap_or_else(|failure| Outcome {
                    tag,
                    state: TagState::Failed(failure),
                    derived: None,
                    was_pushed: false,
                })
            })
            .buffer_unordered(CONCURRENT_CHARTS)
            .collect()
            .await
    }

    async fn one(&self, order: Order) -> Result<Outcome, Failure> {
        let built = self.archives.build(&order).await?;
        let settled = self.archives.settled(&order, &built, &self.repository.mutability);
        let (state, was_pushed) = match settled {
            Some(TagState::Failed(failure)) => return Err(failure),
            Some(settled) => (settled, false),
            None => {
                self.push(&built.artifact, &order).await.map_err(Failure::at_target)?;
                (TagState::Synced(built.derived.manifest.clone()), true)
            }
        };

        // A version that is kept was not built from this archive.
        let derived = matches!(state, TagState::Synced(_)).then_some(built.derived);
        Ok(Outcome { tag: order.tag, state, derived, was_pushed })
    }

    async fn push(&self, artifact: &Artifact, order: &Order) -> Result<(), Failure> {
        let name = &self.repository.name;
        let digests = artifact.blobs().map(|(descriptor, _)| descriptor.digest.clone()).collect();
        let missing = self.registry.missing_blobs(name, &digests).await?;

        for (descriptor, bytes) in artifact.blobs() {
            if !missing.contains(&descriptor.digest) {
                continue;
            }
            let progress = |bytes| {
                self.archives.progress.advance(bytes);
                self.registry.meter.copied(bytes);
            };
            // The descriptor has the content, so nothing is read from the target.
            let data = Some(Bytes::clone(bytes));
            let blob = Descriptor { data, ..Descriptor::clone(descriptor) };
            copy_blob(self.target, name, self.target, name, &blob, &progress).await?;
            writes::sent("CompleteLayerUpload", blob.digest.as_str(), "OK");
        }

        let Order { tag, current, .. } = order;
        let digest = &artifact.manifest.digest;
        let change = change::of_tag(Field::ChartTag, tag, current.as_ref(), digest);
        let put = async {
            let put = self.target.put_manifest(name, tag, &artifact.manifest).await;
            let result = put.map_err(Failure::from);
            let code = result.as_ref().map_or_else(|failure| failure.class.reason(), |()| "OK");
            writes::sent("PutImage", &format!("{tag} {digest}"), code);
            result
        };
        writes::write(change, put).await
    }
}

/// The failure for an archive that was replaced in the source under an existing version.
fn replaced(entry: &helm::Entry, archive: &Digest) -> Failure {
    Failure::new(
        Class::SourceChanged,
        format!(
            "chart {} of {} was replaced in the source (archive {archive}); the version in ECR is \
             kept (chart.onSourceChange: Overwrite replaces it)",
            entry.version, entry.chart
        ),
    )
}
