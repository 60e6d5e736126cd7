//! `ecr-sync import`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};

use super::screen::Screen;
use crate::api::v1alpha1::{
    AdoptionPolicy, EcrRepositorySyncSpec, Encryption, EncryptionType, ImageTagMutability, Policy,
};
use crate::causes::with_causes;
use crate::ecr::policy::Kind;
use crate::ecr::{self, CREATED_TAG, Mutability, OWNER_TAG, Registry, Repository};
use crate::inventory::{self, Entry, Manifest, Place};
use crate::meter::Silent;
use crate::registry::{Transport, TransportOptions};
use crate::wildcard;

/// Repositories that are read at the same time: three calls each, and ECR's quotas allow some tens
/// a second.
const AT_ONCE: usize = 8;

/// Prints the repositories that are in ECR as EcrRepositorySync manifests
///
/// With their settings, policies and resource tags, so that applying the manifests changes nothing
/// but the owner tag. Where their images come from is not known to ECR: add `image` and `chart` by
/// hand.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Only repositories with such a name, for example `team/*`; may be given several times
    #[arg(long, value_name = "GLOB")]
    selector: Vec<String>,

    /// Namespace of the resources
    ///
    /// Default: none, which is that of whoever applies them.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,

    #[command(flatten)]
    aws: super::Aws,
}

const AFTER_HELP: &str = "\
Examples:
  ecr-sync import > manifests.yaml
  ecr-sync import --region eu-west-1 --selector 'team/*' > team.yaml
  ecr-sync sync --dry-run --exit-code team.yaml   # 0: they describe what is there";

pub(super) async fn run(arguments: Arguments, screen: &Screen) -> ExitCode {
    let Arguments { selector, namespace, aws } = arguments;
    let transport = match Transport::new(&TransportOptions::default()) {
        Ok(transport) => transport,
        Err(error) => return super::fail(&with_causes(&error)),
    };
    let aws = match aws.options() {
        Ok(aws) => aws,
        Err(error) => return super::fail(&error),
    };
    let session = ecr::Session::load(aws, transport, Arc::new(Silent), None).await;
    match read(&session, &selector).await {
        Ok(entries) if entries.is_empty() => {
            super::fail(&"no repository of the registry has such a name")
        }
        Ok(entries) => {
            let manifests = inventory::manifests(&entries, namespace.as_deref());
            screen.out(&manifests.iter().map(Manifest::yaml).collect::<String>());
            ExitCode::SUCCESS
        }
        Err(error) => super::fail_with(super::FAILED, &with_causes(&error)),
    }
}

async fn read(session: &ecr::Session, selector: &[String]) -> Result<Vec<Entry>, ecr::Error> {
    let registry = session.registry(&ecr::Location::default(), &ecr::Identity::default()).await?;
    let mut repositories = registry.repositories().await?;
    repositories.retain(|r| {
        selector.is_empty() || selector.iter().any(|glob| wildcard::matches(glob, &r.name))
    });
    repositories.sort_by(|a, b| a.name.cmp(&b.name));
    stream::iter(repositories)
        .map(|repository| {
            let registry = registry.clone();
            async move { entry(&registry, repository).await }
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

async fn entry(registry: &Registry, repository: Repository) -> Result<Entry, ecr::Error> {
    let name = &repository.name;
    let (lifecycle, permission, mut resource_tags) = tokio::try_join!(
        registry.policy(Kind::Lifecycle, name),
        registry.policy(Kind::Permission, name),
        registry.resource_tags(&repository)
    )?;
    let mut notes = Vec::new();
    if let Some(owner) = resource_tags.remove(OWNER_TAG) {
        notes.push(format!("an operator keeps it already, for {owner}"));
    }
    resource_tags.remove(CREATED_TAG);
    let mut policy = |what: &str, text: Option<String>| -> Option<Policy> {
        let text = text?;
        let read = serde_json::from_str(&text).ok();
        if read.is_none() {
            notes.push(format!("its {what} is no JSON object, and left out"));
        }
        read
    };
    let (lifecycle_policy, permission_policy) =
        (policy("lifecycle policy", lifecycle), policy("permission policy", permission));
    let (image_tag_mutability, image_tag_mutability_exclusion_filters) =
        match &repository.mutability {
            Mutability::Mutable => (ImageTagMutability::Mutable, Vec::new()),
            Mutability::Immutable => (ImageTagMutability::Immutable, Vec::new()),
            Mutability::MutableExcept(filters) => {
                (ImageTagMutability::MutableWithExclusion, filters.clone())
            }
            Mutability::ImmutableExcept(filters) => {
                (ImageTagMutability::ImmutableWithExclusion, filters.clone())
            }
        };
    let types = [EncryptionType::Aes256, EncryptionType::Kms, EncryptionType::KmsDsse];
    let type_ = types.into_iter().find(|type_| type_.as_str() == repository.encryption.kind);
    let encryption =
        type_.map(|type_| Encryption { type_, kms_key: repository.encryption.key.clone() });
    let spec = EcrRepositorySyncSpec {
        lifecycle_policy,
        permission_policy,
        resource_tags: (!resource_tags.is_empty()).then_some(resource_tags),
        image_tag_mutability: Some(image_tag_mutability),
        image_tag_mutability_exclusion_filters,
        scan_on_push: Some(repository.scan_on_push),
        encryption,
        adoption_policy: AdoptionPolicy::IfUnowned,
        ..EcrRepositorySyncSpec::default()
    };
    let place = Place { file: PathBuf::from(&repository.arn), line: 0, column: 0 };
    Ok(Entry { name: repository.name, spec, place, notes })
}
