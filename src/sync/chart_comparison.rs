//! Comparison of chart versions in a dry run. If no earlier pass built a version that is in ECR,
//! its archive is read, as a real run would do. Otherwise the plan would show a change where there
//! is none.

use futures::{StreamExt, stream};

use super::action::{Action, Plan};
use super::artifact::{ArtifactKind, Derived, SourceContent, SourceTag, TagState};
use super::charts::{Archives, CONCURRENT_CHARTS, Order};
use super::desired::Desired;
use super::observed::Observed;
use super::pass::Pass;
use crate::ecr::Mutability;
use crate::failure::Failure;
use crate::registry::{Digest, Tag};

/// The comparison of a version in ECR with its archive.
enum Comparison {
    /// The version would not be pushed.
    Settled(TagState, Option<Derived>),
    /// The manifest that would be pushed.
    Differs(Digest),
}

impl Pass<'_> {
    /// Reads the archives of versions that are in ECR and that the plan would push. Versions that
    /// turn out to be in sync are removed from the plan.
    pub(super) async fn compare_charts(
        &self,
        desired: &mut Desired,
        observed: &Observed,
        plan: &mut Plan,
    ) {
        let Some(observed) = &observed.repository else { return };
        let mut artifacts = desired.artifacts.iter_mut();
        let chart = artifacts.find(|artifact| artifact.kind == ArtifactKind::Chart);
        let Some(chart) = chart else { return };
        let Some(archives) = &Archives::new(chart, &self.job.progress) else { return };

        let mutability = &observed.repository.mutability;
        let orders = plan.copies(ArtifactKind::Chart).filter_map(|copy| match copy {
            (tag, None, Some(current)) => Order::new(chart, tag, Some(current)),
            _ => None,
        });
        let comparisons: Vec<(Tag, Comparison)> = stream::iter(orders.collect::<Vec<_>>())
            .map(|order| async move {
                let comparison = compare(archives, mutability, &order).await;
                let failed = |failure| Comparison::Settled(TagState::Failed(failure), None);
                (order.tag, comparison.unwrap_or_else(failed))
            })
            .buffer_unordered(CONCURRENT_CHARTS)
            .collect()
            .await;

        for (tag, comparison) in comparisons {
            match comparison {
                Comparison::Settled(state, built) => {
                    plan.actions.retain(|action| !is_copy_of(action, &tag));
                    plan.settled.insert((ArtifactKind::Chart, tag.clone()), state);
                    let source = chart.tags.get_mut(&tag).map(|wanted| &mut wanted.source);
                    // With this, the next dry run need not read the archive again.
                    if let (Some(built), Some(Ok(SourceTag { content, .. }))) = (built, source)
                        && let SourceContent::Archive { derived, .. } = content
                    {
                        *derived = Some(built);
                    }
                }
                Comparison::Differs(manifest) => {
                    for action in plan.actions.iter_mut().filter(|action| is_copy_of(action, &tag))
                    {
                        if let Action::CopyTag { digest, .. } = action {
                            *digest = Some(manifest.clone());
                        }
                    }
                }
            }
        }
    }
}

/// Compares one version. The archive is dropped at once, since there may be hundreds.
async fn compare(
    archives: &Archives<'_>,
    mutability: &Mutability,
    order: &Order,
) -> Result<Comparison, Failure> {
    let built = archives.build(order).await?;
    Ok(match archives.settled(order, &built, mutability) {
        Some(TagState::Synced(digest)) => {
            Comparison::Settled(TagState::Synced(digest), Some(built.derived))
        }
        Some(state) => Comparison::Settled(state, None),
        None => Comparison::Differs(built.derived.manifest),
    })
}

fn is_copy_of(action: &Action, tag: &Tag) -> bool {
    matches!(action, Action::CopyTag { kind: ArtifactKind::Chart, tag: of, .. } if of == tag)
}
