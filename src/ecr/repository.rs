//! A repository as ECR describes it.

use aws_sdk_ecr::types::{ImageTagMutability, Repository as Described};

use super::error::Error;
use super::wildcard;

/// What ECR says of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// `host/name`: returned by ECR, never built by hand.
    pub uri: String,
    /// The account.
    pub registry_id: String,
    /// Whether tags may move.
    pub mutability: Mutability,
}

/// Whether tags may be moved to another image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mutability {
    /// All tags may.
    #[default]
    Mutable,
    /// None may.
    Immutable,
    /// None may but those that a wildcard matches.
    ImmutableExcept(Vec<String>),
    /// All may but those that a wildcard matches.
    MutableExcept(Vec<String>),
}

impl Mutability {
    /// Whether `tag` may point elsewhere tomorrow.
    #[must_use]
    pub fn may_move(&self, tag: &str) -> bool {
        let matched = |filters: &[String]| filters.iter().any(|filter| wildcard::matches(filter, tag));
        match self {
            Self::Mutable => true,
            Self::Immutable => false,
            Self::ImmutableExcept(filters) => matched(filters),
            Self::MutableExcept(filters) => !matched(filters),
        }
    }
}

impl Repository {
    pub(super) fn from_described(operation: &'static str, described: &Described) -> Result<Self, Error> {
        let name = described.repository_name().unwrap_or_default();
        let field = |value: Option<&str>, field| {
            value.map(str::to_owned).ok_or_else(|| Error::Incomplete { operation, thing: name.to_owned(), field })
        };
        let filters = || {
            described.image_tag_mutability_exclusion_filters().iter().map(|f| f.filter().to_owned()).collect::<Vec<_>>()
        };
        let mutability = match described.image_tag_mutability() {
            Some(ImageTagMutability::Immutable) => Mutability::Immutable,
            Some(ImageTagMutability::ImmutableWithExclusion) => Mutability::ImmutableExcept(filters()),
            Some(ImageTagMutability::MutableWithExclusion) => Mutability::MutableExcept(filters()),
            // A value that AWS adds later is not known to forbid anything: the PUT will tell.
            _ => Mutability::Mutable,
        };
        Ok(Self {
            arn: field(described.repository_arn(), "repositoryArn")?,
            uri: field(described.repository_uri(), "repositoryUri")?,
            registry_id: field(described.registry_id(), "registryId")?,
            name: field(described.repository_name(), "repositoryName")?,
            mutability,
        })
    }

    /// The host (and port) of the registry, from the URI that ECR gave.
    #[must_use]
    pub fn host(&self) -> &str {
        self.uri.split('/').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusion_filters_are_wildcards() {
        let except = |filters: &[&str]| Mutability::ImmutableExcept(filters.iter().map(|&f| f.to_owned()).collect());
        assert!(except(&["latest"]).may_move("latest"));
        assert!(except(&["1.*", "lat*st"]).may_move("latest"));
        assert!(!except(&["1.*"]).may_move("2.1"));
        assert!(except(&["*-dev*"]).may_move("1.0-dev.3"));
        assert!(!Mutability::MutableExcept(vec!["v*".to_owned()]).may_move("v1"));
        assert!(Mutability::MutableExcept(vec!["v*".to_owned()]).may_move("1"));
        assert!(!Mutability::Immutable.may_move("latest"));
    }
}
