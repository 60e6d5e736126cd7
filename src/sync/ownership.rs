//! Whose a repository is: read from its resource tags, decided by the spec and by what the operator
//! allows. Pure.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::api::v1alpha1::AdoptionPolicy;
use crate::class::Class;
use crate::ecr::{CREATED_TAG, OWNER_TAG, Owner};
use crate::failure::Failure;

/// On whose behalf a repository is synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimant {
    /// A resource of a cluster: the repository is marked as its own.
    Resource(Claim),
    /// A run from the command line: leaves no mark, and keeps off what an operator owns unless told
    /// otherwise.
    CommandLine {
        /// Whether it works on repositories that an operator owns; their mark stays.
        take_over: bool,
    },
}

/// What a resource may do about the owner of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The resource.
    pub owner: Owner,
    /// What its spec says.
    pub adoption: AdoptionPolicy,
    /// What the operator says.
    pub rules: OwnerRules,
    /// ARN of the repository that the resource kept at its last pass, whether it was made by us.
    pub recorded: Option<RecordedRepository>,
}

/// A repository that a resource has been keeping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRepository {
    /// Its ARN.
    pub arn: String,
    /// Whether we created it.
    pub created: bool,
}

/// The operator's word on owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerRules {
    /// Repositories are marked by resource tags. Without marks two clusters that want one
    /// repository fight over it.
    pub marks: bool,
    /// `adoptionPolicy: Always` may take a repository from another owner.
    pub allow_takeover: bool,
    /// What this cluster was called before it was built anew.
    pub former_clusters: Vec<String>,
}

impl Default for OwnerRules {
    fn default() -> Self {
        Self { marks: true, allow_takeover: false, former_clusters: Vec::new() }
    }
}

/// Tells whether the resource that an owner tag names still exists.
#[async_trait]
pub trait OwnerLookup: Send + Sync + std::fmt::Debug {
    /// Whether `owner`, a resource of another name than the one asking, is known to be gone, or to
    /// want another repository than `repository` by now.
    async fn is_gone(&self, owner: &Owner, repository: &str) -> bool;
}

/// Who keeps a repository, as its resource tags say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// The one who asks.
    Me,
    /// Nobody: no mark, or the mark of a resource that is gone.
    Nobody,
    /// Somebody else.
    Other(String),
}

impl Claim {
    /// Whether a mark is this resource's, under the cluster's name of today or of before.
    fn is_mine(&self, mark: &str) -> bool {
        let under =
            |cluster: &String| Owner { cluster: cluster.clone(), ..self.owner.clone() }.tag_value();
        mark == self.owner.tag_value()
            || self.rules.former_clusters.iter().any(|cluster| mark == under(cluster))
    }

    /// The resource of this cluster that a mark names, if it is another one than this. A mark that
    /// is a hash names nobody: whether its resource is still there cannot be told.
    pub(super) fn other_of_this_cluster(&self, mark: &str) -> Option<Owner> {
        let owner = Owner::from_tag_value(mark).filter(|_| !self.is_mine(mark))?;
        (owner.cluster == self.owner.cluster || self.rules.former_clusters.contains(&owner.cluster))
            .then_some(owner)
    }

    /// Who keeps the repository. `is_gone`: the resource that the mark names is known to be no
    /// more.
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
            // Somebody removed the mark, or there are none: what was ours a pass ago still is.
            None if self.recorded.as_ref().is_some_and(|recorded| recorded.arn == arn) => {
                Holder::Me
            }
            None => Holder::Nobody,
        }
    }

    /// Who keeps a repository that is about to be deleted. Here memory is not enough where there
    /// could be a mark: who took it off may have done so to save the repository.
    pub(super) fn holder_at_the_end(&self, arn: &str, tags: &BTreeMap<String, String>) -> Holder {
        if self.rules.marks && !tags.contains_key(OWNER_TAG) {
            Holder::Nobody
        } else {
            self.holder(arn, tags, false)
        }
    }

    /// Whether we made the repository: only such a one may be emptied.
    pub(super) fn created(&self, arn: &str, tags: &BTreeMap<String, String>) -> bool {
        tags.contains_key(CREATED_TAG)
            || (!self.rules.marks
                && self.recorded.as_ref().is_some_and(|r| r.arn == arn && r.created))
    }
}

