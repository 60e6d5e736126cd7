//! `ecr-sync iam-policy`: the IAM policy for the repositories of files.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::flags;
use super::screen::Screen;
use crate::api::v1alpha1::TagStrategy;
use crate::ecr::{RoleArn, partition};
use crate::iam::{Circumstances, Grants, Spot, actions, all_actions};
use crate::inventory::{self, Entry};
use crate::spec::{Registry, Spec};
use crate::sync::DefaultFiles;

/// Longest managed policy that IAM accepts, in characters without white space.
const MAX_LENGTH: usize = 6144;

/// Prints the minimal IAM policy that these repositories need
///
/// The policy is for the operator's own identity; with --role, it is for a role that resources name
/// (registry.roleArn); with --service-account, for the role of a ServiceAccount that resources name
/// (registry.serviceAccountName). An account or region that is not known is written as *.
///
///   ecr-sync iam-policy --account-id 123456789012 --region eu-west-1 repositories/
///   ecr-sync iam-policy --all-features --repositories 'platform/*'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Arguments {
    /// Files, or folders to read recursively (*.yml, *.yaml, *.json)
    #[arg(required_unless_present = "all_features", value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Grant everything that the operator can do, for any resources
    #[arg(long, conflicts_with_all = ["paths", "role", "service_account"])]
    all_features: bool,

    /// With --all-features: names of the repositories; * matches any number of characters
    #[arg(long, value_name = "PATTERN", default_value = "*", requires = "all_features")]
    repositories: String,

    /// Print the permissions of `ecr-sync sync`, which writes no owner tag
    #[arg(long)]
    one_shot: bool,

    /// Print the policy of this role, for the resources with this registry.roleArn
    #[arg(long, value_name = "ARN", conflicts_with = "service_account")]
    role: Option<String>,

    /// Print the policy of this ServiceAccount's role, for the resources with this
    /// registry.serviceAccountName
    #[arg(long, value_name = "NAME")]
    service_account: Option<String>,

    /// Account of repositories that do not name one
    ///
    /// Default: *.
    #[arg(long, env = "ECR_ACCOUNT_ID", value_name = "ID", value_parser = flags::account_id)]
    account_id: Option<String>,

    /// Region of repositories that do not name one
    ///
    /// Default: *.
    #[arg(long, env = "ECR_REGION", value_name = "REGION", value_parser = flags::region)]
    region: Option<String>,

    #[command(flatten)]
    public_ecr: flags::PublicEcr,

    #[command(flatten)]
    defaults: flags::Defaults,
}

pub(super) fn run(arguments: Arguments, screen: &Screen) -> ExitCode {
    let DefaultFiles { lifecycle_policy, permission_policy, resource_tags } =
        arguments.defaults.files();
    let scope = Scope {
        account: arguments.account_id.unwrap_or_else(|| "*".to_owned()),
        region: arguments.region.unwrap_or_else(|| "*".to_owned()),
        circumstances: Circumstances {
            marks: !arguments.one_shot,
            default_lifecycle: lifecycle_policy.is_some(),
            default_permission: permission_policy.is_some(),
            default_tags: resource_tags.is_some(),
        },
        public_ecr_login: arguments.public_ecr.login,
        principal: match (arguments.role, arguments.service_account) {
            (Some(role), _) => Principal::Role(role),
            (None, Some(name)) => Principal::ServiceAccount(name),
            (None, None) => Principal::Operator,
        },
    };

    let grants = if arguments.all_features {
        scope.all_features(&arguments.repositories)
    } else {
        match inventory::read(&arguments.paths, TagStrategy::default()) {
            Ok(entries) => scope.entries(&entries),
            Err(problems) => {
                for problem in &problems {
                    screen.err(&format!("error: {problem}\n"));
                }
                return ExitCode::from(super::WRONG_INPUT);
            }
        }
    };

    let document = grants.document();
    let length = document.to_string().len();
    if length > MAX_LENGTH {
        screen.err(&format!(
            "warning: the policy has {length} characters, but a managed policy in IAM may have at \
             most {MAX_LENGTH}: use --all-features with --repositories 'PREFIX/*', or split it\n"
        ));
    }
    screen.out(&format!("{document:#}\n"));
    ExitCode::SUCCESS
}

/// The identity that the policy is attached to.
#[derive(Debug, PartialEq, Eq)]
enum Principal {
    Operator,
    Role(String),
    ServiceAccount(String),
}

/// The identity, and the account and region for repositories that do not name one.
struct Scope {
    account: String,
    region: String,
    circumstances: Circumstances,
    public_ecr_login: bool,
    principal: Principal,
}

impl Scope {
    fn all_features(&self, repositories: &str) -> Grants {
        let spot = Spot { account: &self.account, region: &self.region };
        let mut grants = Grants::default();
        grants.repository(spot, repositories, all_actions());
        grants.key_named(spot, "*");
        grants.any_source(&self.region);
        if partition(&self.region) == "aws" {
            grants.public_login();
        }
        grants
    }

    fn entries(&self, entries: &[Entry]) -> Grants {
        let mut grants = Grants::default();
        for entry in entries {
            let Entry { spec, .. } = entry;
            let role = spec.registry.role.as_ref().map(ToString::to_string);
            // The first identity in the chain reads the sources; the last one manages the
            // repository.
            let service_account = spec.registry.service_account.clone();
            let first = service_account.map_or(Principal::Operator, Principal::ServiceAccount);

            if first == self.principal {
                grants.sources(spec);
                if self.public_ecr_login {
                    grants.public_source(spec);
                }
                if let Some(role) = &role {
                    grants.role(role);
                }
            }
            if role.map_or(first, Principal::Role) == self.principal {
                self.repository(spec, &mut grants);
            }
        }
        grants
    }

    fn repository(&self, spec: &Spec, grants: &mut Grants) {
        let Registry { location, role, service_account } = &spec.registry;
        // Only the cluster knows the role of a ServiceAccount, and so its account.
        let own = if service_account.is_some() { "*" } else { &self.account };
        let account = location.account.as_deref().or(role.as_ref().map(RoleArn::account));
        let region = location.region.as_deref().unwrap_or(&self.region);

        let spot = Spot { account: account.unwrap_or(own), region };
        grants.repository(spot, &spec.repository, actions(spec, self.circumstances));
        grants.key(spot, spec);
    }
}
