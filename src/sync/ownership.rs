//! Ownership of a repository, and the resource tag that records it. Pure.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::api::v1alpha1::AdoptionPolicy;
use crate::class::Class;
use crate::ecr::{CREATED_TAG, OWNER_TAG, Owner};
use crate::failure::Failure;

/// The resource or run that claims a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimant {
    /// A resource of a cluster. It marks the repository as its own.
    Resource(Claim),
    /// A run from the command line. It leaves no mark, and refuses repositories of an operator
    /// unless told otherwise.
    CommandLine {
        /// Whether repositories of an operator are changed, too. Their mark is kept.
        take_over: bool,
    },
}

/// The claim of a resource to a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The resource.
    pub owner: Owner,
    /// Generation of the resource.
    pub generation: i64,
    /// The adoption policy of its spec.
    pub adoption: AdoptionPolicy,
    /// Whether the operator lets the resource adopt a repository that belongs to nobody.
    pub may_adopt: bool,
    /// The operator's rules.
    pub rules: OwnerRules,
    /// The repository that the resource kept at its last pass.
    pub recorded: Option<RecordedRepository>,
}

/// The repository that a resource kept at its last pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRepository {
    /// ARN of the repository.
    pub arn: String,
    /// Whether we created it.
    pub created: bool,
}

/// The operator's rules for owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerRules {
    /// Whether repositories are marked by resource tags. Without marks, two clusters that want the
    /// same repository fight over it.
    pub marks: bool,
    /// Whether `adoptionPolicy: Always` may take a repository from another owner.
    pub allow_takeover: bool,
    /// IDs of this cluster before it was rebuilt.
    pub former_clusters: Vec<String>,
}

impl Default for OwnerRules {
    fn default() -> Self {
        Self { marks: true, allow_takeover: false, former_clusters: Vec::new() }
    }
}

/// Finds out whether the resource in an owner tag still exists.
#[async_trait]
pub trait OwnerLookup: Send + Sync + std::fmt::Debug {
    /// Whether `owner` is known to be deleted, or to want another repository than `repository` now.
    /// `owner` is not the resource that asks.
    async fn is_gone(&self, owner: &Owner, repository: &str) -> bool;
}

/// The owner of a repository, according to its resource tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// The resource that asks.
    Me,
    /// No resource: there is no mark, or the marked resource no longer exists.
    Nobody,
    /// Another resource.
    Other(String),
}

impl Claim {
    /// Whether a mark is this resource's, with the current or a former cluster ID.
    fn is_mine(&self, mark: &str) -> bool {
        let with_cluster =
            |cluster: &String| Owner { cluster: cluster.clone(), ..self.owner.clone() }.tag_value();
        mark == self.owner.tag_value()
            || self.rules.former_clusters.iter().any(|cluster| mark == with_cluster(cluster))
    }

    /// Whether the repository was a resource's of the same namespace: what one resource of a
    /// namespace has left, another one may have.
    fn inherits(&self, tags: &BTreeMap<String, String>) -> bool {
        tags.get(OWNER_TAG)
            .and_then(|mark| self.other_of_this_cluster(mark))
            .is_some_and(|former| former.namespace == self.owner.namespace)
    }

    /// Returns the other resource of this cluster that a mark names. A mark that is a hash names
    /// none: nobody can tell whether its resource still exists.
    pub(super) fn other_of_this_cluster(&self, mark: &str) -> Option<Owner> {
        let owner = Owner::from_tag_value(mark).filter(|_| !self.is_mine(mark))?;
        (owner.cluster == self.owner.cluster || self.rules.former_clusters.contains(&owner.cluster))
            .then_some(owner)
    }

    /// Returns the owner of the repository. `is_gone`: the resource in the mark no longer exists.
    pub(super) fn holder(
        &self,
        arn: &str,
        tags: &BTreeMap<String, String>,
        is_gone: bool,
    ) -> Holder {
        match tags.get(OWNER_TAG) {
            Some(mark) if self.is_mine(mark) => Holder::Me,
            Some(_) if is_gone => Holder::Nobody,
            Some(mark) => Holder::Other(mark.clone()),
            // The mark was removed, or marks are not used: a repository that was ours a pass ago
            // still is.
            None if self.recorded.as_ref().is_some_and(|recorded| recorded.arn == arn) => {
                Holder::Me
            }
            None => Holder::Nobody,
        }
    }

    /// Returns the owner of a repository that is about to be deleted. The status is not enough
    /// where marks are used: somebody may have removed the mark to save the repository.
    pub(super) fn holder_at_the_end(&self, arn: &str, tags: &BTreeMap<String, String>) -> Holder {
        if self.rules.marks && !tags.contains_key(OWNER_TAG) {
            Holder::Nobody
        } else {
            self.holder(arn, tags, false)
        }
    }

    /// Whether we created the repository. Others are never deleted with their images.
    pub(super) fn created(&self, arn: &str, tags: &BTreeMap<String, String>) -> bool {
        let by_status = || {
            self.recorded.as_ref().is_some_and(|recorded| recorded.arn == arn && recorded.created)
        };
        tags.contains_key(CREATED_TAG) || (!self.rules.marks && by_status())
    }
}