impl Claimant {
    /// The resource tag that marks a repository as kept.
    pub(super) fn mark(&self) -> Option<(String, String)> {
        match self {
            Self::Resource(claim) if claim.rules.marks => {
                Some((OWNER_TAG.to_owned(), claim.owner.tag_value()))
            }
            Self::Resource(_) | Self::CommandLine { .. } => None,
        }
    }

    /// Whether the repository is of our making.
    pub(super) fn created(&self, arn: &str, tags: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Resource(claim) => claim.created(arn, tags),
            Self::CommandLine { .. } => tags.contains_key(CREATED_TAG),
        }
    }

    /// Whether the repository may be worked on.
    ///
    /// # Errors
    /// Class `RepositoryNotOwned`, with who owns it and what to do.
    pub(super) fn may_keep(
        &self,
        name: &str,
        arn: &str,
        tags: &BTreeMap<String, String>,
        is_gone: bool,
    ) -> Result<(), Failure> {
        let refused = |why: String| Err(Failure::new(Class::RepositoryNotOwned, why));
        let claim = match self {
            Self::Resource(claim) => claim,
            Self::CommandLine { take_over: true } => return Ok(()),
            Self::CommandLine { take_over: false } => {
                return match tags.get(OWNER_TAG) {
                    None => Ok(()),
                    Some(owner) => refused(format!(
                        "repository {name} is kept by the operator for {owner} (its resource tag {OWNER_TAG}): change that \
                         resource instead, or run with --take-over to work on it all the same"
                    )),
                };
            }
        };
        match (claim.holder(arn, tags, is_gone), claim.adoption) {
            (Holder::Me, _)
            | (Holder::Nobody, AdoptionPolicy::IfUnowned | AdoptionPolicy::Always) => Ok(()),
            (Holder::Nobody, AdoptionPolicy::Never) => refused(format!(
                "repository {name} exists already and adoptionPolicy is Never: set it to IfUnowned to keep this repository \
                 from now on, or choose another repositoryName"
            )),
            (Holder::Other(_), AdoptionPolicy::Always) if claim.rules.allow_takeover => Ok(()),
            (Holder::Other(owner), AdoptionPolicy::Always) => refused(format!(
                "repository {name} belongs to {owner} (its resource tag {OWNER_TAG}): adoptionPolicy Always needs the \
                 operator's --allow-takeover"
            )),
            (Holder::Other(hash), _) if hash.starts_with("sha256:") => refused(format!(
                "repository {name} belongs to a resource with a long name: its resource tag {OWNER_TAG} is {hash}, a hash that \
                 does not tell whether that resource is still there; if it is not, remove the tag"
            )),
            (Holder::Other(owner), _) => refused(format!(
                "repository {name} belongs to {owner} (its resource tag {OWNER_TAG}): delete that resource, or remove the tag \
                 if its cluster is gone"
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
        Claim { owner, adoption, rules, recorded: None }
    }

    fn tags(mark: Option<&str>) -> BTreeMap<String, String> {
        mark.map(|mark| (OWNER_TAG.to_owned(), mark.to_owned())).into_iter().collect()
    }

    fn may(claim: Claim, mark: Option<&str>, is_gone: bool) -> bool {
        Claimant::Resource(claim).may_keep("app", "arn", &tags(mark), is_gone).is_ok()
    }

    #[test]
    fn adoption_is_what_the_spec_and_the_operator_allow() {
        use AdoptionPolicy::{Always, IfUnowned, Never};
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
            let mut may_all: Vec<_> = [Never, IfUnowned, Always]
                .into_iter()
                .map(|adoption| may(claim(adoption), mark, is_gone))
                .collect();
            let mut allowed = claim(Always);
            allowed.rules.allow_takeover = true;
            may_all.push(may(allowed, mark, is_gone));
            assert_eq!(may_all, wanted, "{mark:?} gone: {is_gone}");
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
