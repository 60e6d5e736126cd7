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
    /// The login.
    pub credential: Credential,
    /// The login for a source in ECR. If there is one, `credential` is not used.
    pub ecr: Option<EcrLogin>,
    /// Certificates and proxy.
    pub transport: TransportOptions,
    /// Hosts to which the index of a chart repository may point; `None` allows all.
    pub hosts: Option<Arc<registry::AllowedHosts>>,
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

impl EcrLogin {
    /// Returns a login for a source in a private ECR registry, and `None` for other sources.
    #[must_use]
    pub fn of(reference: &registry::Reference, identity: ecr::Identity) -> Option<Self> {
        let ecr::Host { account, region } = ecr::Host::parse(&reference.host)?;
        let location = ecr::Location { account: Some(account), region: Some(region) };
        Some(Self { registry: EcrSource::Private(location), identity })
    }

    /// Returns a login for a source in ECR's public registry, and `None` for other sources.
    #[must_use]
    pub fn public(reference: &registry::Reference, identity: ecr::Identity) -> Option<Self> {
        ecr::is_public(&reference.host).then_some(Self { registry: EcrSource::Public, identity })
    }
}

/// The mirror of an image.
#[derive(Clone, Debug)]
pub struct Mirrored {
    /// The image in the mirror.
    pub reference: Reference,
    /// Whether the mirror uses plain HTTP.
    pub insecure: bool,
    /// Access to the mirror.
    pub access: Result<Access, Failure>,
    /// Whether the original registry is read if the mirror fails.
    pub fallback: bool,
}