impl Claimant {
    /// Returns the resource tag that marks a repository.
    pub(crate) fn mark(&self) -> Option<(String, String)> {
        match self {
            Self::Resource(claim) if claim.rules.marks => {
                Some((OWNER_TAG.to_owned(), claim.owner.tag_value()))
            }
            Self::Resource(_) | Self::CommandLine { .. } => None,
        }
    }

    /// Whether we created the repository.
    pub(super) fn created(&self, arn: &str, tags: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Resource(claim) => claim.created(arn, tags),
            Self::CommandLine { .. } => tags.contains_key(CREATED_TAG),
        }
    }

    /// Checks that the claimant may change the repository.
    ///
    /// # Errors
    /// Class `RepositoryNotOwned`, with the owner and what to do.
    pub(super) fn may_keep(
        &self,
        name: &str,
        arn: &str,
        tags: &BTreeMap<String, String>,
        is_gone: bool,
    ) -> Result<(), Failure> {
        let refused = |why: String| Err(Failure::new(Class::RepositoryNotOwned, why));
        let claim = match (self, tags.get(OWNER_TAG)) {
            (Self::Resource(claim), _) => claim,
            (Self::CommandLine { take_over: true }, _)
            | (Self::CommandLine { take_over: false }, None) => return Ok(()),
            (Self::CommandLine { take_over: false }, Some(owner)) => {
                return refused(format!(
                    "an operator keeps repository {name} for {owner} (resource tag {OWNER_TAG}): \
                     change that resource instead, or use --take-over to change the repository \
                     anyway"
                ));
            }
        };

        match (claim.holder(arn, tags, is_gone), claim.adoption) {
            (Holder::Me, _) => Ok(()),
            (Holder::Nobody, AdoptionPolicy::IfUnowned | AdoptionPolicy::Always) => {
                // Whoever may take a repository from its owner may take one that has none.
                let takes_over =
                    claim.adoption == AdoptionPolicy::Always && claim.rules.allow_takeover;
                if claim.may_adopt || takes_over || claim.inherits(tags) {
                    return Ok(());
                }
                refused(format!(
                    "repository {name} exists already, and this operator does not let namespace \
                     {} adopt it: its administrator may allow that with --adoption or a tenant; \
                     or choose another repositoryName",
                    claim.owner.namespace
                ))
            }
            (Holder::Nobody, AdoptionPolicy::Never) => refused(format!(
                "repository {name} exists already, and adoptionPolicy is Never: set it to \
                 IfUnowned to adopt the repository, or choose another repositoryName"
            )),
            (Holder::Other(_), AdoptionPolicy::Always) if claim.rules.allow_takeover => Ok(()),
            (Holder::Other(owner), AdoptionPolicy::Always) => refused(format!(
                "repository {name} belongs to {owner} (resource tag {OWNER_TAG}): adoptionPolicy \
                 Always needs the operator's --allow-takeover"
            )),
            (Holder::Other(hash), _) if hash.starts_with("sha256:") => refused(format!(
                "repository {name} belongs to a resource with a long name: its resource tag \
                 {OWNER_TAG} is {hash}, a hash that does not show whether the resource still \
                 exists. If it does not, remove the tag"
            )),
            (Holder::Other(owner), _) => refused(format!(
                "repository {name} belongs to {owner} (resource tag {OWNER_TAG}): delete that \
                 resource, or remove the tag if its cluster no longer exists"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(adoption: AdoptionPolicy) -> Claim {
        let owner =
            Owner { cluster: "c".to_owned(), namespace: "ns".to_owned(), name: "app".to_owned() };
        let rules = OwnerRules { former_clusters: vec!["old".to_owned()], ..OwnerRules::default() };
        Claim { owner, generation: 1, adoption, may_adopt: true, rules, recorded: None }
    }

    fn tags(mark: Option<&str>) -> BTreeMap<String, String> {
        mark.map(|mark| (OWNER_TAG.to_owned(), mark.to_owned())).into_iter().collect()
    }

    fn may(claim: Claim, mark: Option<&str>, is_gone: bool) -> bool {
        Claimant::Resource(claim).may_keep("app", "arn", &tags(mark), is_gone).is_ok()
    }

    /// Whether a claim may take the repository with each policy: Never, IfUnowned, Always, and
    /// Always with --allow-takeover.
    fn may_all(
        claim: impl Fn(AdoptionPolicy) -> Claim,
        mark: Option<&str>,
        is_gone: bool,
    ) -> [bool; 4] {
        use AdoptionPolicy::{Always, IfUnowned, Never};
        let mut allowed = claim(Always);
        allowed.rules.allow_takeover = true;
        [claim(Never), claim(IfUnowned), claim(Always), allowed]
            .map(|claim| may(claim, mark, is_gone))
    }

    #[test]
    fn adoption_is_what_the_spec_and_the_operator_allow() {
        // mark, gone -> Never, IfUnowned, Always, Always with --allow-takeover
        let table = [
            (None, false, [false, true, true, true]),
            (Some("c/ns/app"), false, [true, true, true, true]),
            (Some("old/ns/app"), false, [true, true, true, true]),
            (Some("c/ns/other"), false, [false, false, false, true]),
            (Some("c/ns/other"), true, [false, true, true, true]),
            (Some("another/ns/app"), false, [false, false, false, true]),
            (Some("sha256:00"), false, [false, false, false, true]),
            (Some("somebody"), false, [false, false, false, true]),
        ];

        for (mark, is_gone, wanted) in table {
            assert_eq!(may_all(claim, mark, is_gone), wanted, "{mark:?} gone: {is_gone}");
        }
    }

    #[test]
    fn without_leave_to_adopt_only_what_the_namespace_has_left_is_adopted() {
        let table = [
            (None, false, [false, false, false, true]),
            (Some("c/ns/app"), false, [true, true, true, true]),
            (Some("c/ns/other"), true, [false, true, true, true]),
            (Some("old/ns/other"), true, [false, true, true, true]),
            (Some("c/another/other"), true, [false, false, false, true]),
        ];

        for (mark, is_gone, wanted) in table {
            let claim = |adoption| Claim { may_adopt: false, ..claim(adoption) };
            assert_eq!(may_all(claim, mark, is_gone), wanted, "{mark:?} gone: {is_gone}");
        }
    }

    #[test]
    fn what_was_ours_a_pass_ago_is_ours_without_its_mark() {
        let mut mine = claim(AdoptionPolicy::Never);
        mine.recorded = Some(RecordedRepository { arn: "arn".to_owned(), created: true });
        assert!(may(mine.clone(), None, false));
        assert!(
            !may(mine.clone(), Some("another/ns/app"), false),
            "somebody else's mark counts more"
        );
        mine.recorded =
            Some(RecordedRepository { arn: "of a former one".to_owned(), created: true });
        assert!(!may(mine, None, false));
    }

    #[test]
    fn a_repository_without_its_mark_is_not_ours_to_delete() {
        let mut mine = claim(AdoptionPolicy::IfUnowned);
        mine.recorded = Some(RecordedRepository { arn: "arn".to_owned(), created: true });
        assert_eq!(mine.holder_at_the_end("arn", &tags(Some("c/ns/app"))), Holder::Me);
        assert_eq!(mine.holder_at_the_end("arn", &tags(Some("old/ns/app"))), Holder::Me);
        assert_eq!(
            mine.holder_at_the_end("arn", &tags(Some("x/ns/app"))),
            Holder::Other("x/ns/app".to_owned())
        );
        assert_eq!(mine.holder_at_the_end("arn", &tags(None)), Holder::Nobody);
        // Where there are no marks, the status is all there is.
        mine.rules.marks = false;
        assert_eq!(mine.holder_at_the_end("arn", &tags(None)), Holder::Me);
        assert_eq!(mine.holder_at_the_end("another", &tags(None)), Holder::Nobody);
    }

    #[test]
    fn only_other_resources_of_this_cluster_are_looked_up() {
        let claim = claim(AdoptionPolicy::IfUnowned);
        let named = |mark: &str| claim.other_of_this_cluster(mark).map(|owner| owner.name);
        assert_eq!(named("c/ns/other"), Some("other".to_owned()));
        assert_eq!(named("old/ns/other"), Some("other".to_owned()));
        for mark in ["c/ns/app", "old/ns/app", "another/ns/other", "sha256:00"] {
            assert_eq!(named(mark), None, "{mark}");
        }
    }

    #[test]
    fn a_long_owner_is_recognised_by_its_hash() {
        let mut long = claim(AdoptionPolicy::IfUnowned);
        long.owner.name = "x".repeat(253);
        let mark = long.owner.tag_value();
        assert!(mark.starts_with("sha256:"));
        assert!(may(long.clone(), Some(&mark), false));
        let former = Owner { cluster: "old".to_owned(), ..long.owner.clone() }.tag_value();
        assert!(may(long, Some(&former), false));
    }

    #[test]
    fn the_command_line_keeps_off_what_an_operator_owns() {
        let may = |take_over, mark| {
            Claimant::CommandLine { take_over }.may_keep("app", "arn", &tags(mark), false).is_ok()
        };
        assert!(may(false, None) && !may(false, Some("c/ns/app")) && may(true, Some("c/ns/app")));
    }

    #[test]
    fn without_marks_the_status_says_what_we_made() {
        let created =
            tags(None).into_iter().chain([(CREATED_TAG.to_owned(), "true".to_owned())]).collect();
        let mut claim = claim(AdoptionPolicy::IfUnowned);
        claim.recorded = Some(RecordedRepository { arn: "arn".to_owned(), created: true });
        assert!(claim.created("arn", &created) && !claim.created("arn", &tags(None)));
        claim.rules.marks = false;
        assert!(claim.created("arn", &tags(None)) && !claim.created("another", &tags(None)));
        assert_eq!(Claimant::Resource(claim).mark(), None);
    }
}
