//! `ecr-sync import`: repositories in ECR -> manifests.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};

use super::flags;
use super::screen::Screen;
use crate::api::v1alpha1::{AdoptionPolicy, EcrRepositorySyncSpec, Policy};
use crate::causes::with_causes;
use crate::ecr::policy::Kind;
use crate::ecr::{self, CREATED_TAG, OWNER_TAG, Registry, Repository};
use crate::inventory::{self, Position, Written};
use crate::meter::Silent;
use crate::registry::{Egress, Transport, TransportOptions};
use crate::{spec, wildcard};

/// Repositories to read at the same time: three calls each, and ECR's quotas allow some tens of
/// calls per second.
const CONCURRENCY: usize = 8;

/// Prints the repositories in ECR as EcrRepositorySync manifests
///
/// The manifests have the settings, policies and resource tags of the repositories, so that
/// applying them changes only the owner tag. ECR does not know the source of its images: add
/// `image` and `chart` by hand.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Import only repositories whose name matches, for example `team/*`; may be repeated
    #[arg(long, value_name = "GLOB")]
    selector: Vec<String>,

    /// Namespace of the resources
    ///
    /// Default: none; kubectl's current namespace applies.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,

    #[command(flatten)]
    aws: flags::Aws,
}

const AFTER_HELP: &str = "\
Examples:
  ecr-sync import > manifests.yaml
  ecr-sync import --region eu-west-1 --selector 'team/*' > team.yaml
  ecr-sync sync --dry-run --exit-code team.yaml   # exit code 0: ECR matches them";

pub(super) async fn run(arguments: Arguments, screen: &Screen) -> ExitCode {
    let Arguments { selector, namespace, aws } = arguments;
    let transport =
        match Transport::new(&TransportOptions::default(), &Arc::new(Egress::trusting())) {
            Ok(transport) => transport,
            Err(error) => return super::fail(&with_causes(&error)),
        };
    let aws = match aws.options() {
        Ok(aws) => aws,
        Err(error) => return super::fail(&error),
    };

    let session = ecr::Session::load(aws, transport, Arc::new(Silent), None).await;
    match read(&session, &selector).await {
        Ok(entries) if entries.is_empty() => super::fail(&"no repository in the registry matches"),
        Ok(entries) => {
            screen.out(&inventory::manifests(&entries, namespace.as_deref()));
            ExitCode::SUCCESS
        }
        Err(error @ (ecr::Error::NoIdentity(_) | ecr::Error::Unconfigured(_))) => {
            super::fail(&error)
        }
        Err(error) => super::fail_with(super::FAILED, &with_causes(&error)),
    }
}

async fn read(session: &ecr::Session, selector: &[String]) -> Result<Vec<Written>, ecr::Error> {
    let registry = session.registry(&ecr::Location::default(), &ecr::Identity::default()).await?;
    let mut repositories = registry.repositories().await?;
    if !selector.is_empty() {
        repositories.retain(|repository| wildcard::matches_any(selector, &repository.name));
    }
    repositories.sort_by(|a, b| a.name.cmp(&b.name));

    stream::iter(repositories)
        .map(|repository| {
            let registry = registry.clone();
            async move { entry(&registry, repository).await }
        })
        .buffered(CONCURRENCY)
        .try_collect()
        .await
}

async fn entry(registry: &Registry, repository: Repository) -> Result<Written, ecr::Error> {
    let name = &repository.name;
    let (lifecycle, permission, mut resource_tags) = tokio::try_join!(
        registry.policy(Kind::Lifecycle, name),
        registry.policy(Kind::Permission, name),
        registry.resource_tags(&repository)
    )?;

    let mut notes = Vec::new();
    if let Some(owner) = resource_tags.remove(OWNER_TAG) {
        notes.push(format!("already managed by an operator, for {owner}"));
    }
    resource_tags.remove(CREATED_TAG);
    let mut policy = |noun: &str, text: Option<String>| -> Option<Policy> {
        let policy = serde_json::from_str(&text?).ok();
        if policy.is_none() {
            notes.push(format!("the {noun} is left out: it is not a JSON object"));
        }
        policy
    };
    let lifecycle_policy = policy("lifecycle policy", lifecycle);
    let permission_policy = policy("permission policy", permission);

    let mut spec = EcrRepositorySyncSpec {
        lifecycle_policy,
        permission_policy,
        resource_tags: (!resource_tags.is_empty()).then_some(resource_tags),
        adoption_policy: AdoptionPolicy::IfUnowned,
        ..EcrRepositorySyncSpec::default()
    };
    let settings = ecr::Settings {
        mutability: Some(repository.mutability),
        scan_on_push: Some(repository.scan_on_push),
        encryption: Some(repository.encryption),
    };
    spec::write_settings(settings, &mut spec);

    let position = Position { file: PathBuf::from(&repository.arn), line: 0, column: 0 };
    Ok(Written { name: repository.name, spec, position, notes })
}
