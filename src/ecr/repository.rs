//! A repository as ECR describes it.

use aws_sdk_ecr::types::Repository as Described;

use super::error::Error;
use super::settings::{Encryption, Mutability};

/// A repository with its settings, as ECR describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// The name within the registry.
    pub name: String,
    /// The ARN.
    pub arn: String,
    /// `host/name`, as ECR returns it; never built by hand.
    pub uri: String,
    /// The AWS account ID.
    pub registry_id: String,
    /// Whether tags may be moved to another image.
    pub mutability: Mutability,
    /// Whether the repository's setting asks for scans on push; rules of the registry can override
    /// it.
    pub scan_on_push: bool,
    /// Encryption of images at rest.
    pub encryption: Encryption,
}

impl Repository {
    pub(super) fn from_described(
        operation: &'static str,
        described: &Described,
    ) -> Result<Self, Error> {
        let name = described.repository_name().unwrap_or_default();
        let field = |value: Option<&str>, field| {
            value.map(str::to_owned).ok_or_else(|| Error::incomplete(operation, name, field))
        };
        let filters = described.image_tag_mutability_exclusion_filters().iter();

        let filters = filters.map(|filter| filter.filter().to_owned()).collect();

        Ok(Self {
            arn: field(described.repository_arn(), "repositoryArn")?,
            uri: field(described.repository_uri(), "repositoryUri")?,
            registry_id: field(described.registry_id(), "registryId")?,
            name: field(described.repository_name(), "repositoryName")?,
            mutability: Mutability::from_sdk(described.image_tag_mutability(), filters),
            scan_on_push: described
                .image_scanning_configuration()
                .is_some_and(|scanning| scanning.scan_on_push()),
            encryption: Encryption::from_sdk(described.encryption_configuration()),
        })
    }

    /// Returns the host (and port) of the registry, from the URI that ECR returned.
    #[must_use]
    pub fn host(&self) -> &str {
        self.uri.split('/').next().unwrap_or_default()
    }
}
