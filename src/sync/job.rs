//! The input of a pass: the spec, the claimant, and the access to the sources.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::artifact::{ArtifactKind, Derived, DesiredArtifact};
use super::earlier::Earlier;
use super::ownership::Claimant;
use super::progress::Progress;
use crate::ecr;
use crate::failure::Failure;
use crate::registry::{self, Credential, Reference, Tag, TransportOptions};
use crate::spec::Spec;

/// One repository to sync.
#[derive(Clone, Debug)]
pub struct Job {
    /// The repository, its settings and its sources.
    pub spec: Spec,
    /// The resource or run that claims the repository.
    pub claimant: Claimant,
    /// The identity for ECR.
    pub identity: Result<ecr::Identity, Failure>,
    /// Access to the sources.
    pub access: Accesses,
    /// The mirror of the image, if it has one.
    pub mirrored: Option<Mirrored>,
    /// The source that gave the chart last time, as the report named it. It is tried first.
    pub chart_source: Option<String>,
    /// Manifests that earlier passes built from chart archives.
    pub derived: BTreeMap<Tag, Derived>,
    /// Results of earlier passes.
    pub earlier: Earlier,
    /// Counts every step and byte.
    pub progress: Progress,
}

impl Job {
    /// Returns the access to the source that an artifact is read from.
    pub(super) fn access_of(&self, artifact: &DesiredArtifact) -> &Result<Access, Failure> {
        match (artifact.kind, &self.mirrored) {
            (ArtifactKind::Chart, _) => &self.access.chart,
            (ArtifactKind::Image, Some(mirrored)) if artifact.is_mirrored() => &mirrored.access,
            (ArtifactKind::Image, _) => &self.access.image,
        }
    }
}

/// Whether a pass writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Carries the plan out.
    Apply,
    /// Stops after the plan.
    DryRun,
}

/// Access to the sources. If one cannot be reached, the rest of the pass is still done.
#[derive(Clone, Debug)]
pub struct Accesses {
    /// Access to the image's source.
    pub image: Result<Access, Failure>,
    /// Access to the chart's source.
    pub chart: Result<Access, Failure>,
}

/// Access to a source.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The login, and the connection that carries it.
    pub way: Way,
    /// Hosts to which the index of a chart repository may point; `None` allows all.
    pub hosts: Option<Arc<registry::AllowedHosts>>,
}

impl Access {
    /// Access without a login, over a connection without settings of its own.
    #[must_use]
    pub fn anonymous(insecure: bool) -> Self {
        let connection = Connection { insecure, options: TransportOptions::default() };
        Self { way: Way::Resource { login: Credential::Anonymous, connection }, hosts: None }
    }

    /// The login for a source in ECR, if an AWS identity reads it.
    #[must_use]
    pub fn ecr(&self) -> Option<&EcrLogin> {
        match &self.way {
            Way::Ecr(login) => Some(login),
            Way::Operator { .. } | Way::Mirror { .. } | Way::Resource { .. } => None,
        }
    }
}

/// A login with the connection of its owner.
///
/// # Guarantees
/// A login of the operator cannot be combined with a connection of a resource: only
/// [`Way::Resource`] has one. A proxy or a certificate authority that a tenant chose never sees the
/// operator's logins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// An AWS identity reads a source in ECR, over the operator's connection, with TLS.
    Ecr(EcrLogin),
    /// A login of the operator for a source that the resource names, over the operator's
    /// connection. The source may have only the addresses that resources may name.
    Operator {
        /// The login of `--registry-config`, or of the command line's user.
        login: Credential,
        /// Whether the connection is plain HTTP, which only the command line's user may choose.
        insecure: bool,
    },
    /// A mirror, which the operator named, over the operator's connection, at any address.
    Mirror {
        /// The login of the mirror table, or of `--registry-config`, or none.
        login: Credential,
        /// Whether the mirror table chose plain HTTP.
        insecure: bool,
    },
    /// The login that the resource names, or none, over the resource's connection.
    Resource {
        /// The login of `secretRef`.
        login: Credential,
        /// The connection that the resource describes.
        connection: Connection,
    },
}

impl Default for Way {
    fn default() -> Self {
        Self::Resource { login: Credential::Anonymous, connection: Connection::default() }
    }
}

/// The connection that a resource describes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Connection {
    /// Whether it is plain HTTP, without TLS.
    pub insecure: bool,
    /// Certificates and proxy.
    pub options: TransportOptions,
}

/// A login for a source in ECR.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EcrLogin {
    /// The registry.
    pub registry: EcrSource,
    /// The AWS identity.
    pub identity: ecr::Identity,
}

/// An ECR registry as a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EcrSource {
    /// The registry of an account.
    Private(ecr::Location),
    /// public.ecr.aws, which can also be read without a login.
    Public,
}

impl EcrSource {
    /// Returns the private ECR registry of a reference, and `None` for other sources.
    #[must_use]
    pub fn private(reference: &registry::Reference) -> Option<Self> {
        let ecr::Host { account, region } = ecr::Host::parse(&reference.host)?;
        Some(Self::Private(ecr::Location { account: Some(account), region: Some(region) }))
    }

    /// Returns ECR's public registry if the reference is in it, and `None` for other sources.
    #[must_use]
    pub fn public(reference: &registry::Reference) -> Option<Self> {
        ecr::is_public(&reference.host).then_some(Self::Public)
    }
}

/// The mirror of an image.
#[derive(Clone, Debug)]
pub struct Mirrored {
    /// The image in the mirror.
    pub reference: Reference,
    /// Access to the mirror.
    pub access: Result<Access, Failure>,
    /// Whether the original registry is read if the mirror fails.
    pub fallback: bool,
}
