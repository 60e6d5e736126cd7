//! What one pass is given: the repository to sync, on whose behalf, and how its sources are reached.

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
    /// On whose behalf.
    pub claimant: Claimant,
    /// Under which identity ECR is used.
    pub identity: Result<ecr::Identity, Failure>,
    /// How to reach the sources.
    pub access: Accesses,
    /// Where the image is read from instead, if it has a mirror.
    pub mirrored: Option<Mirrored>,
    /// Where the chart was read from last time, as the report named it: tried first.
    pub chart_source: Option<String>,
    /// What earlier passes made of chart archives.
    pub derived: BTreeMap<Tag, Derived>,
    /// What earlier passes left behind.
    pub earlier: Earlier,
    /// Told of every step and byte.
    pub progress: Progress,
}

impl Job {
    /// How the place is reached that an artifact is read from.
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

/// How to reach the sources, or why one cannot be reached: then the rest is still done.
#[derive(Clone, Debug)]
pub struct Accesses {
    /// The image's.
    pub image: Result<Access, Failure>,
    /// The chart's.
    pub chart: Result<Access, Failure>,
}

/// How to reach a source.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The login.
    pub credential: Credential,
    /// The ECR registry that it is, and who reads it; then `credential` is not used.
    pub ecr: Option<EcrLogin>,
    /// Certificates and proxy.
    pub transport: TransportOptions,
    /// Hosts that the index of a chart repository may point to; all where it is not said.
    pub hosts: Option<Arc<registry::AllowedHosts>>,
}

/// Who reads an ECR registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EcrLogin {
    /// Which one.
    pub registry: EcrSource,
    /// Under which identity.
    pub identity: ecr::Identity,
}

/// An ECR registry that is read from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EcrSource {
    /// One of an account.
    Private(ecr::Location),
    /// public.ecr.aws, which can be read without a login too.
    Public,
}

impl EcrLogin {
    /// For a source that is a private ECR registry.
    #[must_use]
    pub fn of(reference: &registry::Reference, identity: ecr::Identity) -> Option<Self> {
        let ecr::Host { account, region } = ecr::Host::parse(&reference.host)?;
        let location = ecr::Location { account: Some(account), region: Some(region) };
        Some(Self { registry: EcrSource::Private(location), identity })
    }

    /// For a source that is ECR's public registry.
    #[must_use]
    pub fn public(reference: &registry::Reference, identity: ecr::Identity) -> Option<Self> {
        ecr::is_public(&reference.host).then_some(Self { registry: EcrSource::Public, identity })
    }
}

/// A place that an image is read from instead of its own.
#[derive(Clone, Debug)]
pub struct Mirrored {
    /// The image there.
    pub reference: Reference,
    /// Whether it is reached by plain HTTP.
    pub insecure: bool,
    /// How to reach it, or why it cannot be reached.
    pub access: Result<Access, Failure>,
    /// Whether the image's own place is read where this one fails.
    pub fallback: bool,
}
