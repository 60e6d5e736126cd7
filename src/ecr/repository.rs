//! A repository as ECR describes it.

use aws_sdk_ecr::types::Repository as Described;

use super::error::Error;
use super::settings::{Encryption, Mutability};

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
    /// Whether images are scanned when they are pushed, as the repository says; rules of the
    /// registry may say otherwise.
    pub scan_on_push: bool,
    /// How images are encrypted.
    pub encryption: Encryption,
}

impl Repository {
    pub(super) fn from_described(
        operation: &'static str,
        described: &Described,
    ) -> Result<Self, Error> {
        let name = described.repository_name().unwrap_or_default();
        let field = |value: Option<&str>, field| {
            value.map(str::to_owned).ok_or_else(|| Error::Incomplete {
                operation,
                thing: name.to_owned(),
                field,
            })
        };
        let filters = || {
            described
                .image_tag_mutability_exclusion_filters()
                .iter()
                .map(|f| f.filter().to_owned())
                .collect::<Vec<_>>()
        };
        Ok(Self {
            arn: field(described.repository_arn(), "repositoryArn")?,
            uri: field(described.repository_uri(), "repositoryUri")?,
            registry_id: field(described.registry_id(), "registryId")?,
            name: field(described.repository_name(), "repositoryName")?,
            mutability: Mutability::from_sdk(described.image_tag_mutability(), filters()),
            scan_on_push: described
                .image_scanning_configuration()
                .is_some_and(|scanning| scanning.scan_on_push()),
            encryption: Encryption::from_sdk(described.encryption_configuration()),
        })
    }

    /// The host (and port) of the registry, from the URI that ECR gave.
    #[must_use]
    pub fn host(&self) -> &str {
        self.uri.split('/').next().unwrap_or_default()
    }
}
