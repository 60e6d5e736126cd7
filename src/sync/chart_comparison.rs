//! A dry run that does not know what was made of a chart version that is in ECR finds out, as the
//! run itself would: by reading the archive. Else it would announce a change where there is none.

use futures::{StreamExt, stream};

use super::action::{Action, Plan};
use super::artifact::{ArtifactKind, Derived, Source, SourceContent, SourceTag, TagState};
use super::charts::{Archives, CONCURRENT_CHARTS, Order, Rules};
use super::desired::Desired;
use super::observed::Observed;
use super::pass::Pass;
use crate::failure::Failure;
use crate::registry::{Digest, Tag};

/// What a version that is in ECR comes to.
enum Compared {
    /// Nothing is to be written.
    Settled(TagState, Option<Derived>),
    /// This would be pushed.
    Differs(Digest),
}

impl Pass<'_> {
    /// Reads the archives of versions that are in ECR and that the plan would push; what turns out to
    /// be as it shall be leaves the plan.
    pub(super) async fn compare_charts(
        &self,
        desired: &mut Desired,
        observed: &Observed,
        plan: &mut Plan,
    ) {
        let progress = &self.job.progress;
        let Some(there) = &observed.repository else { return };
        let Some(chart) =
            desired.artifacts.iter_mut().find(|artifact| artifact.kind == ArtifactKind::Chart)
        else {
            return;
        };
        let Source::Charts { repository, entries, provenance } = &chart.source else { return };
        let archives = &Archives { source: repository, provenance: *provenance, progress };
        let rules = Rules { keep: chart.keep, mutability: &there.repository.mutability };
        let unknown = plan.actions.iter().filter_map(|action| match action {
            Action::CopyTag {
                kind: ArtifactKind::Chart,
                tag,
                digest: None,
                replaces: Some(current),
                ..
            } => {
                let (entry, current) = (entries.get(tag)?.clone(), Some(current.clone()));
                Some(Order { tag: tag.clone(), entry, current, derived: chart.derived(tag) })
            }
            _ => None,
        });
        let compared: Vec<(Tag, Compared)> = stream::iter(unknown.collect::<Vec<_>>())
            .map(|order| async move {
                let compared = compare(archives, rules, &order).await;
                (
                    order.tag,
                    compared.unwrap_or_else(|failure| {
                        Compared::Settled(TagState::Failed(failure), None)
                    }),
                )
            })
            .buffer_unordered(CONCURRENT_CHARTS)
            .collect()
            .await;
        for (tag, compared) in compared {
            match compared {
                Compared::Settled(state, made) => {
                    plan.actions.retain(|action| !is_copy_of(action, &tag));
                    plan.settled.insert((ArtifactKind::Chart, tag.clone()), state);
                    let source = chart.tags.get_mut(&tag).map(|wanted| &mut wanted.source);
                    // Known from now on: the next dry run need not read it again.
                    if let (Some(made), Some(Ok(SourceTag { content, .. }))) = (made, source)
                        && let SourceContent::Archive { derived, .. } = content
                    {
                        *derived = Some(made);
                    }
                }
                Compared::Differs(now) => {
                    for action in plan.actions.iter_mut().filter(|action| is_copy_of(action, &tag))
                    {
                        if let Action::CopyTag { digest, .. } = action {
                            *digest = Some(now.clone());
                        }
                    }
                }
            }
        }
    }
}

/// The archive goes as soon as it is judged: there may be hundreds.
async fn compare(
    archives: &Archives<'_>,
    rules: Rules<'_>,
    order: &Order,
) -> Result<Compared, Failure> {
    let made = archives.make(order).await?;
    Ok(match rules.settled(order, &made) {
        Some(TagState::Synced(digest)) => {
            Compared::Settled(TagState::Synced(digest), Some(made.derived()))
        }
        Some(state) => Compared::Settled(state, None),
        None => Compared::Differs(made.digest().clone()),
    })
}

fn is_copy_of(action: &Action, tag: &Tag) -> bool {
    matches!(action, Action::CopyTag { kind: ArtifactKind::Chart, tag: of, .. } if of == tag)
}
